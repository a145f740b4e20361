"""A SavedModel in TensorFlow's own C runtime: neither Keras nor TensorFlow for Python is loaded.

What runs here is what TensorFlow Serving runs: its op libraries, its loader and its sessions,
without a Python interpreter in reach of the graph.
"""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.export import _c_tensors as convert
from kerasft.export._c_library import Library, Output, StatusError, c_library
from kerasft.export._stubs import protos

__all__ = ["CModel", "Signature", "StatusError", "TensorSpec"]

Specs = Mapping[str, "TensorSpec"]


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor is like: the name of its type and its shape, None for an open size.

    The shape itself is None where even the number of dimensions is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.dtype} [{sizes}]"

    @property
    def numpy_type(self) -> np.dtype:
        """Type of an array that holds such a tensor; strings are objects, bytes each."""
        return convert.numpy_type(self.dtype)

    def allows(self, array: np.ndarray) -> bool:
        """Whether an array has the type and the shape."""
        if array.dtype != self.numpy_type:
            return False
        if self.dtype == "string" and not all(isinstance(v, bytes) for v in array.flat):
            return False
        if self.shape is None:
            return True
        sizes = zip(self.shape, array.shape)
        return len(self.shape) == array.ndim and all(s in (None, n) for s, n in sizes)


@dataclass(frozen=True)
class Signature:
    """What can be asked of a SavedModel.

    `method` is one such as `tensorflow/serving/predict`; `inputs` and `outputs`: name -> spec.
    """

    method: str
    inputs: Specs
    outputs: Specs


@dataclass(frozen=True)
class _Bound:
    """A signature and where its tensors lie in the graph."""

    signature: Signature
    inputs: Any
    outputs: Any


class CModel:
    """One SavedModel, loaded on the CPUs; `run` may be called from many threads at once.

    Args:
        folder: of the version, the one that holds `saved_model.pb`.
        library: folder of another TensorFlow's `libtensorflow_cc` and `libtensorflow_framework`;
            None: the installed one. A process holds one TensorFlow only.
        text_ops: folder of the op libraries `_*.so` that belong to it; None: those of the
            installed tensorflow-text.
        threads: how many work on one call; None: as many as the machine has. The first model of a
            process decides for all, because TensorFlow's threads belong to the process.

    Raises:
        StatusError: if the SavedModel is missing or damaged, or holds ops that are not there.
        InputError: if the libraries are not there, the process holds another TensorFlow, or
            `threads` is below 1.

    Example:
        >>> with CModel("saved_models/spam/1") as model:
        ...     texts = np.array([b"You have won"], dtype=object)
        ...     model.run("serving_default", {"text": texts})["label"]
        array([b'spam'], dtype=object)

    Source: tensorflow/c/c_api.h.
    """

    def __init__(
        self,
        folder: str,
        *,
        library: str | None = None,
        text_ops: str | None = None,
        threads: int | None = None,
    ):
        self._library = c_library(library, text_ops)
        self.version: str = self._library.version
        self._session, self._graph, meta = _load(self._library, folder, threads)
        self._lock, self._running, self._closed = threading.Lock(), 0, False
        try:
            _check_ops(meta.graph_def, self._library.ops)
            signatures = _signatures(meta)
            self._bound = {
                name: _Bound(signature, *(self._places(tensors) for tensors in places))
                for name, (signature, places) in signatures.items()
            }
        except BaseException:
            self.close()
            raise
        self.signatures: Mapping[str, Signature] = MappingProxyType(
            {name: bound.signature for name, bound in self._bound.items()}
        )

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Ask one signature.

        Args:
            signature: its name.
            inputs: an array for every input, of its type and shape; strings as object arrays of
                bytes.

        Returns:
            An array for every output; strings as object arrays of bytes.

        Raises:
            InputError: for an unknown signature, and for inputs that are not what it takes.
            StatusError: if the graph fails, and with the code UNAVAILABLE after `close`.
        """
        bound = self._bound.get(signature)
        if bound is None:
            raise InputError(f"The signatures are {_listed(self._bound)}. Received: {signature!r}.")
        arrays = _checked(signature, bound.signature.inputs, inputs)
        with self._in_use():
            found = self._ask(bound, arrays)
        return dict(zip(bound.signature.outputs, found))

    def close(self) -> None:
        """Give up the SavedModel. Calls that are under way end well; the last one frees it."""
        with self._lock:
            already, self._closed = self._closed, True
            free = not already and self._running == 0
        if free:
            self._free()

    def __enter__(self) -> "CModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, bound: _Bound, arrays: list[np.ndarray]) -> list[np.ndarray]:
        library, outputs = self._library, bound.outputs
        made = (ctypes.c_void_p * len(outputs))()
        dtypes = [spec.dtype for spec in bound.signature.inputs.values()]
        with convert.tensors(library, list(zip(arrays, dtypes))) as given:
            try:
                asked = (None, bound.inputs, given, len(given), outputs, made, len(outputs))
                with library.status() as status:
                    library.long.TF_SessionRun(self._session, *asked, None, 0, None, status)
                return [convert.to_array(library, tensor) for tensor in made]
            finally:
                convert.delete(library, made)

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the session while a call is under way; the last one out after `close` frees it."""
        with self._lock:
            if self._closed:
                raise StatusError("UNAVAILABLE", "the model was closed")
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                free = self._closed and self._running == 0
            if free:
                self._free()

    def _free(self) -> None:
        long = self._library.long
        for end in (long.TF_CloseSession, long.TF_DeleteSession):
            with contextlib.suppress(StatusError), self._library.status() as status:
                end(self._session, status)
        long.TF_DeleteGraph(self._graph)

    def _places(self, names: list[str]) -> Any:
        """Where tensors named `operation:number` lie in the graph."""
        found = (Output * len(names))()
        for place, name in zip(found, names):
            operation, _, index = name.partition(":")
            place.index = int(index or 0)
            place.operation = self._library.short.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            if not place.operation:
                raise StatusError("INVALID_ARGUMENT", f"a signature names {name}, which is missing")
        return found


def _load(library: Library, folder: str, threads: int | None) -> tuple[int, int, Any]:
    """Session, graph, and the MetaGraphDef of both."""
    config_pb2, meta_graph_pb2 = protos(
        "tensorflow.core.protobuf.config_pb2", "tensorflow.core.protobuf.meta_graph_pb2"
    )
    number = 0 if threads is None else whole("threads", threads, 1)  # 0: TensorFlow decides
    # The CPUs alone: who checks or serves beside a training must not take its GPU's memory.
    config = config_pb2.ConfigProto(
        device_count={"GPU": 0},
        intra_op_parallelism_threads=number,
        inter_op_parallelism_threads=number,
    ).SerializeToString()
    short, tags = library.short, (ctypes.c_char_p * 1)(b"serve")
    options, graph = short.TF_NewSessionOptions(), short.TF_NewGraph()
    # Neither TensorFlow Serving nor Python asks that, and tensorflow-text's ConstrainedSequence has
    # no such function.
    short.TF_SetRequireShapeInferenceFns(graph, False)
    try:
        with convert.buffer(library) as meta:
            with library.status() as status:
                short.TF_SetConfig(options, config, len(config), status)
            with library.status() as status:
                session = library.long.TF_LoadSessionFromSavedModel(
                    options, None, os.fsencode(folder), tags, 1, graph, meta, status
                )
            data = ctypes.string_at(meta.contents.data, meta.contents.length)
    except BaseException:
        library.long.TF_DeleteGraph(graph)
        raise
    finally:
        short.TF_DeleteSessionOptions(options)
    return session, graph, meta_graph_pb2.MetaGraphDef.FromString(data)


def _check_ops(graph: Any, ops: frozenset[str]) -> None:
    """Refuse a graph whose functions need ops that cannot run here.

    TensorFlow finds out when a function runs, and ends the call before it gives up the lock of the
    op that called it (PartitionedCallOp). Where the session is deleted then, that is a crash.
    """
    known = ops | {function.signature.name for function in graph.library.function}
    used = (node.op for function in graph.library.function for node in function.node_def)
    missing = sorted(set(used) - known)
    if missing:
        raise StatusError("NOT_FOUND", f"No kernel is registered for: {', '.join(missing)}")


def _signatures(meta: Any) -> dict[str, tuple[Signature, list[list[str]]]]:
    """Signatures of dense tensors of numbers and strings, and those tensors' names.

    Those whose names begin with `__saved_model` are TensorFlow's own.
    """
    found = {}
    for name, proto in sorted(meta.signature_def.items()):
        sides = [dict(sorted(side.items())) for side in (proto.inputs, proto.outputs)]
        infos = [info for side in sides for info in side.values()]
        dense = all(i.name and convert.numpy_type(convert.type_name(i.dtype)) for i in infos)
        if dense and not name.startswith("__saved_model"):
            specs = [MappingProxyType({n: _spec(i) for n, i in side.items()}) for side in sides]
            names = [[info.name for info in side.values()] for side in sides]
            found[name] = Signature(proto.method_name, *specs), names
    return found


def _spec(info: Any) -> TensorSpec:
    shape, dtype = info.tensor_shape, convert.type_name(info.dtype)
    if shape.unknown_rank:
        return TensorSpec(dtype, None)
    return TensorSpec(dtype, tuple(None if d.size < 0 else d.size for d in shape.dim))


def _checked(signature: str, specs: Specs, inputs: Mapping[str, Any]) -> list[np.ndarray]:
    """The arrays in the order of the specs."""
    if set(inputs) != set(specs):
        raise InputError(
            f"{signature} takes the inputs {_listed(specs)}. Received: {_listed(inputs)}."
        )
    arrays = {name: np.asarray(inputs[name]) for name in specs}
    for name, spec in specs.items():
        if not spec.allows(arrays[name]):
            raise InputError(
                f"Input {name!r} of {signature} is {spec}"
                f"{', an object array of bytes' if spec.dtype == 'string' else ''}. "
                f"Received: {_described(arrays[name])}."
            )
    return list(arrays.values())


def _described(array: np.ndarray) -> str:
    kinds = {type(v).__name__ for v in array.flat} if array.dtype == object else set()
    of = f" of {' and '.join(sorted(kinds))}" if kinds else ""
    return f"{array.dtype}{of} {list(array.shape)}"


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"
