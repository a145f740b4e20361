"""Split rows in parts: stratified, duplicates on one side, by content and seed alone."""

import dataclasses
import hashlib
import unicodedata
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerasft._core.checks import one_of, whole
from kerasft._core.errors import InputError
from kerasft.data.source import Source
from kerasft.data.tables import Row

TEXTUAL = ("text", "optional text", "texts", "messages")


def text_key(*texts: str) -> int:
    """64 bits that two rows share when their texts differ by case, width or white space only.

    key = blake2b(NFKC(text), casefolded, each run of white space one space)

    Args:
        texts: the texts of one row.

    Returns:
        An integer in [0, 2**64).

    Example:
        text_key("Free  PRIZE") == text_key("free prize")  # True
    """
    digest = hashlib.blake2b("\x1f".join(map(_normal, texts)).encode("utf-8"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _normal(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def text_keys(source: Source) -> np.ndarray:
    """Return [rows] uint64, the `text_key` of each row of a source, none left out."""
    keys = array("Q")
    for chunk in (source := source.every_row()).chunks():
        keys.extend(chunk_keys(source, chunk))
    return np.array(keys, np.uint64)


def chunk_keys(source: Source, chunk: Mapping[str, list]) -> Iterator[int]:
    """Yield the `text_key` of each row of a chunk, over all that its fields hold of text."""
    texts = [_written(chunk[f], kind) for f, kind in source.fields.items() if kind in TEXTUAL]
    return (text_key(*row) for row in zip(*texts))


def _written(values: list, kind: str) -> list[str]:
    """The values of a textual field, each as one string."""
    if kind == "texts":
        return ["\x1e".join(texts) for texts in values]
    if kind == "messages":
        return ["\x1e".join(f"{role}: {said}" for role, said in chat) for chat in values]
    return values


def split_rows(
    keys: Sequence[int] | np.ndarray,
    strata: Sequence[int] | np.ndarray,
    shares: Mapping[str, float],
    seed: int = 0,
) -> np.ndarray:
    """Give each row its part: the same whatever the order of the rows.

    In each stratum the distinct texts, in an order drawn from `seed`, fill the parts up to
    share * rows (largest remainder; what rounding keeps from a part, the next stratum makes up
    for). A stratum with at least as many distinct texts as there are parts has a row in each; with
    fewer, the first part comes first. A text that stands in several strata counts for the rarest.

    Args:
        keys: [rows] what `text_key` gives; rows with one key end up in one part.
        strata: [rows] integers, e.g. the number of the label.
        shares: name of a part -> share of the rows; they add up to 1.
        seed: another seed gives another split.

    Returns:
        [rows] uint8, the place of the row's part in `shares`.

    Raises:
        InputError: if the shares are negative or do not add up to 1.

    Example:
        split_rows(keys, label_ids, {"train": 0.8, "validation": 0.1, "test": 0.1}, seed=0)
    """
    fractions = np.array(list(shares.values()), np.float64)
    if not (np.all(fractions >= 0) and abs(fractions.sum() - 1) < 1e-9):
        raise InputError(f"Shares must be at least 0 and add up to 1. Received: {dict(shares)}.")
    texts, text_of_row, sizes = np.unique(
        np.asarray(keys, np.uint64), return_inverse=True, return_counts=True
    )
    if not len(texts):
        return np.zeros(0, np.uint8)
    stratum = _rarest_stratum(text_of_row, np.asarray(strata))
    order = np.lexsort((_shuffled(texts, seed), stratum))
    borders = np.flatnonzero(np.diff(stratum[order])) + 1
    part_of_text = np.empty(len(texts), np.uint8)
    owed = np.zeros(len(fractions))  # rows that rounding kept from each part so far
    for members in np.split(order, borders):
        fair = sizes[members].sum() * fractions
        found = _allot(sizes[members], np.maximum(fair + np.clip(owed, -1, 1), 0), fractions)
        owed += fair - np.bincount(found, sizes[members], minlength=len(fractions))
        part_of_text[members] = found
    return part_of_text[text_of_row]


def _rarest_stratum(text_of_row: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """[texts] For each text the one of its strata that has the fewest distinct texts."""
    names, stratum_of_row = np.unique(strata, return_inverse=True)
    pairs = np.unique(text_of_row * len(names) + stratum_of_row)
    text, stratum = np.divmod(pairs, len(names))
    rank = np.empty(len(names), np.int64)
    rarest_first = np.argsort(np.bincount(stratum, minlength=len(names)), kind="stable")
    rank[rarest_first] = np.arange(len(names))
    starts = np.flatnonzero(np.diff(text, prepend=-1))
    return np.minimum.reduceat(rank[stratum], starts)


def _shuffled(keys: np.ndarray, seed: int) -> np.ndarray:
    """Distinct keys as distinct numbers in an order that depends on the seed (splitmix64)."""
    whole("seed", seed)
    return _mix(keys ^ _mix(np.array([seed % 2**64], np.uint64)))


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _allot(sizes: np.ndarray, targets: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Parts of the texts of one stratum, whose sizes (in rows) come in random order."""
    parts = np.empty(len(sizes), np.uint8)
    filled = np.zeros(len(fractions))
    # A text with more copies than half of the smallest part would swamp it: those go first,
    # the largest ahead, each to where most rows are still wanted.
    smallest = sizes.sum() * fractions[fractions > 0].min()
    huge = (sizes > 1) & (sizes > smallest / 2)
    for i in sorted(np.flatnonzero(huge), key=lambda i: -sizes[i]):
        parts[i] = np.argmax(np.where(fractions > 0, targets - filled, -np.inf))
        filled[parts[i]] += sizes[i]
    rest = sizes[~huge]
    edges = np.cumsum(_largest_remainder(np.maximum(targets - filled, 0), rest.sum()))
    parts[~huge] = np.searchsorted(edges, np.cumsum(rest) - rest / 2, side="right")
    return _none_empty(parts, sizes, fractions)


def _largest_remainder(weights: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in proportion to the weights that add up to `total`."""
    if not total:
        return np.zeros(len(weights), np.int64)
    exact = weights / weights.sum() * total
    counts = np.floor(exact).astype(np.int64)
    missing = int(total - counts.sum())
    # Rounded, so that equal remainders are equal whatever their last bit.
    counts[np.argsort(np.round(counts - exact, 6), kind="stable")[:missing]] += 1
    return counts


def _none_empty(parts: np.ndarray, sizes: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Move single texts until no part is empty, or until the first parts have one each."""
    wanted = sorted(np.flatnonzero(fractions > 0), key=lambda p: (p > 0, -fractions[p]))
    wanted = wanted[: len(parts)]
    for part in wanted:
        counts = np.bincount(parts, minlength=len(fractions))
        if counts[part] == 0:
            counts[wanted] -= 1  # what a part can spare
            givers = np.flatnonzero(parts == np.argmax(counts))
            parts[givers[np.argmin(sizes[givers])]] = part
    return parts


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Which row went where: the record of a split.

    Args:
        names: names of the parts; the place of a name is its number in `assignment`.
        assignment: [rows] uint8, the part of each row of the training data as they were given.
        seed: the seed of the split.
        shares: part -> share of those rows; a part that came from data of its own has none.
        rows: part -> number of rows.
        counts: part -> label -> number of rows; empty where there are no labels.
        sources: part -> name of the data that it comes from.
        sha256: hex digest of the rows' texts, strata and parts, in order.
    """

    names: tuple[str, ...]
    assignment: np.ndarray
    seed: int
    shares: dict[str, float]
    rows: dict[str, int]
    counts: dict[str, dict[str, int]]
    sources: dict[str, str]
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The record without the assignment, which data and seed give again; JSON types only."""
        record = dataclasses.asdict(self) | {"names": list(self.names)}
        del record["assignment"]
        return record

    def to_csv(self) -> str:
        """Lines `row,part` for the rows of the data that were split, counted from 1."""
        lines = (f"{i},{self.names[part]}" for i, part in enumerate(self.assignment.tolist(), 1))
        return "\n".join(["row,part", *lines]) + "\n"


def take(source: Source, assignment: np.ndarray, part: int) -> Source:
    """Return the source of one part's rows, read as a stream out of the whole.

    Args:
        source: all rows, in the order of `assignment`.
        assignment: [rows] the part of each row.
        part: the part to take.

    Returns:
        A `Source`; reading it raises `InputError` if the data have another number of rows by now.

    Example:
        validation = take(source, split.assignment, split.names.index("validation"))
    """
    one_of("part", part, range(256))
    whole_table, chosen = source.table, np.asarray(assignment) == part
    mask = chosen.tobytes()

    def read(columns: Sequence[str]) -> Iterator[Row]:
        rows, count = whole_table.read(columns), 0
        for wanted, row in zip(mask, rows):
            count += 1
            if wanted:
                yield row
        if count < len(mask) or next(rows, None) is not None:
            raise InputError(
                f"{source.name} has changed since it was split: {len(mask)} rows are expected. "
                "Start again, or bring back the file."
            )

    table = dataclasses.replace(whole_table, read=read, rows=int(chosen.sum()))
    return dataclasses.replace(source, table=table)
