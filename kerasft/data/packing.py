"""Which rows share a row of a packed batch, and the arrays of such a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.data.encoded import Batch, Encoded


@dataclass(frozen=True)
class PackedPlan:
    """The packed batches of every epoch, from seed and epoch alone.

    A bin is a row of `length` positions with whole documents in it. How many documents of which
    lengths share a bin is decided once, for the lengths alone, so that every epoch has the same
    number of steps; in each epoch documents of the same length change places at random, and the
    bins are shuffled.

    Args:
        lengths: ids in each document, int [documents]; none above `length`.
        length: positions in a bin.
        batch_size: bins in a batch; the last batch of an epoch may be smaller.
        seed: seed of the shuffle.
        shuffle: False gives the same bins in the same order in every epoch (evaluation).

    Raises:
        InputError: if a document is longer than a bin.

    Example:
        >>> PackedPlan(np.array([3, 5, 2]), length=5, batch_size=2, shuffle=False).epoch(0)
        [[array([1]), array([0, 2])]]

    Reference: Johnson 1973, "Near-optimal bin packing algorithms" (best fit, longest first)
    """

    lengths: np.ndarray
    length: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self):
        whole("length", self.length, 1)
        whole("batch_size", self.batch_size, 1)
        longest = int(self.lengths.max(initial=0))
        if longest > self.length:
            raise InputError(
                f"A document has to fit into a row of {self.length} positions. Received: one of "
                f"{longest} ids. Cut documents first, or make `length` larger."
            )

    @property
    def steps(self) -> int:
        """Batches in an epoch, the same in every epoch."""
        return -(-self.bins // self.batch_size)

    @property
    def bins(self) -> int:
        """Rows of `length` positions in an epoch."""
        return len(self._packed[1]) - 1

    def epoch(self, number: int) -> list[list[np.ndarray]]:
        """The bins of each batch of an epoch, counted from 0; a bin is indices of documents."""
        documents, ends = self._packed
        order = np.arange(self.bins)
        if self.shuffle:
            random = np.random.default_rng([self.seed, number])
            documents = self._exchanged(random)[documents]
            order = random.permutation(order)
        bins = [documents[start:end] for start, end in pairwise(ends)]
        chosen = [bins[i] for i in order]
        return [chosen[i : i + self.batch_size] for i in range(0, len(chosen), self.batch_size)]

    def batch(self, rows: Encoded, chosen: Sequence[np.ndarray], length: Any = None) -> Batch:
        """The arrays of some bins; tokens are learned where the documents' own are."""
        features = pack_rows(rows, chosen, self.length)
        targets = features.pop("targets")
        weights = [rows.weights[documents].sum() for documents in chosen]
        return Batch(features, targets, np.asarray(weights, np.float32))

    def fill(self) -> float:
        """Share of the positions of an epoch that hold real tokens."""
        return float(self.lengths.sum()) / max(self.bins * self.length, 1)

    def _exchanged(self, random: np.random.Generator) -> np.ndarray:
        """Which document takes the place of each: a random one of the same length."""
        shuffled = random.permutation(len(self.lengths))
        places = np.argsort(self.lengths, kind="stable")
        takers = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]
        found = np.empty_like(places)
        found[places] = takers
        return found

    @cached_property
    def _packed(self) -> tuple[np.ndarray, np.ndarray]:
        """Documents, bin after bin, and where each bin begins and ends: int [bins + 1]."""
        bins = best_fit(self.lengths, self.length)
        ends = np.cumsum([0, *map(len, bins)])
        return np.array([i for one in bins for i in one], np.int64), ends


def best_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Bins by best fit, longest first: each document goes where it leaves the least room.

    Args:
        lengths: int [documents], none above `capacity`.
        capacity: positions in a bin.

    Returns:
        Indices of the documents of each bin.
    """
    bins: list[list[int]] = []
    by_room: list[list[list[int]]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set where a bin has room for r more, so that the next r is found at once
    for document in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[document])
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            chosen = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, chosen = capacity, []
            bins.append(chosen)
        chosen.append(document)
        by_room[room - size].append(chosen)
        rooms |= 1 << (room - size)
    return bins


def pack_rows(rows: Encoded, bins: Sequence[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """The documents of each bin side by side, as the arrays of one batch.

    Args:
        rows: the encoded documents.
        bins: indices of the documents of each bin, as `PackedPlan.epoch` gives them.
        length: positions in a bin.

    Returns:
        int32 [bins, length] each: every feature of `rows`, `padding_mask`, and `document_ids`,
        which counts the documents of a bin from 1 and is 0 on padding; where tokens have targets
        also `targets`, -1 on padding. What is learned from a next token must leave out the last
        token of each document.

    Raises:
        InputError: if the documents of a bin are longer than `length`.

    Example:
        >>> features = pack_rows(rows, plan.epoch(0)[0], plan.length)
    """
    # An empty text takes no place and no number.
    bins = [one[rows.ends[one + 1] > rows.ends[one]] for one in map(np.asarray, bins)]
    totals = [int((rows.ends[one + 1] - rows.ends[one]).sum()) for one in bins]
    if max(totals, default=0) > length:
        raise InputError(
            f"The documents of a bin have to fit into {length} positions. Received: {max(totals)} "
            "ids in one. Use the `length` of the plan that made the bins."
        )
    documents = np.concatenate([*bins, np.zeros(0, np.int64)])
    sizes = rows.ends[documents + 1] - rows.ends[documents]
    # For each token: which document it is of, its place in the batch and in the flat ids.
    owner = np.repeat(np.arange(len(documents)), sizes)
    inside = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    source = rows.ends[documents][owner] + inside
    row = np.repeat(np.arange(len(bins)), totals)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(totals) - totals, totals)
    numbers = np.concatenate([np.arange(1, len(one) + 1) for one in [*bins, ()]])

    def spread(values: np.ndarray, pad: int) -> np.ndarray:
        out = np.full((len(bins), length), pad, np.int32)
        out[row, place] = values
        return out

    out = {name: spread(flat[source], rows.pad[name]) for name, flat in rows.ids.items()}
    ones = np.ones(len(owner), np.int32)
    out |= {"targets": spread(rows.targets[source], -1)} if rows.tokenwise else {}
    return out | {"padding_mask": spread(ones, 0), "document_ids": spread(numbers[owner], 0)}
