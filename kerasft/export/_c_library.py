"""TensorFlow's C library, loaded with ctypes."""

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kerasft._core.errors import InputError, KerasftError
from kerasft._core.quiet import without_notes
from kerasft.export._stubs import package_folder, protos

# Names of TF_Code, by number (tensorflow/c/tf_status.h).
CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
# On Linux and on macOS.
_LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib")

_POINTER, _TEXT, _INT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t


class Output(ctypes.Structure):
    """TF_Output: the output of an operation, by number."""

    _fields_ = [("operation", _POINTER), ("index", _INT)]


class Buffer(ctypes.Structure):
    """TF_Buffer: bytes and their number."""

    _fields_ = [("data", _POINTER), ("length", _SIZE), ("deallocator", _POINTER)]


_OUTPUTS, _POINTERS = ctypes.POINTER(Output), ctypes.POINTER(_POINTER)
_BUFFER = ctypes.POINTER(Buffer)
# Functions that may take long: other threads of Python go on meanwhile.
_LONG = {
    "TF_LoadLibrary": (_POINTER, [_TEXT, _POINTER]),
    "TF_LoadSessionFromSavedModel": (
        _POINTER,
        [_POINTER, _BUFFER, _TEXT, ctypes.POINTER(_TEXT), _INT, _POINTER, _BUFFER, _POINTER],
    ),
    "TF_SessionRun": (
        None,
        [_POINTER, _BUFFER, _OUTPUTS, _POINTERS, _INT, _OUTPUTS, _POINTERS, _INT]
        + [_POINTERS, _INT, _BUFFER, _POINTER],
    ),
    "TF_TensorFromProto": (None, [_BUFFER, _POINTER, _POINTER]),
    "TF_CloseSession": (None, [_POINTER, _POINTER]),
    "TF_DeleteSession": (None, [_POINTER, _POINTER]),
    "TF_DeleteGraph": (None, [_POINTER]),
}
# Functions that are done at once: handing Python's lock over and back would take longer.
_SHORT = {
    "TF_Version": (_TEXT, []),
    "TF_NewStatus": (_POINTER, []),
    "TF_DeleteStatus": (None, [_POINTER]),
    "TF_GetCode": (_INT, [_POINTER]),
    "TF_Message": (_TEXT, [_POINTER]),
    "TF_NewBuffer": (_BUFFER, []),
    "TF_NewBufferFromString": (_BUFFER, [_TEXT, _SIZE]),
    "TF_DeleteBuffer": (None, [_BUFFER]),
    "TF_GetAllRegisteredKernels": (_BUFFER, [_POINTER]),
    "TF_NewGraph": (_POINTER, []),
    "TF_SetRequireShapeInferenceFns": (None, [_POINTER, ctypes.c_bool]),
    "TF_GraphOperationByName": (_POINTER, [_POINTER, _TEXT]),
    "TF_NewSessionOptions": (_POINTER, []),
    "TF_SetConfig": (None, [_POINTER, _TEXT, _SIZE, _POINTER]),
    "TF_DeleteSessionOptions": (None, [_POINTER]),
    "TF_AllocateTensor": (_POINTER, [_INT, ctypes.POINTER(ctypes.c_int64), _INT, _SIZE]),
    "TF_DeleteTensor": (None, [_POINTER]),
    "TF_TensorType": (_INT, [_POINTER]),
    "TF_NumDims": (_INT, [_POINTER]),
    "TF_Dim": (ctypes.c_int64, [_POINTER, _INT]),
    "TF_TensorByteSize": (_SIZE, [_POINTER]),
    "TF_TensorData": (_POINTER, [_POINTER]),
    "TF_StringGetDataPointer": (_POINTER, [_POINTER]),
    "TF_StringGetSize": (_SIZE, [_POINTER]),
}


class StatusError(KerasftError):
    """TensorFlow's C runtime failed; `code` is the name of its status, such as `NOT_FOUND`."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Library:
    """TensorFlow's C library and the op libraries that were loaded into it."""

    folder: str
    text_ops: str | None
    long: ctypes.CDLL
    short: ctypes.PyDLL

    @property
    def version(self) -> str:
        """TensorFlow's version, such as 2.21.0."""
        return self.short.TF_Version().decode()

    @functools.cached_property
    def ops(self) -> frozenset[str]:
        """Names of the ops that can run: those with a kernel."""
        (kernel_def_pb2,) = protos("tensorflow.core.framework.kernel_def_pb2")
        with self.status() as status:
            every = self.short.TF_GetAllRegisteredKernels(status)
        try:
            data = ctypes.string_at(every.contents.data, every.contents.length)
        finally:
            self.short.TF_DeleteBuffer(every)
        return frozenset(kernel.op for kernel in kernel_def_pb2.KernelList.FromString(data).kernel)

    @contextlib.contextmanager
    def status(self) -> Iterator[int]:
        """A TF_Status for one call; raises `StatusError` if the call does not leave it at OK."""
        status = self.short.TF_NewStatus()
        try:
            yield status
            code = self.short.TF_GetCode(status)
            if code:
                # Codes above those that are named are for what is still to come.
                name = CODES[code] if code < len(CODES) else "UNKNOWN"
                raise StatusError(name, self.short.TF_Message(status).decode(errors="replace"))
        finally:
            self.short.TF_DeleteStatus(status)


_LOCK = threading.Lock()
_loaded: list[Library] = []


def c_library(folder: str | None = None, text_ops: str | None = None) -> Library:
    """The C library, loaded once a process together with tensorflow-text's ops.

    Args:
        folder: where `libtensorflow_cc` and `libtensorflow_framework` lie; None: the installed
            TensorFlow.
        text_ops: a folder of op libraries `_*.so`; None: those of the installed tensorflow-text,
            or none where that is not installed.

    Raises:
        InputError: if a folder lacks the libraries, or this process holds another TensorFlow.
        StatusError: if an op library cannot be loaded.
    """
    folder = os.path.realpath(folder or package_folder("tensorflow"))
    if text_ops is None and find_spec("tensorflow_text"):
        text_ops = os.path.join(package_folder("tensorflow_text"), "python", "ops")
    text_ops = text_ops and os.path.realpath(text_ops)
    with _LOCK:
        if not _loaded:
            _loaded.append(_load(folder, text_ops))
    library = _loaded[0]
    if (library.folder, library.text_ops) != (folder, text_ops):
        raise InputError(
            f"This process runs TensorFlow of {library.folder} with the ops of "
            f"{library.text_ops}, and a process can hold one only. Received: {folder} with "
            f"{text_ops}. Use a process of its own."
        )
    return library


def _load(folder: str, text_ops: str | None) -> Library:
    found = [path for name in _LIBRARIES if (path := Path(folder, name)).exists()]
    if not found:
        raise InputError(
            f"TensorFlow's C library is {_LIBRARIES[0]}. Received: the folder {folder}, which "
            "does not hold it. Name the folder `tensorflow` of an installed or unpacked wheel."
        )
    other = [path for path in _mapped("libtensorflow_framework") if path.parent != Path(folder)]
    if other:
        # The second library would be bound to the functions of the first, and crash.
        raise InputError(
            f"This process has loaded TensorFlow of {other[0].parent}, and a process can hold one "
            f"only. Received: {folder}. Use a process of its own."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with without_notes():  # of a missing GPU, before any log level is read
            # Shared with the op libraries: each would hash the names of attributes with a seed of
            # its own (absl's kSeed), and not find what TensorFlow has put into a map.
            shared = ctypes.RTLD_GLOBAL
            long, short = (kind(str(found[0]), shared) for kind in (ctypes.CDLL, ctypes.PyDLL))
    except OSError as error:
        raise KerasftError(f"TensorFlow's C library cannot be loaded: {error}.") from None
    for library, functions in ((long, _LONG), (short, _SHORT)):
        for name, (result, arguments) in functions.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    loaded = Library(folder, text_ops, long, short)
    for path in _op_libraries(text_ops) if text_ops is not None else ():
        with loaded.status() as status:
            long.TF_LoadLibrary(os.fsencode(path), status)
    return loaded


def _op_libraries(folder: str) -> list[Path]:
    found = sorted(Path(folder).glob("_*.so"))
    if not found:
        raise InputError(
            "Op libraries of tensorflow-text are files _*.so in its folder python/ops. "
            f"Received: the folder {folder}, which holds none."
        )
    return found


def _mapped(name: str) -> set[Path]:
    """Shared libraries of this process whose names begin so; none where Linux does not tell."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return set()
    paths = (Path(line.split(maxsplit=5)[5]) for line in lines if name in line)
    return {path for path in paths if path.name.startswith(name)}
