"""A pipeline as a SavedModel `NAME/VERSION/` with signatures on strings and on ids."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerasft._core import files, stack
from kerasft._core.checks import whole
from kerasft._core.errors import InputError, KerasftError
from kerasft.backbones import pieces, template_of
from kerasft.data import input_specs, kinds_of, tensors_of
from kerasft.data.encoded import mask_of
from kerasft.export.examples import asked_by_example, method_name, of_examples
from kerasft.export.gate import check_saved_model

TOLERANCE = 1e-5
# Strings that have broken tokenizers: none, blank, accents, Chinese, emoji, control and long text.
_PROBES = (
    "free prize!!! click here",
    "Meeting moved to 3 pm, see you there.",
    "",
    "   ",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m",
    "\u8fd9\u4e2a\u4ea7\u54c1\u5f88\u597d\uff0c\u63a8\u8350\u8d2d\u4e70\u3002",
    "\U0001f600 emoji \u200d and \u0000 control",
    "word " * 400,
)


def export_saved_model(
    pipe: Any, folder: str, version: int | None = None, adapters: Any = None
) -> str:
    """Write `folder/version/`, load it again, and compare its answers with the model's.

    The signatures: `serving_default` from strings (`text`, for pairs also `text_pair`) to the
    task's answers, `token_ids` from the model's inputs (int32, padding masks bool) to
    `logits`, `tokenize` from `text` to the pieces and their places (see `tokenized`; left out
    where the tokenizer's pieces are not made in the graph), and `classify` or `regress` from
    tf.Example (see `of_examples`). Weights are stored once. The version appears whole or not at
    all.

    Args:
        pipe: a pipeline.
        folder: `saved_models/NAME`.
        version: a whole number from 1; one more than the highest there is when None.
        adapters: several adapters on the pipeline's base (`kerasft.AdapterSet`): each signature
            then takes `adapter`, string [batch], too.

    Returns:
        The path of the version.

    Raises:
        InputError: if the version exists.
        KerasftError: if the written model does not answer as the pipeline does.
    """
    there = [int(n) for n in files.names(folder) if n.isascii() and n.isdigit()]
    version = max(there, default=0) + 1 if version is None else whole("version", version, 1)
    if version in there:
        raise InputError(
            f"{files.join(folder, str(version))} exists, and a version is never overwritten. "
            f"The next free one is {max(there) + 1}."
        )
    target = files.join(folder, str(version))
    with files.new_folder(target) as local:
        write_saved_model(pipe, str(local), adapters)
        tables = adapters.variables if adapters else []
        check_saved_model(str(local), _bytes_of([*pipe.model.variables, *tables]))
        if adapters:
            compare_each(adapters, str(local))
        else:
            compare(pipe, str(local))
        _write_extras(pipe, str(local), adapters)
    return target


def write_saved_model(pipe: Any, folder: str, adapters: Any = None) -> None:
    """Write the SavedModel itself."""
    import tensorflow as tf

    module = tf.Module()
    # The variables by themselves: tracking the Keras model too would store every weight twice.
    module.weights = [v.value for v in pipe.model.variables]
    module.tables = list(adapters.variables) if adapters else []
    module.tokenizer = pipe.tokenizer
    signatures = signatures_of(pipe, adapters)
    tf.saved_model.save(module, folder, signatures=signatures)
    # TensorFlow 2 writes `predict` for every signature.
    names = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
    for name in signatures:
        names.replace_method_name(name, method_name(name))
    names.save()


def signatures_of(pipe: Any, adapters: Any = None) -> dict[str, Any]:
    """The signatures, traced: name -> concrete function."""
    served = functions_of(pipe)
    if adapters:
        served = {name: adapters.by_adapter(*parts) for name, parts in served.items()}
    # A tokenizer whose pieces are not made in the graph has no `tokenize`.
    made = {name: _traced(*parts, name == "tokenize") for name, parts in served.items()}
    # They call what answers strings, so that its graph is there once.
    by_example = of_examples(
        pipe.task,
        made["serving_default"],
        served["serving_default"][1],
        adapters.classes if adapters else None,
    )
    made |= {name: _traced(*parts) for name, parts in by_example.items()}
    return {name: f.get_concrete_function() for name, f in made.items() if f is not None}


def _traced(function: Any, specs: list[Any], optional: bool = False) -> Any:
    """A function of the graph, traced; None where it may lack and does."""
    import tensorflow as tf

    # Without autograph, which would wrap the errors of our own code.
    made = tf.function(function, input_signature=specs, autograph=False)
    try:
        made.get_concrete_function()
    except InputError:
        if not optional:
            raise
        return None
    return made


def functions_of(pipe: Any) -> dict[str, tuple[Any, list[Any]]]:
    """The signatures of a pipeline: name -> (function of tensors, what it takes)."""
    import tensorflow as tf

    names, task = pipe.inputs, pipe.task

    def serving_default(*values):
        fields = {n: _unpadded(v) for n, v in zip(task.inputs, values, strict=True)}
        return pipe.answers(fields)

    def token_ids(*values):
        features = {n: tf.cast(v, tf.int32) for n, v in zip(names, values, strict=True)}
        return {"logits": pipe.model(features, training=False)}

    kinds = {n: tf.bool for n in names if n.endswith("padding_mask")}
    ids = [
        tf.TensorSpec([None] * len(i.shape), kinds.get(n, tf.int32), name=n)
        for n, i in zip(names, pipe.model.inputs, strict=True)
    ]
    given = [_named(spec, name) for name, spec in input_specs(task).items()]
    found = {"serving_default": (serving_default, given), "token_ids": (token_ids, ids)}
    text = tf.TensorSpec([None], tf.string, name="text")
    found["tokenize"] = (lambda text: tokenized(pipe.tokenizer, text), [text])
    further = task.signatures(pipe) if hasattr(task, "signatures") else {}
    return found | {n: (f.python_function, list(f.input_signature)) for n, f in further.items()}


def tokenized(tokenizer: Any, texts: Any) -> dict[str, Any]:
    """The pieces of texts and where their words lie, without special ids, in the graph.

    Args:
        tokenizer: a KerasHub tokenizer.
        texts: string [batch].

    Returns:
        int32 [batch, most pieces]: `token_ids`, padded with the pad id; `start` and `end`, code
        points of the text, end exclusive, padded with -1.

    Raises:
        InputError: for a tokenizer whose pieces are not made in the graph.
    """
    found = pieces(tokenizer, texts)
    fill = {"token_ids": (found.ids, template_of(tokenizer).pad)}
    fill |= {"start": (found.start, -1), "end": (found.end, -1)}
    return {name: ragged.to_tensor(pad) for name, (ragged, pad) in fill.items()}


def _named(spec: Any, name: str) -> Any:
    """The tensor of an input; lists of texts come as [batch, most], padded with ""."""
    import tensorflow as tf

    return tf.TensorSpec(spec.shape, spec.dtype, name=name)


def _unpadded(values: Any) -> Any:
    """Lists of texts of unlike length; other values as they are."""
    import tensorflow as tf

    return values if values.shape.rank == 1 else tf.RaggedTensor.from_tensor(values, padding="")


def _padded(values: list, dtype: Any) -> Any:
    """A field's values as the signature takes them."""
    import tensorflow as tf

    if values and isinstance(values[0], tuple):
        return tf.ragged.constant([list(row) for row in values], dtype=dtype).to_tensor("")
    return tf.constant(values, dtype)


def compare(pipe: Any, folder: str) -> float:
    """Load a SavedModel and compare it with the pipeline on odd strings, alone and in a batch.

    Numbers are compared with the pipeline's; labels with those that follow from the served
    logits, because two numbers may be so near to each other that the last bit decides.

    Returns:
        The largest difference of a number.

    Raises:
        KerasftError: if a number differs by more than 1e-5 of the largest, or a string differs.
    """
    import tensorflow as tf

    signatures, task = tf.saved_model.load(folder).signatures, pipe.task
    specs, fields, worst = input_specs(task), probes(task), [0.0]
    whole = hasattr(task, "answer")
    alone = range(1 if whole else len(_PROBES))  # one text that is generated says enough
    with _whole_floats():
        features = pipe.encode(fields)
        together = pipe.outputs(features)
        owner = np.arange(len(together)) if pipe.windowed else _owners(features)
        for rows in (range(len(_PROBES)), *([i] for i in alone)):
            part = {name: [values[i] for i in rows] for name, values in fields.items()}
            features = pipe.encode(part)
            served = signatures["token_ids"](**_ids(pipe, features))["logits"]
            outputs = _real(together[np.isin(owner, rows)], features)
            worst.append(_distance(_real(np.asarray(served), features), None, outputs))
            texts = {n: _padded(part[n], spec.dtype) for n, spec in specs.items()}
            got = signatures["serving_default"](**texts)
            if whole:
                said = meant = pipe.asked(tensors_of(part, specs))
            else:
                said = task.decode(got.get("logits", served), features)
                meant = task.decode(outputs, features)
            worst += [_distance(got[n], said[n], meant[n]) for n in meant]
            by_example = asked_by_example(task, signatures, part)
            worst += [_distance(by_example[n], said[n], meant[n]) for n in by_example if n in meant]
    if "tokenize" in signatures:
        worst.append(_tokens_off(pipe.tokenizer, signatures["tokenize"]))
    most = float(np.max(worst))  # NaN if one is NaN
    if not most <= _tolerance(pipe):
        raise KerasftError(
            "The exported model does not answer as the trained one: it differs by "
            f"{most:.2g}, more than {_tolerance(pipe):.0e}. Nothing was left behind."
        )
    return most


def compare_each(adapters: Any, folder: str) -> float:
    """Load a SavedModel and compare each adapter's rows of a mixed batch with that model alone.

    Returns:
        The largest difference of a number.

    Raises:
        KerasftError: as `compare`.
    """
    import tensorflow as tf

    signatures = tf.saved_model.load(folder).signatures
    task, worst = adapters.task, [0.0]
    specs, fields = input_specs(task), probes(task)
    asked, meant = [], []
    with _whole_floats():
        for number, (name, answer) in enumerate(adapters.each()):
            for row in (number % len(_PROBES), (number + 3) % len(_PROBES)):
                part = {n: values[row : row + 1] for n, values in fields.items()}
                asked.append((name, part))
                meant.append(answer(part))
        unknown = "\0".join(name for name, _ in asked)  # no name that there is
        asked.append((unknown, asked[0][1]))
        texts = {n: _padded([p[n][0] for _, p in asked], s.dtype) for n, s in specs.items()}
        names = [name for name, _ in asked]
        got = signatures["serving_default"](adapter=tf.constant(names), **texts)
        rows = {n: [p[n][0] for _, p in asked] for n in specs}
        by_example = asked_by_example(task, signatures, rows, names)
    worst += [_distance(v, None, got[n]) for n, v in by_example.items() if n in got]
    for row, want in enumerate(meant):
        for name, value in want.items():
            worst.append(_distance(*_cropped(got[name][row], value[0])))
    worst += [0.0 if np.all(_filler(np.asarray(value[-1]))) else np.inf for value in got.values()]
    most = float(np.max(worst))
    if not most <= _tolerance(adapters.pipe):
        raise KerasftError(
            "The exported model does not answer as its adapters do alone: it differs by "
            f"{most:.2g}, more than {_tolerance(adapters.pipe):.0e}. Nothing was left behind."
        )
    return most


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

    texts = tf.constant(_PROBES)
    got, meant = tokenize(text=texts), tokenized(tokenizer, texts)
    same = all(np.array_equal(got[name], value) for name, value in meant.items())
    return 0.0 if same else np.inf


def probes(task: Any) -> dict[str, list]:
    """Odd values for every input of a task, another one from input to input."""
    made = {
        "text": list(_PROBES),
        "whole": list(range(len(_PROBES))),
        # An empty text at the end of a list is its padding.
        "texts": [(*_PROBES[: i % 3], probe or "free") for i, probe in enumerate(_PROBES)],
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


def _ids(pipe: Any, features: dict[str, np.ndarray]) -> dict[str, Any]:
    """Encoded sequences as `token_ids` takes them."""
    import tensorflow as tf

    given = pipe.model_inputs(features)
    return {
        name: tf.cast(values, tf.bool if name.endswith("padding_mask") else tf.int32)
        for name, values in given.items()
    }


def _distance(got: Any, said: Any, meant: Any) -> float:
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
def _whole_floats() -> Iterator[None]:
    """Matrix products in full float32: a GPU's TensorFloat-32 differs from shape to shape."""
    from tensorflow.config import experimental as settings

    before = settings.tensor_float_32_execution_enabled()
    settings.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        settings.enable_tensor_float_32_execution(before)


def _tolerance(pipe: Any) -> float:
    """1e-5 in float32; in 16 bits the sums' order alone moves the last of 8 bits."""
    return TOLERANCE if pipe.adapted.description["config"]["dtype"] == "float32" else 5e-2


def _bytes_of(variables: list[Any]) -> int:
    return sum(int(np.prod(v.shape)) * np.dtype("float32").itemsize for v in variables)


def _write_extras(pipe: Any, folder: str, adapters: Any) -> None:
    extra = os.path.join(folder, "assets.extra")
    if adapters:
        found = {n: list(getattr(t, "labels", ())) for n, t in adapters.tasks.items()}
        files.write_json(os.path.join(extra, "adapters.json"), found)
    files.write_json(os.path.join(extra, "labels.json"), list(getattr(pipe.task, "labels", ())))
    files.write_json(os.path.join(extra, "versions.json"), stack.versions())
