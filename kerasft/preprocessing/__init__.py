"""Level 1: text to ids, in the graph."""

from kerasft.preprocessing.template import Template, pack

__all__ = ["Template", "pack"]
