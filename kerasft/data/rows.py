"""From the cells of rows to the values of their fields, where fields may share columns."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kerasft.data import squad
from kerasft.data.fields import OPTIONAL, answers, converter, spans, text, texts, whole_number
from kerasft.data.tables import Optional, Row
from kerasft.data.tagged import join, read_tags

BROKEN = ("repair", "refuse")
MISSING = ("drop", "error", "keep")
_LISTED = 5  # rows whose answer is missing that `notes` names


class BadCell(ValueError):
    """A cell, or cells that do not fit together: what is expected, in which columns."""

    def __init__(self, columns: Sequence[str], cell: Any, reason: object):
        super().__init__(str(reason))
        self.columns, self.cell = tuple(columns), cell


@dataclasses.dataclass(frozen=True)
class Cell:
    """A column that becomes a field."""

    column: str
    field: str
    convert: Callable[[Any], Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.column,)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are given."""
        return (self.field,)

    def values(self, positions: Sequence[int], cells: Sequence[Sequence]) -> list[list]:
        """The values of each field, a list a field."""
        return [list(map(self.convert, cells[0]))]

    def check(self, position: int, cells: Sequence) -> None:
        """Raise `BadCell` if the row cannot be converted."""
        _of(self.column, cells[0], self.convert)


@dataclasses.dataclass(frozen=True)
class Joined:
    """Columns that become fields together; a value is None where the row is left out."""

    columns: tuple[str, ...]
    fields: tuple[str, ...]
    convert: Callable[..., tuple]  # (position, *cells) -> one value a field

    def values(self, positions: Sequence[int], cells: Sequence[Sequence]) -> list[list]:
        """The values of each field, a list a field."""
        return list(map(list, zip(*map(self.convert, positions, *cells))))

    def check(self, position: int, cells: Sequence) -> None:
        """Raise `BadCell` if the row cannot be converted."""
        try:
            self.convert(position, *cells)
        except BadCell:
            raise
        except ValueError as error:
            raise BadCell(self.columns, cells, error) from None


def _of(column: str, cell: Any, convert: Callable[[Any], Any]) -> Any:
    try:
        return convert(cell)
    except ValueError as error:
        raise BadCell((column,), cell, error) from None


def helpers(fields: Mapping[str, str]) -> tuple[str, ...]:
    """Names that `columns` may use besides the fields: what a field may be made of.

    Example:
        helpers({"text": "text", "spans": "spans"})  # ("tokens", "tags")
    """
    kinds = set(fields.values())
    tagged = ("tokens", "tags") if kinds & {"spans", "words"} else ()
    found = ("answer", "answer_text", "answer_start", "id") if "answers" in kinds else ()
    return tuple([name for name in tagged + found if name not in fields])


class Layout:
    """How the fields of one pass are read; `notes` is what it had to put right.

    Args:
        fields: field name -> kind.
        columns: field name (or one of `helpers`) -> column, where the two differ.
        separator: what stands between the items of a cell that is a string.
        empty: "error" or "keep".
        broken: "repair" or "refuse".
        missing: "drop", "error" or "keep".
        scheme: the scheme of the tags where texts are made of tokens, else "".
        where: names a row by its position.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        columns: Mapping[str, str],
        separator: str = "|",
        empty: str = "error",
        broken: str = "repair",
        missing: str = "drop",
        scheme: str = "",
        where: Callable[[int], str] = str,
    ):
        self._fields, self._names, self._where = fields, columns, where
        self._separator, self._keep = separator, empty == "keep"
        self._broken, self._missing, self._scheme = broken, missing, scheme
        self._counts: Counter[str] = Counter()
        self._listed: list[str] = []
        self.parts = self._all_parts()

    @property
    def columns(self) -> list[str]:
        """The columns to be read, in order; those that may be missing are `Optional`."""
        return [column for part in self.parts for column in part.columns]

    @property
    def notes(self) -> dict[str, Any]:
        """What was put right so far: counts, and which answers are missing."""
        found: dict[str, Any] = {name: n for name, n in self._counts.items() if n}
        return found | ({"without their answer": list(self._listed)} if self._listed else {})

    def read(self, batch: Sequence[Row]) -> tuple[list[int], dict[str, list]]:
        """Turn rows into (positions, field -> values); rows that are left out are in neither.

        Raises:
            ValueError: if a row cannot be converted; `first_error` finds it.
        """
        positions = [position for position, _ in batch]
        cells, at, found = list(zip(*(values for _, values in batch))), 0, {}
        for part in self.parts:
            end = at + len(part.columns)
            found |= zip(part.fields, part.values(positions, cells[at:end]))
            at = end
        out = set()
        for part in self.parts:
            if isinstance(part, Joined):
                out.update(i for i, v in enumerate(found[part.fields[0]]) if v is None)
        if out:
            positions = [p for i, p in enumerate(positions) if i not in out]
            found = {f: [v for i, v in enumerate(c) if i not in out] for f, c in found.items()}
        return positions, {field: found[field] for field in self._fields}

    def first_error(self, batch: Sequence[Row]) -> tuple[int, BadCell]:
        """The first row, in their order, that cannot be converted, and why."""
        for position, cells in batch:
            at = 0
            for part in self.parts:
                end = at + len(part.columns)
                try:
                    part.check(position, cells[at:end])
                except BadCell as error:
                    return position, error
                at = end
        raise AssertionError("a batch failed, but none of its rows does")

    # --- parts ----------------------------------------------------------------------------------

    def _column(self, field: str) -> str:
        return self._names.get(field, field)

    def _field(self, kind: str, name: str = "") -> str | None:
        """The first field of a kind, or the one of that name."""
        found = [f for f, k in self._fields.items() if k == kind and name in ("", f)]
        return found[0] if found else None

    def _all_parts(self) -> list[Cell | Joined]:
        made = [self._made_of_tokens() if self._scheme else self._with_spans()]
        made += [self._with_answers(), self._with_borders()]
        made = [part for part in made if part]
        taken = {field for part in made for field in part.fields}
        cells = []
        for field, kind in self._fields.items():
            if field not in taken:
                column = self._column(field)
                convert = converter(kind, self._separator, self._keep)
                column = Optional(column) if kind in OPTIONAL else column
                cells.append(Cell(column, field, convert))
        return cells + made

    def _made_of_tokens(self) -> Joined:
        """Text, spans and words out of tokens and tags."""
        kinds = {kind: self._field(kind) for kind in ("text", "spans", "words")}
        fields = {kind: field for kind, field in kinds.items() if field}
        tagged = "spans" in fields
        names = tuple([self._column(n) for n in ("tokens", "tags")[: 1 + tagged]])

        def convert(position: int, *cells: Any) -> tuple:
            lists = [_of(n, c, lambda c: texts(c, self._separator)) for n, c in zip(names, cells)]
            if len(set(map(len, lists))) > 1:
                found = f"{len(lists[0])} tokens and {len(lists[1])} tags"
                raise ValueError(f"as many tags as tokens are expected, but there are {found}")
            if not lists[0] and not self._keep:
                raise ValueError("a text is expected, but it has no tokens")
            written, words = join(lists[0])
            found = {"text": written, "words": words}
            if tagged:
                found["spans"], wrong = read_tags(words, lists[1], self._scheme)
                self._repaired(wrong, *lists)
            return tuple([found[kind] for kind in fields])

        return Joined(names, tuple(fields.values()), convert)

    def _repaired(self, wrong: list[int], tokens: Sequence[str], tags: Sequence[str]) -> None:
        if wrong and self._broken == "refuse":
            place = wrong[0]
            raise ValueError(
                f"tags of the scheme {self._scheme.upper()} are expected, but {tags[place]!r} at "
                f"token {place + 1} ({tokens[place]!r}) breaks it"
            )
        self._counts["repaired tags"] += len(wrong)

    def _with_spans(self) -> Joined | None:
        """A text and spans that lie inside it."""
        fields = self._field("text"), self._field("spans")
        if None in fields:
            return None
        names = tuple(map(self._column, fields))

        def convert(position: int, *cells: Any) -> tuple:
            written = _of(names[0], cells[0], lambda cell: text(cell, self._keep))
            found = _of(names[1], cells[1], spans)
            if found and found[-1][1] > len(written):
                raise ValueError(
                    f"spans inside the text are expected, but one ends at {found[-1][1]} and the "
                    f"text has {len(written)} characters"
                )
            return written, found

        return Joined(names, fields, convert)

    def _with_borders(self) -> Joined | None:
        """A text and the parts of it that NAME_start and NAME_end say."""
        named = [f.removesuffix("_start") for f, k in self._fields.items() if k == "whole"]
        named = [n for n in named if {f"{n}_start", f"{n}_end"} <= self._fields.keys()]
        if not named or "text" not in self._fields:
            return None
        fields = ("text", *(f"{n}_{side}" for n in named for side in ("start", "end")))
        names = tuple(map(self._column, fields))

        def convert(position: int, *cells: Any) -> tuple:
            written = _of(names[0], cells[0], lambda cell: text(cell, self._keep))
            places = [_of(n, c, whole_number) for n, c in zip(names[1:], cells[1:])]
            for name, start, end in zip(named, places[::2], places[1::2]):
                if not 0 <= start < end <= len(written):
                    raise ValueError(
                        f"0 <= {name}_start < {name}_end <= {len(written)}, the length of the "
                        f"text, is expected, but they are {start} and {end}"
                    )
            return written, *places

        return Joined(names, fields, convert)

    def _with_answers(self) -> Joined | None:
        """A context and the answers in it, from any of the forms that they come in."""
        target, context = self._field("answers"), self._field("text", "context")
        if target is None:
            return None
        named = [self._column(n) for n in (target, "answer", "answer_text", "answer_start", "id")]
        names = tuple(map(Optional, named))

        def convert(position: int, *cells: Any) -> tuple:
            *written, given, answer, answer_text, start, name = cells
            column = names[0] if given is not None else names[2 if answer is None else 1]
            found = squad.gather(given, answer, answer_text, start)
            found = _of(column, found, answers)
            if not written:
                return (found,)
            held = _of(self._column(context), written[0], lambda cell: text(cell, self._keep))
            found = self._placed(position, name, column, held, found)
            return (held, found) if found is not None else (None, None)

        if context is None:
            return Joined(names, (target,), convert)
        return Joined((self._column(context), *names), (context, target), convert)

    def _placed(self, position: int, name: Any, column: str, context: str, found: tuple) -> Any:
        """The answers where they stand; None if the row has some, but the context holds none."""
        placed, moved = squad.place_answers(context, found)
        self._counts["moved answers"] += moved
        absent = [answer for start, answer in placed if start < 0]
        if not absent:
            return placed
        if self._missing == "error":
            row = "" if name is None else f" (id {name})"
            raise BadCell((column,), absent[0], f"an answer out of its context is expected{row}")
        self._counts["missing answers"] += len(absent)
        if len(self._listed) < _LISTED:
            row = self._where(position)
            self._listed.append(row if name is None else f"{row} (id {name})")
        if self._missing == "keep":
            return placed
        return tuple([answer for answer in placed if answer[0] >= 0]) or None
