"""From a description of the data to a source for each part, and the record of the split."""

import dataclasses
import hashlib
import os
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft._core.checks import nearest
from kerasft._core.errors import InputError
from kerasft.data.labels import chunk_labels, order_labels
from kerasft.data.rows import helpers
from kerasft.data.source import Source, open_source
from kerasft.data.split import TEXTUAL, Split, chunk_keys, split_rows, take, text_keys

PARTS = ("train", "validation", "test")
_BINS, _ROWS_PER_BIN = 10, 20


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The data of a run.

    Args:
        train: anything that `open_source` takes.
        validation: a share of the rows of `train` in (0, 1), or data of its own, or None.
        test: the same.
        columns: field name -> column, where the two differ.
        separator: what stands between the labels of a multi-label cell.
        broken: "repair" or "refuse" tags that break their scheme (see `open_source`).
        missing: what becomes of a row whose context holds none of its answers: "drop" (it counts,
            but nobody trains on it), "error" or "keep".

    Raises:
        InputError: if a share is out of range, or nothing is left to train on.

    Example:
        DataSpec("mails.csv", validation=0.1, test="held_out.csv", columns={"text": "body"})
    """

    train: Any
    validation: Any = 0.1
    test: Any = 0.0
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    separator: str = "|"
    broken: str = "repair"
    missing: str = "drop"

    def __post_init__(self):
        for name in ("validation", "test"):
            value = getattr(self, name)
            if isinstance(value, bool) or (_is_share(value) and not 0 <= value < 1):
                raise InputError(
                    f"`{name}` must be a share between 0 and 1, or data of its own. "
                    f"Received: {name}={value!r}."
                )
        if self.shares()["train"] <= 1e-9:
            raise InputError(
                "The shares of validation and test must leave rows to train on. "
                f"Received: validation={self.validation!r}, test={self.test!r}."
            )

    def shares(self) -> dict[str, float]:
        """Part -> share of the rows of `train`, for the parts that are made of them."""
        held_out = {n: float(v) for n in PARTS[1:] if _is_share(v := getattr(self, n)) and v > 0}
        return {"train": 1 - sum(held_out.values())} | held_out

    def others(self) -> dict[str, Any]:
        """Part -> data of its own, for the parts that have them."""
        given = {n: getattr(self, n) for n in PARTS[1:]}
        return {n: v for n, v in given.items() if v is not None and not _is_share(v)}


def make_splits(
    spec: DataSpec, fields: Mapping[str, str], seed: int = 0, empty: str = "error"
) -> tuple[dict[str, Source], Split]:
    """Open the data of a run and split what has to be split; every row is read and checked once.

    Shares are stratified by label (the rarest of a row's labels, also of those of its spans;
    quantiles of a number; not at all without either) and keep texts that are alike on one side.
    Between data that come apart, rows are never moved: `kerasft.data.duplicates` counts what they
    share.

    Args:
        spec: the data.
        fields: field name -> kind (see `kerasft.data.fields.converter`).
        seed: another seed gives another split.
        empty: "error" refuses an empty text, "keep" gives it as "".

    Returns:
        (part -> `Source`, `Split`); the parts are "train" and those of "validation" and "test" that
        were asked for.

    Raises:
        InputError: for wrong data, or if a part would have no row.

    Example:
        sources, split = make_splits(DataSpec("spam.csv"), {"text": "text", "label": "label"})
    """
    _check_fields(spec, fields)
    options = {"columns": spec.columns, "separator": spec.separator, "empty": empty}
    options |= {"broken": spec.broken, "missing": spec.missing}
    whole = open_source(spec.train, fields, **options)
    apart = {name: open_source(data, fields, **options) for name, data in spec.others().items()}
    shares, scan = spec.shares(), _Scan.of(whole)
    if (
        len(shares) > 1
        and not whole.table.steady
        and not np.array_equal(scan.keys, text_keys(whole))
    ):
        raise InputError(
            f"{whole.name} gives its rows in another order each time. "
            "Leave .shuffle() out: the rows are shuffled in training."
        )
    assignment = split_rows(scan.keys, scan.strata, shares, seed)
    sources, counted = dict(apart), {name: _Scan.of(s).count() for name, s in apart.items()}
    for number, name in enumerate(shares):
        counted[name] = scan.count(assignment == number)
        if not counted[name][0]:
            raise InputError(
                f"{whole.name} has too few rows ({len(whole)}) for a {name} share of "
                f"{shares[name]:g}. Give more rows, a larger share or data of its own."
            )
        sources[name] = take(whole, assignment, number) if len(shares) > 1 else whole
    names = [name for name in PARTS if name in sources]
    split = Split(
        names=tuple(shares),
        assignment=assignment,
        seed=seed,
        shares=shares,
        rows={name: counted[name][0] for name in names},
        counts={name: counted[name][1] for name in names},
        sources={name: sources[name].name for name in names},
        sha256=_digest(shares, scan, assignment),
    )
    return {name: sources[name] for name in names}, split


def _check_fields(spec: DataSpec, fields: Mapping[str, str]) -> None:
    if not set(fields.values()) & set(TEXTUAL):
        raise InputError(f"At least one field must be a text. Received: {dict(fields)}.")
    for field in spec.columns:
        if field not in (*fields, *helpers(fields)):
            raise InputError(
                f"`columns` names the field {field!r}; this task has: {', '.join(fields)}."
                + nearest(field, fields)
            )


@dataclasses.dataclass(frozen=True)
class _Scan:
    """What one pass leaves of a source: a few bytes a row."""

    keys: np.ndarray  # [rows] uint64
    strata: np.ndarray  # [rows] int
    label_sets: np.ndarray  # [rows] the place of the row's labels in `sets`
    sets: list[tuple[str, ...]]

    @classmethod
    def of(cls, source: Source) -> "_Scan":
        numbers = [f for f, kind in source.fields.items() if kind == "number"]
        keys, ids, values, known = array("Q"), array("i"), array("d"), {}
        # A row that nobody trains on has its place in the record too.
        for chunk in (source := source.every_row()).chunks():
            keys.extend(chunk_keys(source, chunk))
            labelled = chunk_labels(source, chunk)
            if labelled is not None:
                ids.extend(known.setdefault(labels, len(known)) for labels in labelled)
            elif numbers:
                values.extend(chunk[numbers[0]])
        sets, label_sets = list(known), np.array(ids, np.int32)
        if sets:
            strata = _rarest_label(sets, label_sets)
        else:
            strata = _quantile_bin(np.array(values)) if numbers else np.zeros(len(keys), np.int32)
        return cls(np.array(keys, np.uint64), strata, label_sets, sets)

    def count(self, chosen: np.ndarray | None = None) -> tuple[int, dict[str, int]]:
        """Number of the chosen rows, and label -> number of them."""
        chosen = np.ones(len(self.keys), bool) if chosen is None else chosen
        if not self.sets:
            return int(chosen.sum()), {}
        counts = _label_counts(self.sets, self.label_sets[chosen])
        return int(chosen.sum()), {label: int(counts[label]) for label in counts}


def _label_counts(sets: list[tuple[str, ...]], ids: np.ndarray) -> dict[str, int]:
    """Label -> rows that have it, in the order of the labels; 0 for those that none has."""
    counts = dict.fromkeys(order_labels(label for labels in sets for label in labels), 0)
    for labels, rows in zip(sets, np.bincount(ids, minlength=len(sets))):
        for label in labels:
            counts[label] += int(rows)
    return counts


def _rarest_label(sets: list[tuple[str, ...]], ids: np.ndarray) -> np.ndarray:
    """[rows] The place of each row's rarest label; rows without labels come after all others."""
    counts = _label_counts(sets, ids)
    place = {label: i for i, label in enumerate(counts)}
    none = (0, len(place))
    rarest = [min(((counts[label], place[label]) for label in s), default=none) for s in sets]
    return np.array([found for _, found in rarest], np.int32)[ids]


def _quantile_bin(values: np.ndarray) -> np.ndarray:
    """[rows] Up to ten bins with about as many rows each; equal values share a bin."""
    bins = max(1, min(_BINS, len(values) // _ROWS_PER_BIN))
    edges = np.quantile(values, np.arange(1, bins) / bins, method="lower") if bins > 1 else []
    return np.searchsorted(np.unique(edges), values).astype(np.int32)


def _digest(shares: Mapping[str, float], scan: _Scan, assignment: np.ndarray) -> str:
    digest = hashlib.sha256(",".join(shares).encode())
    for values, kind in ((scan.keys, "<u8"), (scan.strata, "<i4"), (assignment, "<u1")):
        digest.update(np.ascontiguousarray(values, kind).tobytes())
    return digest.hexdigest()


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, os.PathLike)
