"""Rows cut into windows, each kept in bounded memory."""

import re
from collections import Counter
from collections.abc import Iterable

from kerasft._core.errors import InputError
from kerasft.metrics.drift import Draw
from kerasft.serving.monitor.rows import Row

_KEPT, _VECTORS = 20_000, 500  # values of a feature, and embeddings, that a window keeps
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def span_of(text: str) -> tuple[int | None, float | None]:
    """How long a window is: rows, or seconds.

    Raises:
        InputError: for a text that says neither.

    Example:
        >>> span_of("1000"), span_of("1h")
        ((1000, None), (None, 3600.0))
    """
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd]?)", str(text))
    if not found:
        raise InputError(
            f"--window is a number of rows, such as 1000, or a time, such as 30m, 1h or 1d. "
            f"Received: {text!r}."
        )
    number = int(found[1])
    return (None, float(number * _UNITS[found[2]])) if found[2] else (number, None)


class Window:
    """Rows of one stretch of the log.

    Args:
        start: number of its first row (windows of rows) or the second it begins (of time).
        features: names of those that are kept.
        vectors: whether embeddings are kept.
    """

    def __init__(self, start: float, features: Iterable[str], vectors: bool = False):
        self.start, self.rows, self.answered = start, 0, 0
        self.first = self.last = None  # times of its rows, the least and the greatest
        self.classes: Counter[str] = Counter()
        self._features = {name: Draw(_KEPT) for name in features}
        self._vectors = Draw(_VECTORS) if vectors else None

    def add(self, row: Row, known: set[str] | None = None) -> None:
        """Take a row; of its classes those in `known`, all when None."""
        self.rows += 1
        if row.time is not None:
            self.first = row.time if self.first is None else min(self.first, row.time)
            self.last = row.time if self.last is None else max(self.last, row.time)
        if row.classes is not None and (known is None or known.issuperset(row.classes)):
            self.answered += 1
            self.classes.update(set(row.classes))
        for name, draw in self._features.items():
            if name in row.features:
                draw.add(row.features[name])
        if self._vectors is not None and row.embedding is not None:
            self._vectors.add(row.embedding)

    def values(self, feature: str) -> list[float]:
        """Values of a feature, a draw of 20,000 where there were more."""
        return self._features[feature].values

    @property
    def vectors(self) -> list[tuple[float, ...]]:
        """Embeddings, a draw of 500 where there were more."""
        return self._vectors.values if self._vectors is not None else []


class Windows:
    """Windows one after the other: so many rows each, or so many seconds.

    A window of time begins at a multiple of its length. A row from before it, because a clock went
    back or a request was slow, counts in the window that stands.

    Args:
        rows: of a window, or None.
        seconds: of a window, or None.
        features, vectors: see `Window`.
        known: the classes of the model, None for any.
    """

    def __init__(
        self,
        rows: int | None,
        seconds: float | None,
        features: Iterable[str],
        vectors: bool = False,
        known: Iterable[str] | None = None,
    ):
        self._rows, self._seconds = rows, seconds
        self._features, self._vectors = tuple(features), vectors
        self._known = None if known is None else set(known)
        self._count, self.late = 0, 0
        self.open: Window | None = None

    def add(self, row: Row) -> Window | None:
        """Take a row; the window that it ended, if it did.

        Raises:
            InputError: for windows of time, where the log has no times.
        """
        done = None
        if self._seconds is None:
            start: float = self._count // self._rows * self._rows
        elif row.time is None:
            raise InputError(
                "This log holds no times: give a number of rows, such as --window 1000."
            )
        else:
            start = row.time // self._seconds * self._seconds
        self._count += 1
        if self.open is not None and self._seconds is not None and start < self.open.start:
            self.late += 1
        elif self.open is None or start > self.open.start:
            done, self.open = self.open, Window(start, self._features, self._vectors)
        self.open.add(row, self._known)
        if self._seconds is None and self.open.rows == self._rows:
            done, self.open = self.open, None
        return done

    def expired(self, now: float) -> Window | None:
        """The window of time that has ended by the clock, if it has."""
        if self._seconds is None or self.open is None or now < self.open.start + self._seconds:
            return None
        done, self.open = self.open, None
        return done
