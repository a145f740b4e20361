"""Level 6: SavedModels from strings, and the proof that they answer as the model does.

`deploy` writes what lies beside one; it needs no TensorFlow, so the rest is loaded on first use.
"""

from typing import Any

__all__ = ["export_saved_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from kerasft.export import saved_model

        return getattr(saved_model, name)
    raise AttributeError(f"module 'kerasft.export' has no attribute {name!r}")
