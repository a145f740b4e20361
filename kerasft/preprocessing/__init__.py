"""Level 1: text to ids, in the graph."""

from kerasft.preprocessing import chat, tags
from kerasft.preprocessing.groups import in_groups
from kerasft.preprocessing.template import Template, pack, ragged_ids
from kerasft.preprocessing.windows import beside, by_row, row_begins, taken, windows

__all__ = [
    "Template",
    "beside",
    "by_row",
    "chat",
    "in_groups",
    "pack",
    "ragged_ids",
    "row_begins",
    "tags",
    "taken",
    "windows",
]
