"""Level 6: SavedModels from strings, and the proof that they answer as the model does.

`deploy` writes what lies beside one.
"""

from typing import Any

__all__ = ["export_saved_model"]


def __getattr__(name: str) -> Any:
    """Load the exporter when it is first asked for: `c_runtime` and `deploy` run without Keras."""
    if name in __all__:
        from kerasft.export.saved_model import export_saved_model

        return export_saved_model
    raise AttributeError(f"module 'kerasft.export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
