"""Arrays as TensorProto and back, and texts and numbers as tf.Example."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft.serving._protos import DataType, Example, TensorProto
from kerasft.serving.errors import ServingError, invalid

# dtype in a signature -> name in DataType, NumPy's dtype, field of TensorProto.
_TYPES = {
    "float32": ("DT_FLOAT", np.dtype("<f4"), "float_val"),
    "float64": ("DT_DOUBLE", np.dtype("<f8"), "double_val"),
    "float16": ("DT_HALF", np.dtype("<f2"), "half_val"),
    "int8": ("DT_INT8", np.dtype("i1"), "int_val"),
    "int16": ("DT_INT16", np.dtype("<i2"), "int_val"),
    "int32": ("DT_INT32", np.dtype("<i4"), "int_val"),
    "int64": ("DT_INT64", np.dtype("<i8"), "int64_val"),
    "uint8": ("DT_UINT8", np.dtype("u1"), "int_val"),
    "uint16": ("DT_UINT16", np.dtype("<u2"), "int_val"),
    "uint32": ("DT_UINT32", np.dtype("<u4"), "uint32_val"),
    "uint64": ("DT_UINT64", np.dtype("<u8"), "uint64_val"),
    "bool": ("DT_BOOL", np.dtype("?"), "bool_val"),
    "string": ("DT_STRING", np.dtype(object), "string_val"),
}
_NAMES = {DataType.Value(data): name for name, (data, _, _) in _TYPES.items()}
MOST_AXES = 32
# One value may stand for a whole tensor: a few bytes could ask for all the memory there is.
_MOST_REPEATED = 2**20
_LARGEST = 2**48  # values; beyond, NumPy has no shape, also where one of the sizes is 0
_PART = 2**16  # values that are taken over at a time; between them other threads have their turn


def dtype_of(array: np.ndarray) -> str:
    """The name of an array's dtype as signatures spell it."""
    return "string" if array.dtype.kind in "OSU" else array.dtype.name


def numpy_type(dtype: str) -> np.dtype:
    """NumPy's dtype for a name of a signature; strings are objects (bytes)."""
    return _TYPES[dtype][1]


def data_type(dtype: str) -> int:
    """The number in DataType for a name of a signature."""
    return DataType.Value(_TYPES[dtype][0])


def named(data_type_name: str) -> str:
    """The name in a signature of a type that DataType names, as DT_FLOAT.

    Raises:
        ServingError: UNIMPLEMENTED, for one that is not served.
    """
    for name, (data, _, _) in _TYPES.items():
        if data == data_type_name:
            return name
    raise ServingError("UNIMPLEMENTED", f"Tensors of type {data_type_name} are not served.")


def from_proto(proto: Any) -> np.ndarray:
    """The array of a TensorProto; strings are objects (bytes).

    Raises:
        ServingError: INVALID_ARGUMENT, where shape, type and content do not fit.
    """
    if proto.dtype not in _NAMES:
        raise invalid(f"Tensors of type number {proto.dtype} are not served.")
    name = _NAMES[proto.dtype]
    _, dtype, field = _TYPES[name]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0 or len(shape) > MOST_AXES:
        raise invalid(f"A tensor needs a whole shape of at most {MOST_AXES} sizes: {list(shape)}.")
    count = math.prod(shape)
    if math.prod(size or 1 for size in shape) > _LARGEST:
        raise invalid(f"A tensor of shape {list(shape)} is too large.")
    if proto.tensor_content and name != "string":
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise invalid(f"tensor_content has not the bytes of shape {list(shape)} in {name}.")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    given = getattr(proto, field)
    if len(given) > count or (len(given) < count and count > _MOST_REPEATED):
        raise invalid(f"{field} has {len(given)} values for shape {list(shape)}.")
    return _filled(given, count, dtype).reshape(shape)


def _filled(given: Any, count: int, dtype: np.dtype) -> np.ndarray:
    """Values of a field; the last one stands for all that follow, 0 or "" for none at all."""
    if dtype == np.float16:
        return _filled(given, count, np.dtype("<u2")).view(dtype)
    last = given[-1] if given else b"" if dtype.kind == "O" else 0
    try:
        made = np.full(count, last, dtype)
        for start in range(0, len(given), _PART):
            part = given[start : start + _PART]
            made[start : start + len(part)] = part
    except OverflowError as error:
        raise invalid(f"A value does not fit its type: {error}.") from None
    return made


def to_proto(array: np.ndarray) -> Any:
    """An array as a TensorProto with its values in fields, as TF Serving answers.

    Raises:
        ServingError: UNIMPLEMENTED, for a type that TensorProto has no field for.
    """
    name = dtype_of(array)
    if name not in _TYPES:
        raise ServingError("UNIMPLEMENTED", f"Tensors of type {name} are not served.")
    _, dtype, field = _TYPES[name]
    proto = TensorProto(dtype=data_type(name))
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = np.ascontiguousarray(array).reshape(-1)
    if name == "float16":
        flat = flat.view(np.uint16)
    getattr(proto, field).extend(flat.tolist() if dtype.kind != "O" else map(as_bytes, flat))
    return proto


def as_bytes(value: Any) -> bytes:
    """A string value as bytes."""
    return value.encode("utf-8") if isinstance(value, str) else bytes(value)


def strings(values: list[bytes]) -> np.ndarray:
    """Bytes as a string tensor, [batch]."""
    made = np.empty(len(values), object)
    made[:] = values
    return made


def examples_of(request_input: Any) -> np.ndarray:
    """Serialised examples of a Classify or Regress request: string [batch].

    The shared context goes before each example; where both name a feature the example's stands.

    Raises:
        ServingError: INVALID_ARGUMENT, for none.
    """
    kind = request_input.WhichOneof("kind")
    context, found = b"", []
    if kind is not None:
        held = getattr(request_input, kind)
        found = [example.SerializeToString() for example in held.examples]
        if kind == "example_list_with_context":
            context = held.context.SerializeToString()
    if not found:
        raise invalid("Input is empty.")
    return strings([context + example for example in found])


def example_of(features: Mapping[str, Any]) -> Any:
    """A tf.Example of a JSON object: texts and {"b64"} as bytes, whole numbers as int64.

    Raises:
        ServingError: INVALID_ARGUMENT, for anything else, or a mixture.
    """
    example = Example()
    for name, content in features.items():
        values = content if isinstance(content, list) else [content]
        feature = example.features.feature[name]
        kinds = {_kind(name, value) for value in values}
        if len(kinds) > 1:
            raise invalid(f"Unexpected element type in feature: {name} has {sorted(kinds)}.")
        for kind in kinds:
            try:
                getattr(feature, kind).value.extend(map(_plain, values))
            except ValueError:
                raise invalid(f"Feature: {name} has a whole number beyond int64.") from None
    return example


def _kind(name: str, value: Any) -> str:
    if isinstance(value, bytes | str):
        return "bytes_list"
    if isinstance(value, bool | int):
        return "int64_list"
    if isinstance(value, float):
        return "float_list"
    kind = type(value).__name__
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {kind}")


def _plain(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return as_bytes(value)
    return int(value) if isinstance(value, bool) else value
