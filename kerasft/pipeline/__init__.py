"""Level 7: text in, answers out."""

from kerasft.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
