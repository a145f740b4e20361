"""Tables of CoNLL files: one token a line, a blank line after each sentence."""

import os
import re
from collections.abc import Iterator, Sequence

from kerasft._core.errors import InputError
from kerasft.data.streams import open_bytes, text_lines
from kerasft.data.tables import Optional, Row, Table

EXTENSIONS = (".conll", ".bio", ".iob", ".iob2", ".conllu")
_PLACES = {"tokens": 0, "tags": -1}  # the last column holds the tag, whatever stands between
_CONLLU = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]
_CONLLU_PLACES = {"tokens": 1, "tags": 3} | {name: i for i, name in enumerate(_CONLLU)}
_NUMBER = re.compile(r"-?[0-9]{1,4}")
# `# text = ...` of CoNLL-U and `# id ...` of MultiCoNER; a token may be a "#" too.
_COMMENT = re.compile(r"# *(?:(?:id|newdoc|newpar)\b|[^ =]+ *=)")
Line = tuple[int, list[str]]


def conll_table(path: str) -> Table:
    """Return the table of a CoNLL file, one row a sentence.

    Each cell is a list with one string a token. Columns are `tokens` (the first) and `tags` (the
    last), in CoNLL-U the forms and the universal parts of speech, and any other by its number
    counted from 0, written as a string: "1", or "-2" for the last but one. Cells of a line stand
    apart by tabs or by spaces. Lines of `-DOCSTART-`, comments before a sentence, and in CoNLL-U
    words of several tokens (`1-2`) and empty nodes (`1.1`), are left out.

    Args:
        path: a file as `kerasft.data.streams.open_bytes` takes it.

    Returns:
        A `Table`; the position of a row is the line of its first token.

    Raises:
        InputError: while reading, with file and line, for a line with another number of columns
            than the first.

    Example:
        open_source("train.conll", {"tokens": "texts", "tags": "texts"}, {"tags": "3"})
    """
    known = _CONLLU_PLACES if _is_conllu(path) else _PLACES

    def read(columns: Sequence[str]) -> Iterator[Row]:
        places = [_place(path, column, known) for column in columns]
        with open_bytes(path) as stream:
            width = 0
            for sentence in _sentences(text_lines(stream, path), _is_conllu(path)):
                width = width or max(len(sentence[0][1]), _width(places))
                yield _row(path, sentence, places, width)

    return Table(path, read, unit="line")


def _is_conllu(path: str) -> bool:
    return os.path.splitext(re.sub(r"\.(gz|xz)$", "", path.lower()))[1] == ".conllu"


def _place(path: str, column: str, known: dict[str, int]) -> int | None:
    if _NUMBER.fullmatch(column):
        return int(column)
    if column not in known and not isinstance(column, Optional):
        raise InputError(
            f"{path} has no column {column!r}; it has: {', '.join(map(repr, known))}, and each "
            "column by its number from '0' on. Name it under `columns`."
        )
    return known.get(column)


def _sentences(lines: Iterator[str], conllu: bool) -> Iterator[list[Line]]:
    """Yield the lines of each sentence, with their numbers and cut in cells."""
    sentence: list[Line] = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n\t ")
        if not line:
            if sentence:
                yield sentence
                sentence = []
        elif not _is_left_out(line, not sentence, conllu):
            # Where there are tabs a token may hold a space: CoNLL-U has such words.
            parts = line.split("\t") if "\t" in line else filter(None, line.split(" "))
            sentence.append((number, [part.strip(" ") for part in parts]))
    if sentence:
        yield sentence


def _is_left_out(line: str, first: bool, conllu: bool) -> bool:
    """Whether a line is none of a token; `first`: it stands before a sentence."""
    if conllu:
        return line.startswith("#") or not line.split("\t")[0].strip().isdigit()
    return line.startswith("-DOCSTART-") or (first and bool(_COMMENT.match(line)))


def _width(places: Sequence[int | None]) -> int:
    """The least number of columns that a file must have for these to be read from it."""
    wanted = [place for place in places if place is not None]
    least = [place + 1 if place >= 0 else -place for place in wanted]
    # A tag must not be read from the only column, the tokens'.
    return max([1, *least, *(2 for place in wanted if place < 0)])


def _row(path: str, sentence: list[Line], places: Sequence[int | None], width: int) -> Row:
    for number, cells in sentence:
        if len(cells) != width:
            raise InputError(
                f"{path}, line {number}: {width} columns are expected, apart by tabs or spaces. "
                f"Received: {len(cells)}. A blank line ends a sentence."
            )
    columns = [p if p is None else [cells[p] for _, cells in sentence] for p in places]
    return sentence[0][0], tuple(columns)
