"""Protocol buffers of TensorFlow and TensorFlow Serving without TensorFlow for Python."""

import importlib
import importlib.util
import sys
import threading
from types import ModuleType

from kerasft._core.errors import InputError

_LOCK = threading.Lock()
# What the stand-in has loaded: in sys.modules only while `protos` imports.
_kept: dict[str, ModuleType] = {}


def protos(*names: str) -> list[ModuleType]:
    """Import modules of protocol buffers, and what they import, without loading TensorFlow.

    Such modules name each other `tensorflow.core...`, so an empty stand-in takes TensorFlow's
    place while they are imported. Afterwards `sys.modules` holds nothing of it: a later `import
    tensorflow` loads the real package, which goes well beside what was handed out here, because
    the messages are the same. Where the real package is loaded already, it is used.

    Call this where a program starts: an `import tensorflow` that another thread begins in the
    same moment would be given the stand-in. Modules whose imports name TensorFlow are always
    imported through here; a plain `import tensorflow_serving.apis...` loads all of TensorFlow.

    Args:
        names: absolute names of modules, `tensorflow.core.framework.tensor_pb2` or
            `tensorflow_serving.apis.predict_pb2`.

    Returns:
        The modules, in the order of the names.

    Raises:
        InputError: where TensorFlow is not installed.

    Example:
        >>> tensor_pb2, types_pb2 = protos(
        ...     "tensorflow.core.framework.tensor_pb2", "tensorflow.core.framework.types_pb2"
        ... )
    """
    with _LOCK:
        if "tensorflow" in sys.modules:
            return [importlib.import_module(name) for name in names]
        if not _kept:
            stand_in = ModuleType("tensorflow")
            stand_in.__path__ = [package_folder("tensorflow")]
            _kept["tensorflow"] = stand_in
        sys.modules.update(_kept)
        try:
            return [importlib.import_module(name) for name in names]
        finally:
            for name in [n for n in sys.modules if n.partition(".")[0] == "tensorflow"]:
                _kept[name] = sys.modules.pop(name)


def package_folder(name: str) -> str:
    """Folder of an installed package, which is not imported.

    Raises:
        InputError: where it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise InputError(f"This needs the package {name!r}, which is not installed.")
    return list(spec.submodule_search_locations)[0]
