"""A monitor of a served model: the request log against the profile of the training data.

It lies in `serving` and is no room of its own, because the server's tap and the monitor share the
log's form, and rooms of one level do not know each other. The statistics are in
`kerasft.metrics.drift`, the profile in `kerasft.export.profile`.
"""

import importlib
from typing import Any

_NAMES = {
    "Options": "run",
    "Rule": "rules",
    "View": "run",
    "default_rules": "rules",
    "read_rules": "rules",
    "watch": "run",
    "write_dashboard": "dashboard",
}

__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for."""
    if name not in _NAMES:
        raise AttributeError(f"module 'kerasft.serving.monitor' has no attribute {name!r}")
    return getattr(importlib.import_module(f"kerasft.serving.monitor.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
