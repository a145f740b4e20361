"""What a source holds, counted in one pass each: for the doctor, before training."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from kerasft.data.labels import chunk_labels, order_labels
from kerasft.data.source import Source
from kerasft.data.split import TEXTUAL, text_keys

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_LENGTHS = {
    "texts": lambda texts: sum(map(len, texts)),
    "messages": lambda chat: sum(len(said) for _, said in chat),
}


@dataclasses.dataclass(frozen=True)
class Summary:
    """What one pass over a source finds.

    Args:
        rows: number of rows.
        labels: label -> number of rows that have it, in the order of `order_labels`.
        unlabelled: number of rows with no label (multi-label and spans only).
        empty: text field -> number of empty texts (of a source opened with `empty="keep"`).
        characters: field -> quantile -> length in characters, of a chat or a list all its texts'.
        numbers: number field -> "min", "mean", "max".
    """

    rows: int
    labels: dict[str, int]
    unlabelled: int
    empty: dict[str, int]
    characters: dict[str, dict[float, int]]
    numbers: dict[str, dict[str, float]]


def summarise(source: Source) -> Summary:
    """Count rows, labels, empty texts and lengths in one pass.

    Args:
        source: rows; open it with `empty="keep"`, or the first empty text is an error.

    Returns:
        A `Summary`. Memory grows with the number of different labels and lengths, not of rows.

    Example:
        summarise(source).characters["text"][0.95]  # 95 % of the texts are at most so long
    """
    texts = {f: kind for f, kind in source.fields.items() if kind in TEXTUAL}
    numbers = {f: _Range() for f, kind in source.fields.items() if kind == "number"}
    labels, lengths, rows, unlabelled = Counter(), {f: Counter() for f in texts}, 0, 0
    for chunk in source.chunks():
        rows += len(next(iter(chunk.values())))
        values = chunk_labels(source, chunk)
        if values is not None:
            labels.update(itertools.chain.from_iterable(values))
            unlabelled += sum(not row for row in values)
        for name, kind in texts.items():
            lengths[name].update(map(_LENGTHS.get(kind, len), chunk[name]))
        for name, found in numbers.items():
            found.add(chunk[name])
    return Summary(
        rows=rows,
        labels={label: labels[label] for label in order_labels(labels)},
        unlabelled=unlabelled,
        empty={f: lengths[f][0] for f, kind in texts.items() if kind == "text"},
        characters={f: quantiles(lengths[f]) for f in texts},
        numbers={f: found.result() for f, found in numbers.items()},
    )


def quantiles(counts: Mapping[int, int], shares: tuple[float, ...] = QUANTILES) -> dict[float, int]:
    """Return for each share q the least value v with (number of values <= v) >= q * all.

    Args:
        counts: value -> how often it occurs.
        shares: numbers in [0, 1].

    Returns:
        Share -> value; empty if there are no values.

    Example:
        quantiles({3: 1, 5: 1}, (0.5, 1.0))  # {0.5: 3, 1.0: 5}
    """
    values = sorted(value for value, n in counts.items() if n)
    if not values:
        return {}
    below = list(itertools.accumulate(counts[value] for value in values))
    ranks = [max(1, math.ceil(q * below[-1] - 1e-9)) for q in shares]
    return {q: values[int(np.searchsorted(below, rank))] for q, rank in zip(shares, ranks)}


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Rows whose texts are alike (see `text_key`).

    Args:
        within: part -> rows that repeat an earlier row of the part.
        across: part -> other part -> rows of the other part whose texts stand in the part too.
    """

    within: dict[str, int]
    across: dict[str, dict[str, int]]


def duplicates(sources: Mapping[str, Source]) -> Duplicates:
    """Count texts that come twice, in one part or in two; holds 8 bytes a row.

    Args:
        sources: part -> source, e.g. what `make_splits` gives.

    Returns:
        `Duplicates`; `across` has each pair of parts once, in the order of `sources`.

    Example:
        duplicates(sources).across["train"]["test"]  # test rows that were trained on
    """
    keys = {name: text_keys(source) for name, source in sources.items()}
    across = {name: {} for name in keys}
    for one, other in itertools.combinations(keys, 2):
        across[one][other] = int(np.isin(keys[other], keys[one]).sum())
    within = {name: len(found) - len(np.unique(found)) for name, found in keys.items()}
    return Duplicates(within, {name: found for name, found in across.items() if found})


class _Range:
    """Least, mean and greatest of numbers that come in chunks."""

    def __init__(self):
        self.least, self.most, self.total, self.count = math.inf, -math.inf, 0.0, 0

    def add(self, values: list[float]) -> None:
        self.least, self.most = min(self.least, *values), max(self.most, *values)
        self.total += math.fsum(values)
        self.count += len(values)

    def result(self) -> dict[str, float]:
        return {"min": self.least, "mean": self.total / self.count, "max": self.most}
