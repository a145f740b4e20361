"""Texts turned into ids once, kept flat in memory or, when they are many, on disk."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Above this many ids an array goes to disk and is mapped back, page by page (int32: 512 MB).
IDS_IN_MEMORY = 128 * 1024 * 1024
# What a backbone reads; `encode` may give more, for `targets` and `decode`.
FEATURES = ("token_ids", "segment_ids", "padding_mask", "decoder_token_ids", "decoder_padding_mask")
# What stands before the features of the second sequence that an encoder-decoder reads.
DECODER = "decoder_"
# Hidden states of the tokens, where some blocks below are not run again (`training/kept.py`).
STATES = "hidden_states"
# Bytes of them that stay in memory.
STATES_IN_MEMORY = 2**31
_TARGETS, _MASK = "targets", "padding_mask"


class Batch(NamedTuple):
    """What a step learns from.

    Args:
        features: name -> int32 [rows, length], with several sequences [rows, sequences, length];
            those of a decoder (`decoder_...`) have a length of their own.
        targets: [rows, ...].
        weights: what each row counts, float32 [rows]; None: 1.
    """

    features: dict[str, np.ndarray]
    targets: np.ndarray
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class Encoded:
    """Examples of ids of different lengths, without padding.

    An example is one sequence of ids, or several that are learned together: the query and the
    passage of a search are two (`sides`), and a long text is as many as it has windows (`starts`).
    What an encoder-decoder's decoder reads, and where its targets stand, is an `Encoded` of its
    own, so that neither is padded to the other's length.

    Args:
        ids: feature name -> int32 [ids of all sequences, one after another].
        ends: int64 [sequences + 1]; sequence i is ids[ends[i]:ends[i + 1]].
        targets: what is learned, [examples, ...], or int32 [ids] where every token has a target.
        pad: feature name -> the value that fills short rows; `padding_mask` is made from lengths.
        sides: sequences in an example.
        starts: int64 [examples + 1], where examples have unlike numbers of sequences: those of
            example i are starts[i] to starts[i+1]. None: `sides` each.
        weights: what an example counts in the loss, float32 [examples]; None: each counts 1.
        folder: keeps the folder of arrays on disk alive.
        decoder: the second sequence of each example, with the same targets; None: there is none.
        states: hidden states of the tokens, float [ids, width], 0 on padding; None: there are none.
        states_folder: as `folder`.
    """

    ids: dict[str, np.ndarray]
    ends: np.ndarray
    targets: np.ndarray
    pad: dict[str, int]
    sides: int = 1
    weights: np.ndarray | None = None
    starts: np.ndarray | None = None
    folder: Any = field(default=None, repr=False, compare=False)
    decoder: "Encoded | None" = None
    states: np.ndarray | None = None
    states_folder: Any = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        if self.starts is not None:
            return len(self.starts) - 1
        return (len(self.ends) - 1) // self.sides

    @property
    def axes(self) -> tuple[int | None, ...]:
        """The axes of a feature between rows and ids."""
        if self.starts is not None:
            return (None,)
        return (self.sides,) if self.sides > 1 else ()

    @property
    def lengths(self) -> np.ndarray:
        """Ids in each example's longest sequence, int64 [examples]; of windows, in all of them."""
        if self.starts is not None:
            return np.diff(self.ends[self.starts])
        own = np.diff(self.ends).reshape(-1, self.sides).max(axis=1, initial=0)
        return own if self.decoder is None else np.maximum(own, self.decoder.lengths)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features of a batch."""
        second = () if self.decoder is None else self.decoder.names
        states = () if self.states is None else (STATES,)
        return (_MASK, *self.ids, *(DECODER + name for name in second), *states)

    @property
    def tokenwise(self) -> bool:
        """Whether every token has a target; then `weights` counts the learned ones."""
        return self.weights is not None

    def batch(self, rows: np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        """The examples as padded arrays int32 [rows, length], with `padding_mask`.

        Args:
            rows: indices of examples.
            length: the width; the longest of the sequences when None.

        Returns:
            Name -> int32 [rows, length], with several sequences [rows, sequences, length]. Of
            examples with fewer than another the last ones are padding alone.
        """
        at, real = self._places(rows, length)
        out = {"padding_mask": real.astype(np.int32)}
        for name, flat in self.ids.items():
            out[name] = _filled(flat, at, real, self.pad[name])
        if self.decoder is not None:
            second = self.decoder.batch(rows, length)
            out |= {DECODER + name: values for name, values in second.items()}
        if self.states is not None:
            out[STATES] = self.states[at] * real[..., None].astype(self.states.dtype)
        return out

    def learned(self, rows: np.ndarray, length: int | None = None) -> np.ndarray:
        """The targets of examples; of tokens [rows, length], -1 on padding."""
        if self.decoder is not None:
            return self.decoder.learned(rows, length)
        if not self.tokenwise:
            return self.targets[rows]
        return _filled(self.targets, *self._places(rows, length), -1)

    def _places(self, rows: np.ndarray, length: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Where the ids of the examples' sequences lie, and which positions are real."""
        rows = np.asarray(rows)
        if self.starts is not None:
            first, after = self.starts[rows], self.starts[rows + 1]
            number = first[:, None] + np.arange((after - first).max(initial=1))
            begin = self.ends[np.minimum(number, after[:, None])]
            sizes = self.ends[np.minimum(number + 1, after[:, None])] - begin
        else:
            if self.axes:
                rows = rows[:, None] * self.sides + np.arange(self.sides)
            begin, sizes = self.ends[rows], self.ends[rows + 1] - self.ends[rows]
        width = int(length or max(int(sizes.max(initial=1)), 1))
        place = np.arange(width)
        real = place < sizes[..., None]
        return np.where(real, begin[..., None] + place, 0), real


def _filled(flat: np.ndarray, at: np.ndarray, real: np.ndarray, fill: int) -> np.ndarray:
    values = flat[at] if len(flat) else np.zeros_like(at)
    return np.where(real, values, fill).astype(np.int32)


def encode_rows(
    chunks: Iterable[dict[str, list]],
    encode: Callable[[dict[str, list]], dict[str, np.ndarray]],
    task: Any = None,
    *,
    keep: tuple[str, ...] = FEATURES,
    pad: int = 0,
    limit: int = IDS_IN_MEMORY,
) -> Encoded:
    """Encode a stream of rows.

    Args:
        chunks: rows as `Source.chunks` gives them.
        encode: fields -> padded features with `padding_mask`, int32 [sequences, length] each.
        task: says what is learned (`targets`, `tokenwise`, `sides`); zeros when None. Where
            `sides` is None an example is all sequences of a row, which the feature `row` tells.
        keep: names of the features that the model reads; the others go, but for those that the
            task asks for (`carries`).
        pad: the id that fills short rows of `token_ids`.
        limit: more ids than this are kept on disk.

    Returns:
        `Encoded`.
    """
    flat: dict[str, list[np.ndarray]] = {}
    lengths: dict[str, list[np.ndarray]] = {_MASK: []}
    learned, counts, members, stored = [], [], [], _Store(limit)
    sides = 1 if task is None else task.sides
    tokenwise = task is not None and task.tokenwise
    keep = (*keep, *getattr(task, "carries", ()))
    for rows in chunks:
        features = encode(rows)
        masks = {n: features[n].astype(bool) for n in (_MASK, DECODER + _MASK) if n in features}
        targets = task.targets(rows, features) if task else np.zeros(len(masks[_MASK]), np.float32)
        if tokenwise:
            counts.append((targets >= 0).sum(axis=1))
            real = masks[mask_of(_TARGETS, masks)]
            flat.setdefault(_TARGETS, []).append(targets[real].astype(np.int32))
        else:
            learned.append(targets)
        if sides is None:
            members.append(np.bincount(features["row"]))
        for name, real in masks.items():
            lengths.setdefault(name, []).append(real.sum(axis=1))
        for name in (n for n in keep if n in features and n not in masks):
            real = masks[mask_of(name, masks)]
            flat.setdefault(name, []).append(features[name][real].astype(np.int32))
        stored.make_room(flat)
    ids = {name: stored.whole(name, parts) for name, parts in flat.items()}
    values = ids.pop(_TARGETS) if tokenwise else _joined(learned)
    weights = _joined(counts).astype(np.float32) if tokenwise else None
    found: Encoded | None = None
    # The decoder's sequences first, which then go with the others.
    for mask, sizes in reversed(lengths.items()):
        before = mask.removesuffix(_MASK)
        own = {n.removeprefix(before): ids[n] for n in ids if mask_of(n, lengths) == mask}
        found = Encoded(
            own,
            _ends(sizes),
            values,
            {name: pad if name == "token_ids" else 0 for name in own},
            sides=sides or 1,
            starts=_ends(members) if sides is None else None,
            weights=weights,
            folder=stored.folder,
            decoder=found,
        )
    return found


def room_for(shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, Any]:
    """An array to be filled, in memory or in a file, and what keeps the file's folder alive."""
    if np.prod(shape) * np.dtype(dtype).itemsize <= STATES_IN_MEMORY:
        return np.empty(shape, dtype), None
    folder = _Folder()
    return np.memmap(Path(folder.name) / STATES, dtype, "w+", shape=shape), folder


def mask_of(name: str, features: Container[str]) -> str:
    """The padding mask that tells how long a feature is: targets are the decoder's, if any."""
    second = DECODER + _MASK
    return second if name.startswith((DECODER, _TARGETS)) and second in features else _MASK


def _ends(parts: list[np.ndarray]) -> np.ndarray:
    """Where each of some counts ends, int64, behind a 0."""
    return np.cumsum(np.concatenate([[0], *parts]), dtype=np.int64)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class _Folder:
    """A folder that goes when nothing holds it any more."""

    def __init__(self):
        self.name = tempfile.mkdtemp(prefix="kerasft-ids-")
        weakref.finalize(self, shutil.rmtree, self.name, ignore_errors=True)


class _Store:
    """Moves arrays to files once they are large."""

    def __init__(self, limit: int):
        self.limit, self.folder = limit, None

    def make_room(self, flat: dict[str, list[np.ndarray]]) -> None:
        """Append what is in memory to files if it is too much."""
        if sum(part.size for parts in flat.values() for part in parts) <= self.limit:
            return
        if self.folder is None:
            self.folder = _Folder()
        for name, parts in flat.items():
            with open(Path(self.folder.name) / name, "ab") as file:
                for part in parts:
                    file.write(part.tobytes())
            parts.clear()

    def whole(self, name: str, parts: list[np.ndarray]) -> np.ndarray:
        """All of a feature, from memory or mapped from its file."""
        if self.folder is None:
            return np.concatenate(parts) if parts else np.zeros(0, np.int32)
        path = Path(self.folder.name) / name
        with open(path, "ab") as file:
            for part in parts:
                file.write(part.tobytes())
        return np.memmap(path, np.int32, "r")
