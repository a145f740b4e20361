"""A table: named columns read row by row; and the tables that are already in memory."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerasft._core.checks import nearest
from kerasft._core.errors import InputError

STEP = 4096  # rows taken at a time from arrays and frames
Row = tuple[int, tuple]  # position (a line, or a row counted from 1) and the values


class Optional(str):
    """The name of a column that may be missing: its cells are None then."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Where rows come from.

    Args:
        name: the file or thing, for messages.
        read: from names of columns to an iterator of rows; each call starts anew. A name that is
            `Optional` gives None where the column is missing.
        unit: what positions count, "line" or "row".
        rows: number of rows where it is known without reading.
        steady: False if the rows may come in another order each time.
    """

    name: str
    read: Callable[[Sequence[str]], Iterator[Row]]
    unit: str = "row"
    rows: int | None = None
    steady: bool = True

    def where(self, position: int) -> str:
        """Name a row in a message, e.g. `spam.csv, line 12`."""
        return f"{self.name}, {self.unit} {position}"


def pick(name: str, wanted: Sequence[str], present: Sequence[str]) -> list[int | None]:
    """Return where the wanted columns stand; `InputError` for one that is missing or repeated."""
    present = list(present)
    for column in wanted:
        if column not in present and isinstance(column, Optional):
            continue
        if column not in present:
            there = ", ".join(repr(c) for c in present) or "none"
            raise InputError(
                f"{name} has no column {column!r}; it has: {there}."
                f"{nearest(column, present)} Name it under `columns`."
            )
        if present.count(column) > 1:
            raise InputError(f"{name} has the column {column!r} twice. Rename one of them.")
    return [present.index(column) if column in present else None for column in wanted]


def spread(cells: Sequence, there: Sequence[str], wanted: Sequence[str]) -> tuple:
    """The cells of the columns that are there, with None for those of `wanted` that are not."""
    found = dict(zip(there, cells))
    return tuple([found.get(column) for column in wanted])


def memory_table(spec: Any, wanted: Sequence[str], single: Sequence[str] = ()) -> Table | None:
    """Return the table of an object in memory, or None if `spec` is nothing that is known.

    Args:
        spec: a list of dicts, a dict of columns, a tuple of columns, a structured array, a
            DataFrame or a tf.data.Dataset.
        wanted: what the columns of a tuple are called.
        single: columns that hold one value a row, by which a batched dataset is known.
    """
    if isinstance(spec, tuple) and spec and not isinstance(spec[0], Mapping):
        return _tuple_table(spec, wanted)
    if isinstance(spec, (list, tuple)):
        return _list_table(spec)
    if isinstance(spec, Mapping):
        return _column_table("the columns", dict(spec))
    if isinstance(spec, np.ndarray) and spec.dtype.names:
        return _column_table("the array", {n: spec[n] for n in spec.dtype.names})
    if _is(spec, "pandas", "DataFrame"):
        return _frame_table(spec)
    if "tensorflow" in sys.modules and isinstance(spec, sys.modules["tensorflow"].data.Dataset):
        return dataset_table("the tf.data.Dataset", spec, single)
    return None


def _is(value: Any, module: str, kind: str) -> bool:
    """Whether `value` is of a class of a module that need not be imported to know it."""
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], kind))


def _list_table(rows: Sequence[Mapping]) -> Table:
    name = "the list"

    def read(columns: Sequence[str]) -> Iterator[Row]:
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise InputError(
                    f"{name}, row {number}: a dict is expected. Received: {type(row).__name__}."
                )
            if number == 1:
                pick(name, columns, list(row))
            yield number, tuple(row.get(c) for c in columns)

    return Table(name, read, rows=len(rows))


def _tuple_table(arrays: tuple, names: Sequence[str]) -> Table:
    if len(arrays) != len(names):
        raise InputError(
            f"A tuple of data must have one array for each of: {', '.join(names)}. "
            f"Received: {len(arrays)} arrays."
        )
    return _column_table("the tuple", dict(zip(names, arrays)))


def _column_table(name: str, columns: dict[str, Any]) -> Table:
    for key, values in columns.items():
        if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
            columns[key] = values = _series(name, key, values)
        if isinstance(values, np.ndarray) and values.ndim == 0:
            raise InputError(f"{name}: {key!r} must be a list or an array. Received: {values!r}.")
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{key}={n}" for key, n in lengths.items())
        raise InputError(f"{name} must have the same number of rows everywhere. Received: {found}.")
    rows = next(iter(lengths.values()), 0)

    def read(wanted: Sequence[str]) -> Iterator[Row]:
        pick(name, wanted, list(columns))
        for start in range(0, rows, STEP):
            stop = min(start + STEP, rows)
            none = [None] * (stop - start)
            parts = [_listed(columns[c][start:stop]) if c in columns else none for c in wanted]
            yield from enumerate(zip(*parts), start + 1)

    return Table(name, read, rows=rows)


def _series(name: str, key: str, values: Any) -> Sequence:
    """A pandas Series as an array; anything else is refused."""
    if _is(values, "pandas", "Series"):
        return _without_na(values)
    raise InputError(
        f"{name}: {key!r} must be a list or an array. Received: {type(values).__name__}."
    )


def _listed(values: Any) -> Sequence:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _frame_table(frame: Any) -> Table:
    name = "the DataFrame"

    def read(columns: Sequence[str]) -> Iterator[Row]:
        pick(name, columns, list(frame.columns))
        for start in range(0, len(frame), STEP):
            part = frame.iloc[start : start + STEP]
            none = [None] * len(part)
            values = [_without_na(part[c]) if c in part else none for c in columns]
            yield from enumerate(zip(*values), start + 1)

    return Table(name, read, rows=len(frame))


def _without_na(series: Any) -> list:
    """The values of a pandas Series, with None for each of its kinds of "missing"."""
    return [None if na else value for value, na in zip(series.tolist(), series.isna())]


def dataset_table(name: str, dataset: Any, single: Sequence[str] = ()) -> Table:
    """The table of a finite, unbatched tf.data.Dataset of dicts."""
    import tensorflow as tf

    spec = dataset.element_spec
    if not isinstance(spec, Mapping):
        raise InputError(f"{name} must give dicts of columns. Received: {_one_line(spec)}.")
    arrays = (tf.TensorSpec, tf.RaggedTensorSpec)
    if any(isinstance(spec.get(c), arrays) and spec[c].shape.rank for c in single):
        raise InputError(
            f"{name} must give one row at a time. It is batched: call .unbatch() on it."
        )
    rows = int(dataset.cardinality())
    if rows == tf.data.INFINITE_CARDINALITY:
        raise InputError(f"{name} has no end. Leave .repeat() out: the rows are repeated here.")

    def read(columns: Sequence[str]) -> Iterator[Row]:
        pick(name, columns, list(spec))
        there = [c for c in dict.fromkeys(columns) if c in spec]
        wanted = dataset.map(lambda row: tuple(row[c] for c in there or list(spec)[:1]))
        for number, cells in enumerate(wanted.as_numpy_iterator(), 1):
            yield number, spread(cells, there, columns)

    return Table(name, read, rows=rows if rows >= 0 else None, steady=False)


def _one_line(value: Any) -> str:
    return " ".join(repr(value).split())[:100]
