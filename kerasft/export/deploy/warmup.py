"""Requests that TF Serving runs before a version takes traffic.

The first request of a graph is slow: memory is taken, ops are prepared. TF Serving runs what lies
in `assets.extra/tf_serving_warmup_requests` first, and one request that fails there fails the load
of the version. So each record is checked against the signatures before the file is written.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft._core.extras import require
from kerasft.export.deploy.signatures import Signature, read_signatures, shape_text

PLACE = "assets.extra/tf_serving_warmup_requests"
MOST = 1000  # TF Serving refuses a file with more
_FRAME = 16  # bytes of a record beside its data: length, and two check sums
EXTRA = "serving"
# Signature, method, and its inputs: arrays by name, or a list of examples.
Request = tuple[str, str, Mapping[str, Any] | Sequence[Mapping[str, Any]]]


def write_warmup(folder: str | os.PathLike, requests: Iterable[Request]) -> str:
    """Write the requests that TF Serving runs while it loads a version.

    Args:
        folder: the version, saved_models/NAME/VERSION; the SavedModel is there already.
        requests: each one the name of a signature, the method ("predict", "classify" or
            "regress"), and the inputs: for predict arrays by name, [batch, ...]; for the others a
            list of examples, feature -> value or list of values (texts, whole numbers or floats).

    Returns:
        The path of the file, a TFRecord of `PredictionLog`.

    Raises:
        InputError: for none or more than 1,000 requests, and for one that does not fit its
            signature; nothing is written then.
        MissingExtra: without tensorflow-serving-api.

    Example:
        >>> texts = {"text": np.array(["free prize", "see you"])}
        >>> write_warmup("saved_models/spam/3", [("serving_default", "predict", texts)])

    Source: tensorflow_serving/servables/tensorflow/saved_model_warmup.cc
    """
    import tensorflow as tf

    signatures = read_signatures(folder)
    records = []
    for number, request in enumerate(requests, 1):
        told = f"Warm-up request {number}"
        log = _log(request, _model_of(folder), told)
        _check(log, signatures, told)
        records.append(log.SerializeToString(deterministic=True))
        _check_count(number, "write_warmup")
    if not records:
        raise InputError("write_warmup takes at least one request. Received: none.")
    with tempfile.TemporaryDirectory() as local:
        path = os.path.join(local, "requests")
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record)
        files.write_bytes(files.join(folder, PLACE), files.read_bytes(path))
    return files.join(folder, PLACE)


def read_warmup(folder: str | os.PathLike) -> list[Request]:
    """Check a version's warm-up requests, record by record, and give them back.

    Args:
        folder: the version.

    Returns:
        The requests, as `write_warmup` takes them; examples with a list of values a feature.

    Raises:
        InputError: naming the first record that TF Serving would fail on: damaged, no
            `PredictionLog`, an unknown signature or input, a dtype or shape that does not fit.
        MissingExtra: without tensorflow-serving-api.
    """
    from google.protobuf.message import DecodeError

    path = files.join(folder, PLACE)
    if not files.exists(path):
        raise InputError(f"There is no file {path}.")
    signatures, requests = read_signatures(folder), []
    for number, record in enumerate(_records(path), 1):
        told = f"{path}, record {number}"
        log = _protos("prediction_log").PredictionLog()
        try:
            log.ParseFromString(record)
        except DecodeError:
            raise InputError(f"{told} is no PredictionLog. Write the file again.") from None
        _check(log, signatures, told)
        _check_count(number, path)
        requests.append(_request(log))
    return requests


def _records(path: str) -> Iterable[bytes]:
    """The records of a TFRecord; the first whose check sum is wrong is named."""
    import tensorflow as tf

    number, size = 0, tf.io.gfile.stat(path).length
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            number, size = number + 1, size - len(record) - _FRAME
            yield record
    except tf.errors.DataLossError:
        size = -1
    if size:  # a record that is cut off in its first bytes ends the file for TensorFlow
        raise InputError(
            f"{path}, record {number + 1} is damaged: its check sum is wrong, or it is cut off. "
            "Write the file again."
        )


def _check_count(number: int, told: str) -> None:
    if number > MOST:
        raise InputError(f"{told}: TF Serving takes at most {MOST:,} warm-up requests, not more.")


def _protos(name: str) -> Any:
    return require(f"tensorflow_serving.apis.{name}_pb2", EXTRA)


def _model_of(folder: str | os.PathLike) -> str:
    """The model's name, as far as the path says it; TF Serving does not look at it here."""
    return os.fspath(folder).rstrip("/").rsplit("/", 2)[0].rsplit("/", 1)[-1] or "model"


# --- a request and its log ----------------------------------------------------------------------


def _log(request: Request, model: str, told: str) -> Any:
    try:
        signature, method, inputs = request
    except (TypeError, ValueError):
        raise InputError(
            f"{told} must be (signature, method, inputs). Received: {request!r:.80}."
        ) from None
    log = _protos("prediction_log").PredictionLog()
    if method not in ("predict", "classify", "regress"):
        raise InputError(
            f"{told}: the method must be predict, classify or regress. Received: {method!r}."
        )
    made = getattr(log, f"{method}_log").request
    made.model_spec.name, made.model_spec.signature_name = model, str(signature)
    if method == "predict":
        if not isinstance(inputs, Mapping):
            raise InputError(f"{told}: inputs are arrays by name. Received: {inputs!r:.80}.")
        for name, value in inputs.items():
            made.inputs[name].CopyFrom(_tensor(value, f"{told}: input {name!r}"))
        return log
    if isinstance(inputs, Mapping) or not isinstance(inputs, Sequence):
        raise InputError(f"{told}: inputs are a list of examples. Received: {inputs!r:.80}.")
    examples = made.input.example_list.examples
    examples.extend(_example(row, told) for row in inputs)
    return log


def _tensor(value: Any, told: str) -> Any:
    import tensorflow as tf

    try:
        return tf.make_tensor_proto(value)
    except (TypeError, ValueError):
        raise InputError(f"{told} must be an array. Received: {value!r:.80}.") from None


def _example(row: Any, told: str) -> Any:
    import tensorflow as tf

    if not isinstance(row, Mapping):
        raise InputError(f"{told}: an example is feature -> value. Received: {row!r:.80}.")
    example = tf.train.Example()
    for name, value in row.items():
        values = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
        feature = example.features.feature[name]
        if all(isinstance(v, (str, bytes)) for v in values):
            texts = [v.encode() if isinstance(v, str) else v for v in values]
            feature.bytes_list.value.extend(texts)
        elif all(isinstance(v, (int, np.integer)) for v in values):
            feature.int64_list.value.extend(map(int, values))
        elif all(isinstance(v, (int, float, np.number)) for v in values):
            feature.float_list.value.extend(map(float, values))
        else:
            raise InputError(
                f"{told}: feature {name!r} must be texts or numbers. Received: {value!r:.80}."
            )
    return example


def _request(log: Any) -> Request:
    """What a log asks, as `write_warmup` takes it."""
    import tensorflow as tf

    method = log.WhichOneof("log_type").removesuffix("_log")
    asked = getattr(log, f"{method}_log").request
    name = asked.model_spec.signature_name or "serving_default"
    if method == "predict":
        inputs = {n: tf.make_ndarray(tensor) for n, tensor in sorted(asked.inputs.items())}
        return name, method, inputs
    found = []
    for example in asked.input.example_list.examples:
        kinds = {n: f.WhichOneof("kind") for n, f in sorted(example.features.feature.items())}
        feature = example.features.feature
        found.append({n: list(getattr(feature[n], k).value) if k else [] for n, k in kinds.items()})
    return name, method, found


# --- what TF Serving would refuse ---------------------------------------------------------------


def _check(log: Any, signatures: Mapping[str, Signature], told: str) -> None:
    kind = log.WhichOneof("log_type")
    method = (kind or "").removesuffix("_log")
    if method not in ("predict", "classify", "regress"):
        raise InputError(
            f"{told} must hold a request of predict, classify or regress. Received: {kind}."
        )
    asked = getattr(log, kind).request
    name = asked.model_spec.signature_name or "serving_default"
    if name not in signatures:
        raise InputError(
            f"{told}: the model has the signatures {', '.join(signatures) or 'none'}. "
            f"Received: {name!r}."
        )
    signature = signatures[name]
    if method == "predict":
        _check_tensors(asked.inputs, signature, f"{told}, signature {name!r}")
        return
    if signature.method != method:
        raise InputError(
            f"{told}: the signature {name!r} is asked with {signature.method}. Received: {method}."
        )
    if not asked.input.example_list.examples:
        raise InputError(f"{told}: {method} takes at least one example. Received: none.")


def _check_tensors(given: Mapping[str, Any], signature: Signature, told: str) -> None:
    import tensorflow as tf

    if set(given) != set(signature.inputs):
        raise InputError(
            f"{told} takes the inputs {', '.join(signature.inputs)}. "
            f"Received: {', '.join(sorted(given)) or 'none'}."
        )
    rows = {}
    for name, expected in signature.inputs.items():
        tensor = given[name]
        dtype, shape = _told(tensor, f"{told}, input {name!r}")
        if dtype != expected.dtype or not _fits(shape, expected.shape):
            raise InputError(
                f"{told}: input {name!r} must be {expected}. Received: {dtype} {shape_text(shape)}."
            )
        try:
            tf.make_ndarray(tensor)
        except (TypeError, ValueError):
            raise InputError(
                f"{told}: input {name!r} does not hold the values of its shape "
                f"{shape_text(shape)}. Write the file again."
            ) from None
        rows[name] = shape[0] if shape else None
    if len(set(rows.values())) > 1 or 0 in rows.values():
        listed = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise InputError(
            f"{told}: every input must have the same batch, of at least one row. "
            f"Received: {listed}."
        )


def _told(tensor: Any, told: str) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape that a tensor's record names."""
    import tensorflow as tf

    if tensor.tensor_shape.unknown_rank or not tensor.dtype:
        raise InputError(f"{told} has no dtype or no shape. Write the file again.")
    try:
        dtype = tf.dtypes.as_dtype(tensor.dtype).name
    except TypeError:
        raise InputError(f"{told} has an unknown dtype, {tensor.dtype}.") from None
    return dtype, tuple(dim.size for dim in tensor.tensor_shape.dim)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...] | None) -> bool:
    if expected is None:
        return True
    same = all(want in (None, size) for size, want in zip(shape, expected, strict=False))
    return len(shape) == len(expected) and same
