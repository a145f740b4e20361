"""Hostile requests of gRPC for `fuzz.py`, each with the codes that are right for it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kerasft.serving import _protos as protos

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
MULTI = "/tensorflow.serving.PredictionService/MultiInference"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
BAD = ("INVALID_ARGUMENT",)
TYPES = protos.DataType


@dataclass(frozen=True)
class Call:
    """One call with the bytes of its message; `deadline` in seconds, `cancel`: given up at once."""

    method: str
    message: bytes
    allowed: tuple[str, ...]
    deadline: float | None = None
    cancel: bool = False


def request(signature: str = "", name: str = "m") -> Any:
    """An empty request to a model."""
    made = protos.predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = name, signature
    return made


def texts(*values: bytes, shape: tuple[int, ...] | None = None) -> Any:
    """A request with a string tensor."""
    made = request()
    tensor = made.inputs["text"]
    tensor.dtype = TYPES.Value("DT_STRING")
    for size in (len(values),) if shape is None else shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.string_val.extend(values)
    return made


def _call(made: Any, allowed: tuple[str, ...] = BAD, **options: Any) -> Call:
    return Call(PREDICT, made.SerializeToString(), allowed, **options)


def no_protobuf(draw: random.Random) -> Call:
    """Bytes that are no message, or another one than was meant."""
    message = bytearray(texts(b"free prize", b"now").SerializeToString())
    if draw.random() < 0.5:
        message = bytearray(draw.randbytes(draw.choice((1, 20, 5000))))
    else:
        for _ in range(draw.randrange(1, 4)):
            message[draw.randrange(len(message))] = draw.randrange(256)
    method, kind = draw.choice(
        (
            (PREDICT, protos.predict_pb2.PredictRequest),
            (CLASSIFY, protos.classification_pb2.ClassificationRequest),
        )
    )
    try:
        kind.FromString(bytes(message))
    except Exception:
        return Call(method, bytes(message), ("INTERNAL", "INVALID_ARGUMENT"))
    known = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION")
    return Call(method, bytes(message), known)


def wrong_types(draw: random.Random) -> Call:
    made = texts(b"a")
    kinds = [n for n in TYPES.values() if n != TYPES.Value("DT_STRING")]
    made.inputs["text"].dtype = draw.choice([*kinds, 23_000])
    return _call(made)


def wrong_content(draw: random.Random) -> Call:
    made = request("token_ids")
    for name, kind in (
        ("token_ids", "DT_INT32"),
        ("segment_ids", "DT_INT32"),
        ("padding_mask", "DT_BOOL"),
    ):
        tensor = made.inputs[name]
        tensor.dtype = TYPES.Value(kind)
        for size in draw.choice(((1, 4), (2**31, 2**31), (2**62, 4), (-1, 4), (4, -(2**62)))):
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = draw.randbytes(draw.choice((1, 3, 5, 17, 1000)))
    return _call(made)


def wrong_shapes(draw: random.Random) -> Call:
    most = 2**63 - 1
    shapes = ((-1,), (2,) * 33, (most, most), (0, most), (1, 0, most), (), (1, 1), (2**40,))
    values = [b"a"] * draw.randrange(3)
    made = texts(*values, shape=draw.choice(shapes))
    if draw.random() < 0.1:
        made.inputs["text"].tensor_shape.unknown_rank = True
    return _call(made)


def wrong_counts(draw: random.Random) -> Call:
    """More strings than the shape has, or one for millions."""
    shape, count = draw.choice((((1,), 2), ((0,), 1), ((20_000,), 1), ((2**26,), 0), ((2**30,), 1)))
    return _call(texts(*[b"a"] * count, shape=shape))


def many_values(draw: random.Random) -> Call:
    """Megabytes in fields of values."""
    kind = draw.randrange(3)
    if kind == 0:
        return _call(texts(b"a" * 10_000_000), ("OK",))
    if kind == 1:
        return _call(texts(*[b""] * 1_000_000))
    made = request()
    tensor = made.inputs["text"]
    tensor.dtype = TYPES.Value("DT_FLOAT")
    tensor.tensor_shape.dim.add(size=2_000_000)
    tensor.float_val.extend([1.5] * 2_000_000)
    return _call(made)


def too_long(draw: random.Random) -> Call:
    return _call(texts(b"a" * 12_600_000), ("RESOURCE_EXHAUSTED",))


def wrong_names(draw: random.Random) -> Call:
    made, allowed = texts(b"a"), ("NOT_FOUND",)
    kind = draw.randrange(8)
    if kind == 0:
        made.model_spec.name = draw.choice(("none", "M", "m\x00", "x" * 10_000))
    elif kind == 1:
        made.model_spec.name, allowed = "", BAD
    elif kind == 2:
        made.model_spec.version.value = draw.choice((0, 9, -1, 2**63 - 1))
    elif kind == 3:
        made.model_spec.version_label, allowed = "none", BAD
    elif kind == 4:
        made.model_spec.signature_name, allowed = "none", ("FAILED_PRECONDITION",)
    elif kind == 5:
        made.inputs["more"].CopyFrom(made.inputs["text"])
        allowed = BAD
    elif kind == 6:
        made.output_filter.extend(draw.choice((["none"], ["label", "label"])))
        allowed = BAD
    else:
        made.inputs.clear()
        allowed = BAD
    return _call(made, allowed)


def unknown_methods(draw: random.Random) -> Call:
    method = draw.choice(("/a/b", "/tensorflow.serving.PredictionService/None", f"/{'x' * 500}/y"))
    return Call(method, b"", ("UNIMPLEMENTED",))


def bad_examples(draw: random.Random) -> Call:
    made = protos.classification_pb2.ClassificationRequest()
    made.model_spec.name, made.model_spec.signature_name = "m", "classify"
    kind = draw.randrange(3)
    if kind == 1:
        made.input.example_list.examples.add()  # without its feature
    elif kind == 2:
        feature = made.input.example_list.examples.add().features.feature["text"]
        feature.float_list.value.append(1.0)
    return Call(CLASSIFY, made.SerializeToString(), BAD)


def other_services(draw: random.Random) -> Call:
    method = draw.choice((MULTI, METADATA, STATUS))
    named = method != MULTI and draw.random() < 0.5
    message = request(name="none").SerializeToString() if named else b""
    return Call(method, message, ("INVALID_ARGUMENT", "NOT_FOUND"))


def bad_configs(draw: random.Random) -> Call:
    made = protos.model_management_pb2.ReloadConfigRequest()
    one = made.config.model_config_list.config.add(
        name=draw.choice(("m", "", "a/b", "a:b")),
        base_path=draw.choice(("", "m", "/nowhere/at/all", "gs://a/b", "\x00")),
    )
    one.model_platform = draw.choice(("", "tensorflow", "torch"))
    if draw.random() < 0.2:
        made.config.Clear()
    return Call(RELOAD, made.SerializeToString(), ("INVALID_ARGUMENT", "NOT_FOUND"))


def cancelled(draw: random.Random) -> Call:
    return _call(texts(*[b"free prize"] * 50), ("CANCELLED", "OK"), cancel=True)


def late(draw: random.Random) -> Call:
    deadline = draw.choice((0.0, 1e-4, 1e-3, 5e-3))
    return _call(texts(b"a"), ("DEADLINE_EXCEEDED", "OK", "CANCELLED"), deadline=deadline)


# Family -> how often it is drawn.
FAMILIES: dict[Callable[[random.Random], Call], float] = dict.fromkeys(
    (
        *(no_protobuf, wrong_types, wrong_content, wrong_shapes, wrong_counts, wrong_names),
        *(unknown_methods, bad_examples, other_services, cancelled, late),
    ),
    1.0,
) | {many_values: 0.02, too_long: 0.02, bad_configs: 0.3}
