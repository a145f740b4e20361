"""A pipeline as a SavedModel `NAME/VERSION/` with signatures on strings and on ids."""

import os
from typing import Any

import numpy as np

from kerasft._core import files, stack
from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.export.compare import compare, compare_each
from kerasft.export.deploy.config import name_of_model
from kerasft.export.deploy.write import write_deployment, write_extras
from kerasft.export.describe import describe
from kerasft.export.examples import method_name
from kerasft.export.gate import check_saved_model
from kerasft.export.golden import write_golden
from kerasft.export.in_c_runtime import check_in_c_runtime
from kerasft.export.reference import golden_records
from kerasft.export.signatures import signatures_of


def export_saved_model(
    pipe: Any,
    folder: str | os.PathLike,
    version: int | None = None,
    adapters: Any = None,
    run: str | os.PathLike | None = None,
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

    Returns:
        The path of the version. What a server, a client and a reader need lies in `folder/deploy`
        and in the version's `assets.extra`.

    Raises:
        InputError: if the version exists, or NAME cannot stand in the path of a request.
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
    with files.new_folder(target) as local:
        write_saved_model(pipe, str(local), adapters)
        records, runtime = prove(pipe, str(local), adapters)
        _write_extras(pipe, str(local), adapters, runtime)
        description = describe(pipe, name, str(local), records, adapters, run)
        write_extras(str(local), description, version)
    write_deployment(folder, description)
    return target


def prove(pipe: Any, folder: str, adapters: Any = None) -> tuple[list[dict], dict | None]:
    """Hold a SavedModel to its pipeline: its file, its answers here and in the C runtime.

    Returns:
        Its golden records, and what `check_in_c_runtime` gives.

    Raises:
        KerasftError: if it is not what TF Serving loads, or does not answer as the pipeline does.
    """
    import tensorflow as tf

    tables = adapters.variables if adapters else []
    check_saved_model(folder, _bytes_of([*pipe.model.variables, *tables]))
    signatures = tf.saved_model.load(folder).signatures
    if adapters:
        compare_each(adapters, signatures)
    else:
        compare(pipe, signatures)
    records = golden_records(pipe, signatures, adapters)
    write_golden(folder, records)
    return records, check_in_c_runtime(folder)


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
