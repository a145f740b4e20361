"""A source: rows of fields, read as a stream from a file, a hub or memory, as often as needed."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kerasft._core.checks import one_of, whole
from kerasft._core.errors import InputError
from kerasft.data.fields import KINDS, converter
from kerasft.data.hubs import hub_table
from kerasft.data.readers import file_table
from kerasft.data.tables import Row, Table, memory_table


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Rows of fields that can be read again and again; it holds none of them.

    Args:
        table: where the rows come from.
        fields: field name -> kind: "text", "label", "labels" or "number".
        columns: field name -> column, where the two differ.
        separator: what stands between the labels of a "labels" cell that is a string.
        empty: "error" refuses an empty text, "keep" gives it as "".

    Example:
        source = open_source("spam.csv", {"text": "text", "label": "label"})
        for chunk in source.chunks():
            print(chunk["text"][0], chunk["label"][0])
    """

    table: Table
    fields: dict[str, str]
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    separator: str = "|"
    empty: str = "error"
    _seen: list[int] = dataclasses.field(default_factory=list, init=False, repr=False)

    @property
    def name(self) -> str:
        """The file or thing that the rows come from, for messages."""
        return self.table.name

    @property
    def rows(self) -> int | None:
        """The number of rows, or None while it is not known."""
        return self.table.rows if self.table.rows is not None else next(iter(self._seen), None)

    def __len__(self) -> int:
        """The number of rows; counts them in a pass of its own if nothing knows it yet."""
        if self.rows is None:
            self._seen[:] = [sum(1 for _ in self.table.read(self._wanted()))]
        return self.rows

    def chunks(self, size: int = 2048) -> Iterator[dict[str, list]]:
        """Yield chunks of up to `size` rows as field name -> list of values.

        Texts and labels are str, "labels" sorted tuples of str, numbers float.

        Raises:
            InputError: with file and line, at the first row that is not as it should be.
        """
        for _, chunk in self.numbered(size):
            yield chunk

    def numbered(self, size: int = 2048) -> Iterator[tuple[list[int], dict[str, list]]]:
        """Yield (positions, chunk): `where(position)` names the row in a message."""
        whole("size", size, 1)
        keep = self.empty == "keep"
        convert = [converter(kind, self.separator, keep) for kind in self.fields.values()]
        rows, seen = self.table.read(self._wanted()), 0
        while batch := list(itertools.islice(rows, size)):
            seen += len(batch)
            cells = zip(*(values for _, values in batch))
            try:
                columns = [list(map(one, column)) for one, column in zip(convert, cells)]
            except ValueError:
                raise self._first_error(batch, convert) from None
            yield [position for position, _ in batch], dict(zip(self.fields, columns))
        self._seen[:] = [seen]

    def where(self, position: int) -> str:
        """Name a row in a message, e.g. `spam.csv, line 12`."""
        return self.table.where(position)

    def _wanted(self) -> list[str]:
        return [self.columns.get(field, field) for field in self.fields]

    def _first_error(self, batch: list[Row], convert: list[Callable]) -> InputError:
        """The error of the first row, in the order of rows, that cannot be converted."""
        for position, cells in batch:
            for column, one, cell in zip(self._wanted(), convert, cells):
                try:
                    one(cell)
                except ValueError as error:
                    return InputError(
                        f"{self.where(position)}: in column {column!r} {error}. "
                        f"Received: {_short(cell)}. Correct or remove the row."
                    )
        raise AssertionError("a batch failed, but none of its rows does")


def open_source(
    spec: Any,
    fields: Mapping[str, str],
    columns: Mapping[str, str] | None = None,
    separator: str | None = None,
    empty: str | None = None,
) -> Source:
    """Open labelled data wherever they are, and look at the first row.

    Args:
        spec: a path to .csv, .tsv, .jsonl, .json (one object a line) or .parquet, also with .gz or
            .xz, local or any that tf.io.gfile opens; `tfds:NAME[:SPLIT]`; `hf:NAME[:SPLIT]`; a list
            of dicts; a dict of columns; a pandas DataFrame; a numpy structured array; a tuple of
            arrays in the order of `fields`; a finite, unbatched tf.data.Dataset of dicts; a Source.
        fields: field name -> kind: "text", "label", "labels" or "number".
        columns: field name -> column in the data, where the two differ; other names are ignored.
        separator: what stands between the labels of a "labels" cell that is a string; that of a
            `Source`, else "|", when None.
        empty: "error" refuses an empty text with file and line, "keep" gives it as ""; that of a
            `Source`, else "error", when None.

    Returns:
        A `Source`.

    Raises:
        InputError: if the data are not there, cannot be read, lack a column or have no rows.

    Example:
        open_source("mails.csv", {"text": "text", "label": "label"}, columns={"text": "body"})
    """
    for kind in fields.values():
        one_of("kind", kind, KINDS)
    if empty is not None:
        one_of("empty", empty, ("error", "keep"))
    if separator == "":
        raise InputError("`separator` must be at least one character. Received: ''.")
    columns = {f: c for f, c in (columns or {}).items() if f in fields}
    if isinstance(spec, Source):
        table = spec.table
        columns = {f: c for f, c in spec.columns.items() if f in fields} | columns
        separator, empty = separator or spec.separator, empty or spec.empty
    else:
        table = _table(spec, [columns.get(f, f) for f in fields])
    source = Source(table, dict(fields), columns, separator or "|", empty or "error")
    if next(table.read(source._wanted()), None) is None:
        raise InputError(f"{source.name} has no rows. At least one is expected.")
    return source


def _table(spec: Any, wanted: list[str]) -> Table:
    if isinstance(spec, (str, os.PathLike)):
        return (isinstance(spec, str) and hub_table(spec)) or file_table(spec)
    table = memory_table(spec, wanted)
    if table is None:
        raise InputError(
            "Data must be a path, tfds:NAME, hf:NAME, a list of dicts, a dict of columns, "
            "a DataFrame, a structured array, a tuple of arrays or a tf.data.Dataset. "
            f"Received: {type(spec).__name__}."
        )
    return table


def _short(value: Any) -> str:
    written = " ".join(repr(value).split())
    return written if len(written) <= 60 else written[:57] + "..."
