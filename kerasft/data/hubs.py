"""Tables of data sets by name: `tfds:NAME[:SPLIT]` and `hf:NAME[:SPLIT]`."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kerasft._core.errors import InputError
from kerasft._core.extras import require
from kerasft.data.tables import Row, Table, dataset_table, pick

# A tfds name may carry a version (`ag_news_subset:1.0.0`), a split a slice (`train[:10%]`).
_NAME = re.compile(r"(?P<name>[^:\[\]]+(:[\d*]+\.[\d.*]+)?)(:(?P<split>.+))?")


def hub_table(spec: str) -> Table | None:
    """Return the table of `tfds:NAME[:SPLIT]` or `hf:NAME[:SPLIT]`, None for another string.

    The split is `train` unless given. Labels that the hub stores as class numbers become the
    names of the classes. `hf:OWNER/NAME/CONFIG` names a configuration, and after `hf:` may stand
    a local folder that `datasets.load_dataset` reads.

    Raises:
        InputError: if the data set cannot be loaded.
        MissingExtra: if `hf:` is asked for and `datasets` is not installed.
    """
    scheme, _, rest = spec.partition(":")
    if scheme not in _HUBS or rest.startswith("//"):
        return None
    match = _NAME.fullmatch(rest)
    if not match:
        raise InputError(
            f"A data set is written {scheme}:NAME or {scheme}:NAME:SPLIT. Received: {spec!r}."
        )
    return _HUBS[scheme](spec, match["name"], match["split"] or "train")


def _tfds_table(spec: str, name: str, split: str) -> Table:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
        # It reports on stdout, which belongs to the answers of a command.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare()
        # One file after the other, so that every pass gives the rows in one order.
        config = tfds.ReadConfig(interleave_cycle_length=1)
        data = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    except Exception as error:  # each data set raises what its own download script raises
        raise _not_loaded(spec, error) from error
    table = dataset_table(spec, data)
    return _with_class_names(table, builder.info.features, steady=True)


def _hf_table(spec: str, name: str, split: str) -> Table:
    datasets = require("datasets", "hf")
    parts = name.split("/")
    local = parts[0] in ("", ".", "..")
    config = parts.pop() if len(parts) == 3 and not local else None
    try:
        data = datasets.load_dataset("/".join(parts), name=config, split=split)
    except Exception as error:  # the hub, the disk and the builder each have their own classes
        raise _not_loaded(spec, error) from error

    def read(columns: Sequence[str]) -> Iterator[Row]:
        pick(spec, columns, list(data.features))
        there = [c for c in dict.fromkeys(columns) if c in data.features]
        # Other columns are dropped first, so that images and sound are not decoded in vain.
        chosen = data.select_columns([str(c) for c in there] or list(data.features)[:1])
        for number, row in enumerate(chosen, 1):
            yield number, tuple(row[c] if c in there else None for c in columns)

    return _with_class_names(Table(spec, read, rows=len(data)), data.features, steady=True)


def _with_class_names(table: Table, features: Mapping, steady: bool) -> Table:
    def read(columns: Sequence[str]) -> Iterator[Row]:
        rows = table.read(columns)
        decoders = [_decoder(features[c]) if c in features else None for c in columns]
        if not any(decoders):
            return rows
        return ((n, tuple(d(v) if d else v for d, v in zip(decoders, row))) for n, row in rows)

    return Table(table.name, read, rows=table.rows, steady=steady)


def _decoder(feature: Any) -> Callable | None:
    """From class numbers to names, for a ClassLabel or a sequence of them; -1 is "no label"."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    if not names:
        return None

    def one(value: Any) -> str | None:
        return names[value] if value >= 0 else None

    return one if inner is feature else lambda values: [one(v) for v in values]


def _not_loaded(spec: str, error: Exception) -> InputError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InputError(f"The data set {spec} cannot be loaded: {reason.rstrip('.')}.")


_HUBS = {"tfds": _tfds_table, "hf": _hf_table}
