"""What an export has to answer, as the pipeline in Python does: its golden records."""

from typing import Any

import numpy as np

from kerasft.data import input_specs
from kerasft.export.compare import (
    PROBES,
    as_given,
    as_token_ids,
    distance,
    probes,
    tolerance,
    whole_floats,
)
from kerasft.export.examples import SIGNATURES, examples
from kerasft.export.signatures import tokenized
from kerasft.export.writing import NAME as WRITES
from kerasft.export.writing import written

# A decoder's logits of a few tokens would be megabytes of text.
_MOST = 20_000


def golden_records(pipe: Any, signatures: Any, adapters: Any = None) -> list[dict[str, Any]]:
    """What odd texts are answered by the pipeline, through each signature that it has.

    Args:
        pipe: the pipeline.
        signatures: those of the loaded SavedModel. An answer that hangs on the last bit of a
            number, which no other runtime need share, is left out.
        adapters: several adapters on the pipeline's base (`kerasft.AdapterSet`).

    Returns:
        `{"signature", "inputs", "outputs", "tolerance"}`; arrays by name.
    """
    with whole_floats():
        found = _adapted(adapters) if adapters else _plain(pipe, signatures)
        found += [_record(WRITES, *texts) for texts in written(pipe, adapters)]
        return [
            {n: _arrays(v) if isinstance(v, dict) else v for n, v in record.items()}
            | {"tolerance": tolerance(pipe)}
            for record in found
            if _answered(record, signatures[record["signature"]], tolerance(pipe))
        ]


def _plain(pipe: Any, signatures: Any) -> list[dict[str, Any]]:
    fields, found = probes(pipe.task), []
    # A text that is generated costs more than one that is read.
    for row in range(2 if hasattr(pipe.task, "answer") else len(PROBES)):
        part = {name: values[row : row + 1] for name, values in fields.items()}
        found += _of_strings(pipe.task, part, pipe.arrays(part))
        features = {n: v[:1] for n, v in pipe.encode(part).items()}
        if row < 2 and all(np.all(v) for n, v in features.items() if n.endswith("padding_mask")):
            logits = np.asarray(pipe.outputs(features))
            if logits.size <= _MOST:
                asked = as_token_ids(pipe, features)
                found.append(_record("token_ids", asked, {"logits": logits}))
    if "tokenize" in signatures:
        texts = np.array([text.encode() for text in PROBES], object)
        found.append(_record("tokenize", {"text": texts}, tokenized(pipe.tokenizer, texts)))
    return found


def _adapted(adapters: Any) -> list[dict[str, Any]]:
    fields, found = probes(adapters.task), []
    for number, name in enumerate(adapters.names):
        row = number % len(PROBES)
        part = {n: values[row : row + 1] for n, values in fields.items()}
        answers = adapters.arrays(part, [name])
        task = adapters.tasks[name]
        found += _of_strings(task, part, answers, adapter=[name])
    return found


def _of_strings(
    task: Any, fields: dict[str, list], answers: dict[str, Any], **more: list[str]
) -> list[dict[str, Any]]:
    """Records of `serving_default`, and of `classify` or `regress` where there is one."""
    given = {n: as_given(fields[n], s.dtype) for n, s in input_specs(task).items()}
    given |= {n: np.array([v.encode() for v in values], object) for n, values in more.items()}
    found = [_record("serving_default", given, answers)]
    name = SIGNATURES.get(task.kind)
    if name is not None:
        asked = {"inputs": np.array(examples(fields | more), object)}
        if name == "regress":
            said = {"outputs": answers["score"]}
        else:
            scores = np.asarray(answers["probabilities"])
            own = fields.get("labels", [task.labels] * len(scores))
            classes = [[*row, *[""] * (scores.shape[1] - len(row))] for row in own]
            said = {"classes": np.char.encode(classes, "utf-8").astype(object), "scores": scores}
        found.append(_record(name, asked, said))
    return found


def _record(signature: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    return {"signature": signature, "inputs": inputs, "outputs": outputs}


def _arrays(values: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in values.items()}


def _answered(record: dict[str, Any], served: Any, most: float) -> bool:
    """Whether the SavedModel gives the very strings, and the numbers but for rounding."""
    import tensorflow as tf

    got = served(**{n: tf.convert_to_tensor(v) for n, v in record["inputs"].items()})
    return all(distance(got[n], v, v) <= most for n, v in record["outputs"].items())
