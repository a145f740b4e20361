"""Level 1: text to ids, in the graph."""

from kerasft.preprocessing import chat, tags
from kerasft.preprocessing.template import Template, pack

__all__ = ["Template", "chat", "pack", "tags"]
