"""Level 9: a server for the desk and for tests that speaks TF Serving's REST and gRPC.

It is compatible, and for development; in production TF Serving serves the same folders.
"""

from kerasft._core.errors import InputError
from kerasft.serving import _extra  # noqa: F401
from kerasft.serving.config import (
    Batching,
    ModelConfig,
    read_batching,
    read_models,
    read_monitoring,
    single,
)
from kerasft.serving.errors import ServingError
from kerasft.serving.server import Options, Server, serve

__all__ = [
    "Batching",
    "InputError",
    "ModelConfig",
    "Options",
    "Server",
    "ServingError",
    "read_batching",
    "read_models",
    "read_monitoring",
    "serve",
    "single",
]
