"""Level 6: SavedModels from strings, and the proof that they answer as the model does."""

from kerasft.export.saved_model import export_saved_model

__all__ = ["export_saved_model"]
