"""Level 1: open labelled data of any kind as a stream, and split them."""

from kerasft.data.batches import (
    Feed,
    Plan,
    batches,
    draw_of,
    encoder,
    feed_of,
    input_specs,
    kinds_of,
    tensors_of,
)
from kerasft.data.bundled import embedded
from kerasft.data.encoded import Batch, Encoded, encode_rows
from kerasft.data.labels import (
    check_labels,
    chunk_labels,
    discover_labels,
    label_field,
    order_labels,
)
from kerasft.data.masking import mask_tokens
from kerasft.data.packing import PackedPlan, pack_rows
from kerasft.data.rows import helpers
from kerasft.data.source import Source, open_source
from kerasft.data.spec import DataSpec, make_splits
from kerasft.data.split import Split, split_rows, take, text_key, text_keys
from kerasft.data.stats import Duplicates, Summary, duplicates, quantiles, summarise
from kerasft.data.tagged import join

__all__ = [
    "Batch",
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
    "chunk_labels",
    "discover_labels",
    "draw_of",
    "duplicates",
    "embedded",
    "encode_rows",
    "encoder",
    "feed_of",
    "helpers",
    "input_specs",
    "join",
    "kinds_of",
    "label_field",
    "make_splits",
    "mask_tokens",
    "open_source",
    "order_labels",
    "pack_rows",
    "quantiles",
    "split_rows",
    "summarise",
    "take",
    "tensors_of",
    "text_key",
    "text_keys",
]
