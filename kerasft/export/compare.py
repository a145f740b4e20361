"""What an exported model answers, compared with the pipeline, which is the reference."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerasft._core.errors import KerasftError
from kerasft.data import input_specs, kinds_of, tensors_of
from kerasft.data.encoded import mask_of
from kerasft.export.examples import asked_by_example
from kerasft.export.signatures import tokenized
from kerasft.export.writing import NAME as WRITES
from kerasft.export.writing import written

TOLERANCE = 1e-5
# Strings that have broken tokenizers: none, blank, accents, Chinese, emoji, control and long text.
PROBES = (
    "free prize!!! click here",
    "Meeting moved to 3 pm, see you there.",
    "",
    "   ",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m",
    "\u8fd9\u4e2a\u4ea7\u54c1\u5f88\u597d\uff0c\u63a8\u8350\u8d2d\u4e70\u3002",
    "\U0001f600 emoji \u200d and \u0000 control",
    "word " * 400,
)


def as_given(values: list, dtype: Any) -> Any:
    """A field's values as the signature takes them."""
    import tensorflow as tf

    if values and isinstance(values[0], tuple):
        return tf.ragged.constant([list(row) for row in values], dtype=dtype).to_tensor("")
    return tf.constant(values, dtype)


def compare(pipe: Any, signatures: Any) -> float:
    """Compare a loaded SavedModel with the pipeline on odd strings, alone and in a batch.

    Numbers are compared with the pipeline's; labels with those that follow from the served
    logits, because two numbers may be so near to each other that the last bit decides.

    Returns:
        The largest difference of a number.

    Raises:
        KerasftError: if a number differs by more than 1e-5 of the largest, or a string differs.
    """
    task = pipe.task
    specs, fields, worst = input_specs(task), probes(task), [0.0]
    whole = hasattr(task, "answer")
    alone = range(1 if whole else len(PROBES))  # one text that is generated says enough
    with whole_floats():
        features = pipe.encode(fields)
        together = pipe.outputs(features)
        owner = np.arange(len(together)) if pipe.windowed else _owners(features)
        for rows in (range(len(PROBES)), *([i] for i in alone)):
            part = {name: [values[i] for i in rows] for name, values in fields.items()}
            features = pipe.encode(part)
            served = signatures["token_ids"](**as_token_ids(pipe, features))["logits"]
            outputs = _real(together[np.isin(owner, rows)], features)
            worst.append(distance(_real(np.asarray(served), features), None, outputs))
            texts = {n: as_given(part[n], spec.dtype) for n, spec in specs.items()}
            got = signatures["serving_default"](**texts)
            if whole:
                said = meant = pipe.asked(tensors_of(part, specs))
            else:
                said = task.decode(got.get("logits", served), features)
                meant = task.decode(outputs, features)
            worst += [distance(got[n], said[n], meant[n]) for n in meant]
            by_example = asked_by_example(task, signatures, part)
            worst += [distance(by_example[n], said[n], meant[n]) for n in by_example if n in meant]
        worst.append(texts_off(pipe, signatures))
    if "tokenize" in signatures:
        worst.append(_tokens_off(pipe.tokenizer, signatures["tokenize"]))
    most = float(np.max(worst))  # NaN if one is NaN
    if not most <= tolerance(pipe):
        raise KerasftError(
            "The exported model does not answer as the trained one: it differs by "
            f"{most:.2g}, more than {tolerance(pipe):.0e}. Nothing was left behind."
        )
    return most


def compare_each(adapters: Any, signatures: Any) -> float:
    """Compare each adapter's rows of a mixed batch in a loaded SavedModel with that model alone.

    Returns:
        The largest difference of a number.

    Raises:
        KerasftError: as `compare`.
    """
    import tensorflow as tf

    task, worst = adapters.task, [0.0]
    specs, fields = input_specs(task), probes(task)
    asked, meant = [], []
    with whole_floats():
        for number, (name, answer) in enumerate(adapters.each()):
            for row in (number % len(PROBES), (number + 3) % len(PROBES)):
                part = {n: values[row : row + 1] for n, values in fields.items()}
                asked.append((name, part))
                meant.append(answer(part))
        unknown = "\0".join(name for name, _ in asked)  # no name that there is
        asked.append((unknown, asked[0][1]))
        texts = {n: as_given([p[n][0] for _, p in asked], s.dtype) for n, s in specs.items()}
        names = [name for name, _ in asked]
        got = signatures["serving_default"](adapter=tf.constant(names), **texts)
        rows = {n: [p[n][0] for _, p in asked] for n in specs}
        by_example = asked_by_example(task, signatures, rows, names)
        worst.append(texts_off(adapters.pipe, signatures, adapters))
    worst += [distance(v, None, got[n]) for n, v in by_example.items() if n in got]
    for row, want in enumerate(meant):
        for name, value in want.items():
            worst.append(distance(*_cropped(got[name][row], value[0])))
    worst += [0.0 if np.all(_filler(np.asarray(value[-1]))) else np.inf for value in got.values()]
    most = float(np.max(worst))
    if not most <= tolerance(adapters.pipe):
        raise KerasftError(
            "The exported model does not answer as its adapters do alone: it differs by "
            f"{most:.2g}, more than {tolerance(adapters.pipe):.0e}. Nothing was left behind."
        )
    return most


def outputs_apart(pipe: Any, other: Any) -> float:
    """How far the outputs of two pipelines of one kind are from each other on odd strings, as a
    share of the largest."""
    with whole_floats():
        features = pipe.encode(probes(pipe.task))
        return distance(other.outputs(features), None, pipe.outputs(features))


def _cropped(got: Any, want: Any) -> tuple[np.ndarray, Any, Any]:
    """An answer without what fills it up to the longest of its batch, and twice what it should be;
    what fills it has to be nothing."""
    have, want = np.asarray(got), np.asarray(want)
    inner = tuple(slice(size) for size in want.shape)
    rest = _filler(have)
    rest[inner] = True
    return (have[inner] if rest.all() else have), want, want


def _filler(values: np.ndarray) -> np.ndarray:
    """Where nothing is said: "", 0 or -1."""
    return np.asarray(values == b"" if values.dtype.kind in "OS" else np.isin(values, [0, -1]))


def _tokens_off(tokenizer: Any, tokenize: Any) -> float:
    """0, or infinity where the served pieces are not the tokenizer's."""
    import tensorflow as tf

    texts = tf.constant(PROBES)
    got, meant = tokenize(text=texts), tokenized(tokenizer, texts)
    same = all(np.array_equal(got[name], value) for name, value in meant.items())
    return 0.0 if same else np.inf


def texts_off(pipe: Any, signatures: Any, adapters: Any = None) -> float:
    """0, or infinity where `generate` writes another text than Python, greedily or by a seed.

    In 16 bits two tokens are often equally likely, and the order of a sum decides.
    """
    import tensorflow as tf

    if tolerance(pipe) > TOLERANCE:
        return 0.0
    for inputs, meant in written(pipe, adapters):
        got = signatures[WRITES](**{n: tf.constant(v) for n, v in inputs.items()})
        if not all(np.array_equal(got[name], value) for name, value in meant.items()):
            return np.inf
    return 0.0


def probes(task: Any) -> dict[str, list]:
    """Odd values for every input of a task, another one from input to input."""
    made = {
        "text": list(PROBES),
        "whole": list(range(len(PROBES))),
        # An empty text at the end of a list is its padding.
        "texts": [(*PROBES[: i % 3], probe or "free") for i, probe in enumerate(PROBES)],
    }
    kinds = kinds_of(task)
    found = {name: made[kinds[name]] for name in task.inputs}
    return {name: values[i:] + values[:i] for i, (name, values) in enumerate(found.items())}


def _owners(features: dict[str, np.ndarray]) -> np.ndarray:
    """The row that each sequence comes from."""
    return features.get("row", np.arange(len(features["token_ids"])))


def _real(outputs: np.ndarray, features: dict[str, np.ndarray]) -> np.ndarray:
    """Outputs of a token each at the width of the features and 0 on padding; others as they are."""
    if outputs.ndim < 3:
        return outputs
    mask = features[mask_of("targets", features)].astype(outputs.dtype)
    return outputs[:, : mask.shape[1]] * mask[:, :, None]


def as_token_ids(pipe: Any, features: dict[str, np.ndarray]) -> dict[str, Any]:
    """Encoded sequences as `token_ids` takes them."""
    import tensorflow as tf

    given = pipe.model_inputs(features)
    return {
        name: tf.cast(values, tf.bool if name.endswith("padding_mask") else tf.int32)
        for name, values in given.items()
    }


def distance(got: Any, said: Any, meant: Any) -> float:
    """How far an output is off, as a share of the largest; infinity for a wrong string or NaN."""
    have = np.asarray(got)
    if have.dtype.kind in "OSU":
        want = np.asarray(said)
        same = want.shape == have.shape and bool((want == have).all())
        return 0.0 if same else np.inf
    want = np.asarray(meant)
    if want.shape != have.shape or not np.isfinite(have).all():
        return np.inf
    return float(np.abs(want - have).max(initial=0.0) / np.abs(want).max(initial=1.0))


@contextlib.contextmanager
def whole_floats() -> Iterator[None]:
    """Matrix products in full float32: a GPU's TensorFloat-32 differs from shape to shape."""
    from tensorflow.config import experimental as settings

    before = settings.tensor_float_32_execution_enabled()
    settings.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        settings.enable_tensor_float_32_execution(before)


def tolerance(pipe: Any) -> float:
    """1e-5 in float32; in 16 bits the sums' order alone moves the last of 8 bits."""
    return TOLERANCE if pipe.adapted.description["config"]["dtype"] == "float32" else 5e-2
