"""What lies beside an exported model, so that it can be deployed.

Pure Python and text; TensorFlow is loaded for warm-up requests alone.
"""

import importlib
from typing import Any

_NAMES = {
    "Deployment": "manifests",
    "Description": "write",
    "ServedModel": "config",
    "batching_config": "config",
    "client_py": "client_files",
    "compose": "manifests",
    "kubernetes": "manifests",
    "model_card": "card",
    "models_config": "config",
    "monitoring_config": "config",
    "read_models_config": "config",
    "read_run": "card",
    "read_signatures": "signatures",
    "read_warmup": "warmup",
    "requests_sh": "client_files",
    "verify": "checksums",
    "write_checksums": "checksums",
    "write_deployment": "write",
    "write_extras": "write",
    "write_warmup": "warmup",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for."""
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
