"""Level 1: open labelled data of any kind as a stream, and split them."""

from kerasft.data.batches import Feed, Plan, batches, encoder
from kerasft.data.bundled import embedded
from kerasft.data.encoded import Encoded, encode_rows
from kerasft.data.labels import check_labels, discover_labels, label_field, order_labels
from kerasft.data.packing import PackedPlan, pack_rows
from kerasft.data.source import Source, open_source
from kerasft.data.spec import DataSpec, make_splits
from kerasft.data.split import Split, split_rows, take, text_key, text_keys
from kerasft.data.stats import Duplicates, Summary, duplicates, quantiles, summarise

__all__ = [
    "DataSpec",
    "Duplicates",
    "Encoded",
    "Feed",
    "PackedPlan",
    "Plan",
    "Source",
    "Split",
    "Summary",
    "batches",
    "check_labels",
    "discover_labels",
    "duplicates",
    "embedded",
    "encode_rows",
    "encoder",
    "label_field",
    "make_splits",
    "open_source",
    "order_labels",
    "pack_rows",
    "quantiles",
    "split_rows",
    "summarise",
    "take",
    "text_key",
    "text_keys",
]
