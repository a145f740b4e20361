"""Level 9: a server for the desk and for tests that speaks TF Serving's REST and gRPC.

It is compatible, and for development; in production TF Serving serves the same folders.
"""

from kerasft.serving.config import Batching, ModelConfig, read_batching, read_models, single
from kerasft.serving.errors import ServingError
from kerasft.serving.server import Options, Server, serve

__all__ = [
    "Batching",
    "ModelConfig",
    "Options",
    "Server",
    "ServingError",
    "read_batching",
    "read_models",
    "serve",
    "single",
]
