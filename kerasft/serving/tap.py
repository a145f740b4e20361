"""The log of requests and answers, for the monitor: rows to JSON lines, beside the requests.

A request only lays its arrays into a bounded queue. One thread measures the texts, writes the rows
and turns the file over. What the queue has no room for is dropped and counted: a slow disk costs
rows of the log, never time of a request.
"""

import contextlib
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.export.profile import PLACE, Reference, measured
from kerasft.metrics.values import plain
from kerasft.serving._protos import Example
from kerasft.serving.errors import code_of
from kerasft.serving.metrics import Metrics
from kerasft.serving.versions import Loaded

LOG = logging.getLogger("kerasft.serving")
_ROWS, _BYTES = 10_000, 64 * 2**20  # that may wait to be written
_VALUES = 4096  # of one output of a row; a longer one (a table of logits) is left out
_NAMED = ("label", "labels", "classes")  # outputs whose strings are classes, no texts of people


@dataclass(frozen=True)
class Tap:
    """What is logged, and where.

    Args:
        path: the file of JSON lines; at `most_bytes` it becomes PATH.1, in the place of the one
            before.
        texts: log the texts of requests and answers themselves. They may be private: without it
            only their lengths and their share of unknown tokens are logged, and the classes.
        most_bytes: size of the file at which it is turned over.
    """

    path: str
    texts: bool = False
    most_bytes: int = 100 * 2**20

    def __post_init__(self):
        if self.most_bytes <= 0:
            raise InputError(f"most_bytes is more than 0. Received: {self.most_bytes}.")


@dataclass(frozen=True)
class _Answered:
    """A request that was answered, until it is written."""

    version: Loaded
    time: datetime
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    examples: bool
    rows: int
    size: int


class Writer:
    """The thread behind a tap.

    Args:
        tap: what is logged, and where.
        metrics: counts rows that were written and dropped.

    Raises:
        InputError: where the file cannot be written.

    Example:
        writer = Writer(Tap("requests.jsonl"), Metrics())
        writer.offer(version, inputs, outputs)
        writer.close()
    """

    def __init__(self, tap: Tap, metrics: Metrics):
        self._tap, self._metrics = tap, metrics
        self._waiting: deque[_Answered] = deque()
        self._rows = self._bytes = 0
        self._told, self._ending = threading.Condition(), False
        self._unknown: dict[Any, int | None] = {}
        self._failing = False
        try:
            self._file = self._opened()  # closed by `_work`
        except OSError as error:
            raise InputError(f"--log {tap.path}: {error.strerror or error}.") from None
        self._thread = threading.Thread(target=self._work, name="kerasft-log", daemon=True)
        self._thread.start()

    def offer(
        self,
        version: Loaded,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
        examples: bool = False,
    ) -> None:
        """Take a request that was answered; never waits.

        Args:
            version: that answered.
            inputs: arrays by name, [batch, ...].
            outputs: arrays by name, [batch, ...].
            examples: whether the inputs are serialised tf.Examples (Classify, Regress).
        """
        rows = min(len(v) if v.ndim else 0 for v in (*inputs.values(), *outputs.values()))
        size = sum(_size(v) for v in (*inputs.values(), *outputs.values()))
        found = _Answered(version, datetime.now(UTC), inputs, outputs, examples, rows, size)
        with self._told:
            full = self._rows + rows > _ROWS or self._bytes + size > _BYTES
            if not full and not self._ending:
                self._waiting.append(found)
                self._rows, self._bytes = self._rows + rows, self._bytes + size
                self._told.notify()
                return
        self._metrics.dropped(rows)

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, for so many seconds at most, and end."""
        with self._told:
            self._ending = True
            self._told.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        try:
            while (found := self._next()) is not None:
                try:
                    self._write(found)
                    self._metrics.logged(found.rows)
                    self._failing = False
                except Exception as error:  # of the disk, or of a model's odd output
                    self._metrics.dropped(found.rows)
                    if not self._failing:  # once, not for every request
                        LOG.error("%s is not written: %s", self._tap.path, error)
                    self._failing = True
                with self._told:
                    self._rows, self._bytes = self._rows - found.rows, self._bytes - found.size
        finally:
            self._file.close()

    def _next(self) -> _Answered | None:
        """The oldest request that waits; None at the end."""
        with self._told:
            while not self._waiting and not self._ending:
                self._told.wait()
            return self._waiting.popleft() if self._waiting else None

    def _write(self, found: _Answered) -> None:
        lines = b"".join(
            json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
            for row in rows_of(found, self._tap.texts, self._tokens(found.version))
        )
        if self._file.closed or (
            self._file.tell() and self._file.tell() + len(lines) > self._tap.most_bytes
        ):
            self._file.close()
            if Path(self._tap.path).exists():
                os.replace(self._tap.path, f"{self._tap.path}.1")
            self._file = self._opened()
        before, rest = self._file.tell(), memoryview(lines)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:  # a full disk takes a part of it: no half line is left
            with contextlib.suppress(OSError):
                self._file.truncate(before)
                self._file.seek(before)
            raise

    def _opened(self) -> FileIO:
        """The file without a buffer, which would keep what a full disk refused."""
        return open(self._tap.path, "ab", buffering=0)

    def _tokens(self, version: Loaded) -> tuple[Callable, int | None] | None:
        """How texts become token ids, and the id of what is unknown; None where nobody knows."""
        if "tokenize" not in version.signatures:
            return None
        key = (version.name, version.version, version.folder)
        if key not in self._unknown:
            path, self._unknown[key] = files.join(version.folder, PLACE), None
            try:
                if files.exists(path):
                    self._unknown[key] = Reference.load(path).unknown_id
            except InputError as error:
                LOG.error("%s", error)
        return lambda texts: _ids(version, texts), self._unknown[key]


def _ids(version: Loaded, texts: list[str]) -> list[np.ndarray] | None:
    """Token ids of texts, by the model's own tokenizer."""
    array = np.empty(len(texts), object)
    array[:] = [text.encode("utf-8", "replace") for text in texts]
    try:
        found = version.answer("tokenize", {"text": array})
    except Exception as error:
        if code_of(error) != "UNAVAILABLE":
            raise
        return None  # the version was unloaded meanwhile
    return [ids[start >= 0].tolist() for ids, start in zip(found["token_ids"], found["start"])]


def rows_of(
    found: Any, texts: bool, tokens: tuple[Callable, int | None] | None = None
) -> list[dict[str, Any]]:
    """The lines of a request's rows, as JSON types.

    Args:
        found: `version` (with `name` and `version`), `time`, `inputs`, `outputs`,
            `examples` and `rows`.
        texts: whether texts are kept.
        tokens: how texts become token ids, and the id of what is unknown.
    """
    inputs = dict(found.inputs)
    if found.examples:
        inputs = _of_examples(inputs["inputs"])
    strings = {n: [_text(v) for v in values] for n, values in inputs.items() if _is_text(values)}
    pieces, unknown = tokens or (None, None)
    features = {n: v.tolist() for n, v in measured(strings, pieces, unknown).items()}
    told = found.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [
        {
            "time": told,
            "model": found.version.name,
            "version": found.version.version,
            "inputs": values_of(inputs, row, texts),
            "features": {n: round(values[row], 6) for n, values in features.items()},
            "outputs": values_of(found.outputs, row, texts, _NAMED),
        }
        for row in range(found.rows)
    ]


def _of_examples(examples: np.ndarray) -> dict[str, Any]:
    """The features of serialised tf.Examples that every one has, as rows."""
    rows = []
    for value in examples:
        feature = Example.FromString(value).features.feature
        kinds = {n: f.WhichOneof("kind") for n, f in feature.items()}
        rows.append({n: list(getattr(feature[n], k).value) for n, k in kinds.items() if k})
    shared = set.intersection(*(set(row) for row in rows)) if rows else set()
    return {n: [row[n][0] if len(row[n]) == 1 else row[n] for row in rows] for n in sorted(shared)}


def values_of(
    arrays: Mapping[str, Any], row: int, texts: bool = True, named: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What one row of some arrays holds, as JSON types; with texts, or but for those named."""
    kept = {}
    for name, values in arrays.items():
        value = values[row]
        if np.size(value) <= _VALUES and (texts or name in named or not _has_text(value)):
            kept[name] = plain(_short(value))
    return kept


def _short(value: Any) -> Any:
    """Strings for bytes, six digits for floats; the padding of a list of texts is left out."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        found = [_short(item) for item in value]
        while found and found[-1] == "":
            found.pop()
        return found
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _has_text(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "OSU"
    return any(map(_has_text, value)) if isinstance(value, list) else isinstance(value, bytes | str)


def _is_text(values: Any) -> bool:
    return len(values) > 0 and all(isinstance(value, bytes | str) for value in values)


def _size(array: np.ndarray) -> int:
    return sum(map(len, array.flat)) if array.dtype == object else array.nbytes
