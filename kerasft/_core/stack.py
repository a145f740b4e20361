"""Load TensorFlow, Keras and KerasHub in the way kerasft needs them."""

import os
import sys

from kerasft._core.errors import InputError


def ensure() -> None:
    """Make sure that Keras runs on TensorFlow; raise `InputError` if another backend is active.

    Keras reads its backend once, at import. Unless the user chose one, choose TensorFlow.
    """
    if "keras" not in sys.modules:
        backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    else:
        import keras

        backend = keras.config.backend()
    if backend != "tensorflow":
        raise InputError(
            "kerasft runs on the TensorFlow backend of Keras. "
            f"Received: KERAS_BACKEND={backend!r}. Set KERAS_BACKEND=tensorflow and start again."
        )


def versions() -> dict[str, str]:
    """Versions of kerasft and of the libraries that decide its numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("kerasft", "tensorflow", "keras", "keras-hub", "tensorflow-text", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
