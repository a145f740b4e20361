"""Arrays of NumPy as tensors of TensorFlow's C library, and back."""

import contextlib
import ctypes
import functools
from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np

from kerasft.export._c_library import Library
from kerasft.export._stubs import protos

# Names of TensorFlow's types that are not simply those of NumPy in capitals.
_NAMES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}
_STRING_BYTES = 24  # of a TF_TString (tensorflow/core/platform/ctstring_internal.h)


@functools.cache
def _messages() -> tuple[ModuleType, ModuleType]:
    found = protos("tensorflow.core.framework.tensor_pb2", "tensorflow.core.framework.types_pb2")
    return found[0], found[1]


@functools.cache
def type_name(number: int) -> str:
    """Name of a type by its number in TensorFlow: 1 is float32, 7 string."""
    name = _messages()[1].DataType.Name(number)
    return _NAMES.get(name, name.removeprefix("DT_").lower())


@functools.cache
def type_number(name: str) -> int:
    """Number of a type in TensorFlow."""
    proper = {value: key for key, value in _NAMES.items()}
    return _messages()[1].DataType.Value(proper.get(name, f"DT_{name.upper()}"))


@functools.cache
def numpy_type(name: str) -> np.dtype | None:
    """The type of an array that holds such a tensor; None for what NumPy has no type for."""
    if name == "string":
        return np.dtype(object)
    if name == "bfloat16":
        import ml_dtypes  # comes with TensorFlow

        return np.dtype(ml_dtypes.bfloat16)
    try:
        return np.dtype(name)
    except TypeError:
        return None


def to_tensor(library: Library, array: np.ndarray, dtype: str) -> int:
    """A TF_Tensor with a copy of an array; the caller deletes it.

    It goes through a message: TensorFlow then owns the strings of the tensor and frees them with
    it. Of strings that are put into a tensor with TF_StringCopy nobody knows when the graph has
    let go of the last.

    Args:
        library: the C library.
        array: of the type's `numpy_type`; strings as bytes.
        dtype: TensorFlow's name of the type.
    """
    tensor_pb2, _ = _messages()
    message = tensor_pb2.TensorProto(dtype=type_number(dtype))
    message.tensor_shape.SetInParent()
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if dtype == "string":
        message.string_val.extend(array.ravel().tolist())
    else:
        message.tensor_content = array.tobytes()
    short = library.short
    tensor = short.TF_AllocateTensor(type_number("float32"), None, 0, 4)
    try:
        with buffer(library, message.SerializeToString()) as data, library.status() as status:
            library.long.TF_TensorFromProto(data, tensor, status)
    except BaseException:
        short.TF_DeleteTensor(tensor)
        raise
    return tensor


def to_array(library: Library, tensor: int) -> np.ndarray:
    """An array with a copy of a TF_Tensor; strings as an object array of bytes."""
    short = library.short
    dtype = type_name(short.TF_TensorType(tensor))
    shape = [short.TF_Dim(tensor, axis) for axis in range(short.TF_NumDims(tensor))]
    array, data = np.empty(shape, numpy_type(dtype)), short.TF_TensorData(tensor)
    if dtype == "string":
        array.ravel()[:] = _strings(library, data, array.size)
    elif array.size:
        ctypes.memmove(array.ctypes.data, data, array.nbytes)
    return array


def _strings(library: Library, data: int | None, number: int) -> list[bytes]:
    at, size = library.short.TF_StringGetDataPointer, library.short.TF_StringGetSize
    places = [data + i * _STRING_BYTES for i in range(number)]
    return [ctypes.string_at(at(place), size(place)) for place in places]


@contextlib.contextmanager
def buffer(library: Library, data: bytes | None = None) -> Iterator[ctypes.Structure]:
    """A TF_Buffer with a copy of the data, or an empty one that a call fills."""
    short = library.short
    made = short.TF_NewBuffer() if data is None else short.TF_NewBufferFromString(data, len(data))
    try:
        yield made
    finally:
        short.TF_DeleteBuffer(made)


@contextlib.contextmanager
def tensors(library: Library, arrays: Sequence[tuple[np.ndarray, str]]) -> Iterator[ctypes.Array]:
    """TF_Tensors of arrays and the names of their types, deleted at the end."""
    made = (ctypes.c_void_p * len(arrays))()
    try:
        for i, (array, dtype) in enumerate(arrays):
            made[i] = to_tensor(library, array, dtype)
        yield made
    finally:
        delete(library, made)


def delete(library: Library, made: ctypes.Array) -> None:
    """Delete the TF_Tensors of a list; one that was never made is 0."""
    for tensor in made:
        if tensor:
            library.short.TF_DeleteTensor(tensor)
