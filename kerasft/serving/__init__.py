"""Level 9: a server for the desk and for tests that speaks TF Serving's REST and gRPC; a client.

The server is compatible, and for development; in production TF Serving serves the same folders. The
client asks either; over REST it needs nothing of the extra `serving`.
"""

import importlib
from typing import Any

from kerasft._core.errors import InputError
from kerasft.serving.errors import ServingError

_NAMES = {
    "Batching": "config",
    "Client": "client",
    "ModelConfig": "config",
    "Options": "server",
    "Server": "server",
    "Tap": "tap",
    "read_batching": "config",
    "read_models": "config",
    "read_monitoring": "config",
    "serve": "server",
    "single": "config",
}

__all__ = ["InputError", "ServingError", *_NAMES]


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for: the client runs without what a server needs."""
    if name not in _NAMES:
        raise AttributeError(f"module 'kerasft.serving' has no attribute {name!r}")
    if name != "Client":
        importlib.import_module("kerasft.serving._extra")
    return getattr(importlib.import_module(f"kerasft.serving.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
