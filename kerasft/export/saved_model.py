"""A pipeline as a SavedModel `NAME/VERSION/` with signatures on strings and on ids."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft._core import files, stack
from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.export.compare import compare, compare_each, outputs_apart
from kerasft.export.deploy.config import name_of_model
from kerasft.export.deploy.write import write_deployment, write_extras
from kerasft.export.describe import describe
from kerasft.export.examples import method_name
from kerasft.export.gate import check_saved_model
from kerasft.export.golden import write_golden
from kerasft.export.in_c_runtime import check_in_c_runtime
from kerasft.export.int8 import Rounded, round_weights, tracked
from kerasft.export.reference import golden_records
from kerasft.export.signatures import signatures_of


def export_saved_model(
    pipe: Any,
    folder: str | os.PathLike,
    version: int | None = None,
    adapters: Any = None,
    run: str | os.PathLike | None = None,
    int8: bool = False,
) -> str:
    """Write `folder/version/`, and compare its answers with the model's: here, and in TensorFlow's
    C runtime, in a process without Keras, as TF Serving runs it.

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
        run: the run folder that the pipeline comes from, for the model card.
        int8: store large matrices in 8 bits (see `round_weights`). A server makes floats of them
            once, when it loads them. What has to be answered is then what the pipeline answers
            with its weights so rounded, and the model card tells how far that is from its own.

    Returns:
        The path of the version. What a server, a client and a reader need lies in `folder/deploy`
        and in the version's `assets.extra`.

    Raises:
        InputError: if the version exists, NAME cannot stand in the path of a request, or the model
            cannot be stored in 8 bits.
        KerasftError: if the written model does not answer as the pipeline does.
    """
    folder = os.fspath(folder)
    name = name_of_model(os.path.basename(os.path.abspath(folder)))
    there = [int(n) for n in files.names(folder) if n.isascii() and n.isdigit()]
    version = max(there, default=0) + 1 if version is None else whole("version", version, 1)
    if version in there:
        raise InputError(
            f"{files.join(folder, str(version))} exists, and a version is never overwritten. "
            f"The next free one is {max(there) + 1}."
        )
    target = files.join(folder, str(version))
    rounded, told = (), {}
    if int8:
        pipe, rounded, told = _rounded(pipe, adapters)
    with files.new_folder(target) as local:
        write_saved_model(pipe, str(local), adapters, rounded)
        records, runtime = prove(pipe, str(local), adapters, rounded)
        _write_extras(pipe, str(local), adapters, runtime)
        description = describe(pipe, name, str(local), records, adapters, run, told)
        write_extras(str(local), description, version)
    write_deployment(folder, description)
    return target


def _rounded(pipe: Any, adapters: Any) -> tuple[Any, list[Rounded], dict[str, Any]]:
    """A copy of a pipeline with weights in 8 bits, these, and what the model card says of it."""
    if adapters:
        raise InputError(
            "Several adapters are exported with their base in float32, because each is compared "
            f"with the base that it learned on. Received: int8 with {len(adapters.names)} adapters."
            " Leave int8 out, or export the models of single adapters."
        )
    copy = pipe.copied()
    rounded = round_weights(copy)
    return copy, rounded, {"matrices": len(rounded), "difference": outputs_apart(pipe, copy)}


def prove(
    pipe: Any, folder: str, adapters: Any = None, rounded: Sequence[Rounded] = ()
) -> tuple[list[dict], dict | None]:
    """Hold a SavedModel to its pipeline: its file, its answers here and in the C runtime.

    Returns:
        Its golden records, and what `check_in_c_runtime` gives.

    Raises:
        KerasftError: if it is not what TF Serving loads, or does not answer as the pipeline does.
    """
    import tensorflow as tf

    tables = adapters.variables if adapters else []
    codes = sum(one.codes.nbytes + one.scales.nbytes for one in rounded)
    check_saved_model(folder, codes + _bytes_of([*_as_they_are(pipe, rounded), *tables]))
    signatures = tf.saved_model.load(folder).signatures
    if adapters:
        compare_each(adapters, signatures)
    else:
        compare(pipe, signatures)
    records = golden_records(pipe, signatures, adapters)
    write_golden(folder, records)
    return records, check_in_c_runtime(folder)


def write_saved_model(
    pipe: Any, folder: str, adapters: Any = None, rounded: Sequence[Rounded] = ()
) -> None:
    """Write the SavedModel itself."""
    import tensorflow as tf

    module = tf.Module()
    # The variables by themselves: tracking the Keras model too would store every weight twice.
    module.weights = [v.value for v in _as_they_are(pipe, rounded)]
    module.rounded = tracked(rounded)
    module.tables = list(adapters.variables) if adapters else []
    module.tokenizer = pipe.tokenizer
    signatures = signatures_of(pipe, adapters)
    tf.saved_model.save(module, folder, signatures=signatures)
    # TensorFlow 2 writes `predict` for every signature.
    names = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
    for name in signatures:
        names.replace_method_name(name, method_name(name))
    names.save()


def _as_they_are(pipe: Any, rounded: Sequence[Rounded]) -> list[Any]:
    """The variables that are stored in floats."""
    coded = {id(one.variable) for one in rounded}
    return [v for v in pipe.model.variables if id(v) not in coded]


def _bytes_of(variables: list[Any]) -> int:
    return sum(int(np.prod(v.shape)) * np.dtype("float32").itemsize for v in variables)


def _write_extras(pipe: Any, folder: str, adapters: Any, runtime: dict | None) -> None:
    extra = os.path.join(folder, "assets.extra")
    if adapters:
        found = {n: list(getattr(t, "labels", ())) for n, t in adapters.tasks.items()}
        files.write_json(os.path.join(extra, "adapters.json"), found)
    files.write_json(os.path.join(extra, "labels.json"), list(getattr(pipe.task, "labels", ())))
    files.write_json(os.path.join(extra, "versions.json"), stack.versions())
    files.write_json(os.path.join(extra, "c_runtime.json"), runtime)
