"""A source: rows of fields, read as a stream from a file, a hub or memory, as often as needed."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from kerasft._core.checks import one_of, whole
from kerasft._core.errors import InputError
from kerasft.data.fields import KINDS, OPTIONAL, SINGLE, texts
from kerasft.data.hubs import hub_table
from kerasft.data.readers import file_table
from kerasft.data.rows import BROKEN, MISSING, BadCell, Layout, helpers
from kerasft.data.tables import Optional, Table, memory_table
from kerasft.data.tagged import scheme_of

_OPTIONS = ("separator", "empty", "broken", "missing")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Rows of fields that can be read again and again; it holds none of them.

    Args:
        table: where the rows come from.
        fields: field name -> kind (see `kerasft.data.fields.converter`).
        columns: field name -> column, where the two differ.
        separator: what stands between the items of a "labels" or "texts" cell that is a string.
        empty: "error" refuses an empty text, "keep" gives it as "".
        broken: "repair" or "refuse" tags that break their scheme.
        missing: "drop" rows without one answer that their context holds, "error", or "keep".
        scheme: the scheme of the tags where texts are made of tokens, else "".

    Attributes:
        notes: what the last whole pass had to put right: "repaired tags", "moved answers",
            "missing answers" (counts), "without their answer" (the first five such rows).

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
    broken: str = "repair"
    missing: str = "drop"
    scheme: str = ""
    notes: dict[str, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _seen: list[int] = dataclasses.field(default_factory=list, init=False, repr=False)

    @property
    def name(self) -> str:
        """The file or thing that the rows come from, for messages."""
        return self.table.name

    @property
    def rows(self) -> int | None:
        """The number of rows, those that are left out too, or None while it is not known."""
        return self.table.rows if self.table.rows is not None else next(iter(self._seen), None)

    def __len__(self) -> int:
        """The number of rows; counts them in a pass of its own if nothing knows it yet."""
        if self.rows is None:
            self._seen[:] = [sum(1 for _ in self.table.read(self._layout().columns))]
        return self.rows

    def chunks(self, size: int = 2048) -> Iterator[dict[str, list]]:
        """Yield chunks of up to `size` rows as field name -> list of values.

        What the values are `kerasft.data.fields.converter` says; no value is None.

        Raises:
            InputError: with file and line, at the first row that is not as it should be.
        """
        for _, chunk in self.numbered(size):
            yield chunk

    def numbered(self, size: int = 2048) -> Iterator[tuple[list[int], dict[str, list]]]:
        """Yield (positions, chunk): `where(position)` names the row in a message."""
        whole("size", size, 1)
        layout, seen = self._layout(), 0
        rows = self.table.read(layout.columns)
        while batch := list(itertools.islice(rows, size)):
            seen += len(batch)
            try:
                positions, chunk = layout.read(batch)
            except ValueError:
                raise self._error(*layout.first_error(batch)) from None
            if positions:
                yield positions, chunk
        self._seen[:] = [seen]
        self.notes.clear()
        self.notes.update(layout.notes)

    def where(self, position: int) -> str:
        """Name a row in a message, e.g. `spam.csv, line 12`."""
        return self.table.where(position)

    def every_row(self) -> "Source":
        """The same source, with the rows that are left out for their missing answer."""
        return dataclasses.replace(self, missing="keep") if self.missing == "drop" else self

    def _layout(self) -> Layout:
        chosen = {name: getattr(self, name) for name in (*_OPTIONS, "scheme")}
        return Layout(self.fields, self.columns, where=self.where, **chosen)

    def _error(self, position: int, bad: BadCell) -> InputError:
        column = "column" if len(bad.columns) == 1 else "columns"
        names = " and ".join(map(repr, bad.columns))
        return InputError(
            f"{self.where(position)}: in {column} {names} {bad}. "
            f"Received: {_short(bad.cell)}. Correct or remove the row."
        )


def open_source(
    spec: Any,
    fields: Mapping[str, str],
    columns: Mapping[str, str] | None = None,
    separator: str | None = None,
    empty: str | None = None,
    broken: str | None = None,
    missing: str | None = None,
) -> Source:
    """Open labelled data wherever they are, and look at the first row.

    Where `fields` ask for spans of a text and the data have `tokens` and `tags` instead, text and
    spans are made of these (`kerasft.data.tagged`). Where they ask for answers, these may stand in
    `answers`, or flat in `answer` or `answer_text` and `answer_start`, and are put where their
    context holds them (`kerasft.data.squad`).

    Args:
        spec: a path to .csv, .tsv, .txt (a text a line), .jsonl, .json (one object a line, or
            SQuAD), .parquet or CoNLL (.conll, .bio, .iob, .iob2, .conllu), also with .gz or .xz,
            local or any that tf.io.gfile opens; `tfds:NAME[:SPLIT]`; `hf:NAME[:SPLIT]`; a list of
            dicts; a dict of columns; a pandas DataFrame; a numpy structured array; a tuple of
            arrays in the order of `fields`; a finite, unbatched tf.data.Dataset of dicts; a Source.
        fields: field name -> kind (see `kerasft.data.fields.converter`).
        columns: field name -> column in the data, where the two differ, also for `tokens`, `tags`,
            `answer`, `answer_text`, `answer_start` and `id`; other names are ignored.
        separator: what stands between the items of a "labels" or "texts" cell that is a string;
            that of a `Source`, else "|", when None.
        empty: "error" refuses an empty text with file and line, "keep" gives it as ""; that of a
            `Source`, else "error", when None.
        broken: "repair" reads tags that break their scheme as they were meant and counts them in
            `Source.notes`, "refuse" stops at the first; that of a `Source`, else "repair".
        missing: "drop" leaves out a row if its context holds none of its answers, "error" stops
            there, "keep" gives such an answer the start -1; the first two count them in
            `Source.notes`; that of a `Source`, else "drop".

    Returns:
        A `Source`.

    Raises:
        InputError: if the data are not there, cannot be read, lack a column or have no rows.

    Example:
        open_source("mails.csv", {"text": "text", "label": "label"}, columns={"text": "body"})
    """
    for kind in fields.values():
        one_of("kind", kind, KINDS)
    chosen = {"separator": separator, "empty": empty, "broken": broken, "missing": missing}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    for name, known in (("empty", ("error", "keep")), ("broken", BROKEN), ("missing", MISSING)):
        one_of(name, chosen.get(name, known[0]), known)
    if separator == "":
        raise InputError("`separator` must be at least one character. Received: ''.")
    known = {*fields, *helpers(fields), "tokens"}
    columns = {f: c for f, c in (columns or {}).items() if f in known}
    if isinstance(spec, Source):
        columns = {f: c for f, c in spec.columns.items() if f in known} | columns
        inherited = {name: getattr(spec, name) for name in _OPTIONS}
        source = Source(spec.table, dict(fields), columns, **inherited | chosen)
    else:
        source = Source(_table(spec, fields, columns), dict(fields), columns, **chosen)
    return _checked(source)


def _checked(source: Source) -> Source:
    """The source, made of tokens where it has to be, once its columns and first row are there."""
    kinds = {kind: field for field, kind in reversed(source.fields.items())}
    if "answers" in kinds:
        _check_answers(source, kinds["answers"])
    if "spans" in kinds or "words" in kinds:
        source = _with_scheme(source, kinds)
    try:
        first = next(source.table.read(source._layout().columns), None)
    except InputError:
        # A file of tokens is read as texts too, e.g. to predict from it.
        other = source if source.scheme else _with_scheme(source, kinds)
        if not other.scheme:
            raise
        source, first = other, next(other.table.read(other._layout().columns), None)
    if first is None:
        raise InputError(f"{source.name} has no rows. At least one is expected.")
    return source


def _with_scheme(source: Source, kinds: Mapping[str, str]) -> Source:
    """The source, with the scheme of its tags if its texts have to be made of tokens."""
    if "text" not in kinds:
        return source
    spans = kinds.get("spans", "spans")
    names = [source.columns.get(n, n) for n in (kinds["text"], spans, "tokens", "tags")]
    first = next(source.table.read(list(map(Optional, names))), None)
    text, found, tokens, tags = (None,) * 4 if first is None else first[1]
    if tokens is None or (text is not None and (found is not None or tags is None)):
        return source
    if "spans" not in kinds:
        return dataclasses.replace(source, scheme="plain") if text is None else source
    return dataclasses.replace(source, scheme=scheme_of(_tags(source, names[3])))


def _tags(source: Source, column: str) -> Iterator[tuple[str, ...]]:
    """The tags of each row that has any as they should be."""
    for _, (cell,) in source.table.read([column]):
        try:
            yield texts(cell, source.separator)
        except ValueError:  # named with its line once the row is read in earnest
            continue


def _check_answers(source: Source, field: str) -> None:
    """Raise `InputError` unless the data have a column of answers in one of its forms."""
    names = [source.columns.get(n, n) for n in (field, "answer", "answer_text")]
    for name in names[1:]:
        try:
            next(source.table.read([name]), None)
            return
        except InputError:
            continue
    next(source.table.read(names[:1]), None)


def _table(spec: Any, fields: Mapping[str, str], columns: Mapping[str, str]) -> Table:
    if isinstance(spec, (str, os.PathLike)):
        return (isinstance(spec, str) and hub_table(spec)) or file_table(spec)
    wanted = list(fields)
    if isinstance(spec, tuple) and len(spec) < len(fields):
        wanted = [field for field, kind in fields.items() if kind not in OPTIONAL]
    single = [columns.get(field, field) for field, kind in fields.items() if kind in SINGLE]
    table = memory_table(spec, [columns.get(field, field) for field in wanted], single)
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
