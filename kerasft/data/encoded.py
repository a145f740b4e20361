"""Texts turned into ids once, kept flat in memory or, when they are many, on disk."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Above this many ids an array goes to disk and is mapped back, page by page (int32: 512 MB).
IDS_IN_MEMORY = 128 * 1024 * 1024


@dataclass(frozen=True)
class Encoded:
    """Rows of ids of different lengths, without padding.

    Args:
        ids: feature name -> int32 [ids of all rows, one after another].
        ends: int64 [rows + 1], where each row begins; row i is ids[ends[i]:ends[i + 1]].
        targets: what is learned, [rows, ...].
        pad: feature name -> the value that fills short rows; `padding_mask` is made from lengths.
        folder: keeps the folder of arrays on disk alive.
    """

    ids: dict[str, np.ndarray]
    ends: np.ndarray
    targets: np.ndarray
    pad: dict[str, int]
    folder: Any = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ends) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Ids in each row, int64 [rows]."""
        return np.diff(self.ends)

    def batch(self, rows: np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        """The rows as padded arrays int32 [rows, length], with `padding_mask`.

        Args:
            rows: indices of rows.
            length: the width; the longest of the rows when None.
        """
        sizes = self.ends[rows + 1] - self.ends[rows]
        width = int(length or max(int(sizes.max(initial=1)), 1))
        place = np.arange(width)[None, :]
        real = place < sizes[:, None]
        at = np.where(real, self.ends[rows][:, None] + place, 0)
        out = {"padding_mask": real.astype(np.int32)}
        for name, flat in self.ids.items():
            filled = flat[at] if len(flat) else np.zeros_like(at)
            out[name] = np.where(real, filled, self.pad[name]).astype(np.int32)
        return out


def encode_rows(
    chunks: Iterable[dict[str, list]],
    encode: Callable[[dict[str, list]], dict[str, np.ndarray]],
    targets: Callable[[dict[str, list]], np.ndarray] | None = None,
    *,
    pad: int = 0,
    limit: int = IDS_IN_MEMORY,
) -> Encoded:
    """Encode a stream of rows.

    Args:
        chunks: rows as `Source.chunks` gives them.
        encode: fields -> padded features with `padding_mask`, int32 [rows, length] each.
        targets: fields -> what is learned, [rows, ...]; zeros when None.
        pad: the id that fills short rows of `token_ids`.
        limit: more ids than this are kept on disk.

    Returns:
        `Encoded`.
    """
    flat: dict[str, list[np.ndarray]] = {}
    lengths, learned, stored = [], [], _Store(limit)
    for rows in chunks:
        features = dict(encode(rows))
        real = features.pop("padding_mask").astype(bool)
        lengths.append(real.sum(axis=1))
        count = len(real)
        learned.append(targets(rows) if targets else np.zeros(count, np.float32))
        for name, values in features.items():
            flat.setdefault(name, []).append(values[real].astype(np.int32))
        stored.make_room(flat)
    ends = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]) if lengths else np.zeros(1)
    ids = {name: stored.whole(name, parts) for name, parts in flat.items()}
    values = np.concatenate(learned) if learned else np.zeros(0, np.float32)
    fill = {name: pad if name == "token_ids" else 0 for name in ids}
    return Encoded(ids, ends.astype(np.int64), values, fill, stored.folder)


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
