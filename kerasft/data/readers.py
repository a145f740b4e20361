"""Tables of files, plain, .gz or .xz, read as a stream; CoNLL and SQuAD in files of their own."""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from kerasft._core.checks import nearest
from kerasft._core.errors import InputError
from kerasft.data.conll import EXTENSIONS, conll_table
from kerasft.data.squad import is_squad, squad_table
from kerasft.data.streams import LONGEST_LINE, check_file, open_bytes, seekable, text_lines
from kerasft.data.tables import Row, Table, pick

PACKED = (".gz", ".xz")


def file_table(path: str | os.PathLike) -> Table:
    """Return the table of a file; its name says the format.

    Args:
        path: a local path, or any that tf.io.gfile opens.

    Returns:
        A `Table`; positions are lines (csv, tsv, txt, JSON lines, CoNLL), rows (Parquet) or
        questions.

    Raises:
        InputError: if the file is not there, is a folder, or has an unknown extension.
    """
    path = os.fspath(path)
    extension = _extension(path)
    check_file(path)
    if extension not in _READERS:
        known = ", ".join(_READERS)
        raise InputError(
            f"The name of a data file must end in one of: {known} (and .gz or .xz after it). "
            f"Received: {path}.{nearest(extension, _READERS)}"
        )
    return _READERS[extension](path)


def _extension(path: str) -> str:
    name = path.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return os.path.splitext(name)[1]


def _csv_table(path: str, delimiter: str = ",") -> Table:
    def read(columns: Sequence[str]) -> Iterator[Row]:
        # A process-wide setting of Python's csv; its default stops at texts of 131,072 characters.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
        with open_bytes(path) as stream:
            lines = text_lines(stream, path)
            yield from _csv_rows(csv.reader(lines, delimiter=delimiter, strict=True), path, columns)

    return Table(path, read, unit="line")


def _csv_rows(reader: Any, path: str, columns: Sequence[str]) -> Iterator[Row]:
    line = 1  # where the present row begins: quoted cells may hold line breaks
    try:
        header = next(filter(None, reader), None)
        if header is None:
            raise InputError(
                f"{path} is empty. A first line with the names of columns is expected."
            )
        places = pick(path, columns, header)
        line = reader.line_num + 1
        for cells in reader:
            if len(cells) == len(header):
                yield line, tuple([None if i is None else cells[i] for i in places])
            elif cells:  # a blank line is no row
                raise InputError(
                    f"{path}, line {line}: {len(header)} cells are expected, as in the first line. "
                    f"Received: {len(cells)}. Put a cell that holds the separator into quotes."
                )
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {line}: this row is not valid CSV ({error}). "
            "Check its quotes: a quote inside a quoted cell is written twice."
        ) from None


def _tsv_table(path: str) -> Table:
    return _csv_table(path, delimiter="\t")


def _text_table(path: str) -> Table:
    """A text a line, in a column `text`."""

    def read(columns: Sequence[str]) -> Iterator[Row]:
        places = pick(path, columns, ["text"])
        with open_bytes(path) as stream:
            for number, line in enumerate(text_lines(stream, path), 1):
                if not line.isspace():
                    text = line.rstrip("\r\n")
                    yield number, tuple([None if i is None else text for i in places])

    return Table(path, read, unit="line")


def _json_table(path: str) -> Table:
    def read(columns: Sequence[str]) -> Iterator[Row]:
        first = True
        with open_bytes(path) as stream:
            for number, line in enumerate(text_lines(stream, path), 1):
                if line.isspace():
                    continue
                row = _json_object(line, path, number)
                if first:
                    pick(path, columns, list(row))
                    first = False
                yield number, tuple([row.get(c) for c in columns])

    return Table(path, read, unit="line")


def _json_or_squad_table(path: str) -> Table:
    return squad_table(path) if is_squad(path) else _json_table(path)


def _json_object(line: str, path: str, number: int) -> dict:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}, line {number}: one JSON object a line is expected ({error}). "
            f"Received: {_short(line)}."
        ) from None
    if not isinstance(value, dict):
        raise InputError(
            f"{path}, line {number}: one JSON object a line is expected. Received: {_short(line)}."
        )
    return value


def _short(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= 60 else line[:57] + "...")


def _parquet_table(path: str) -> Table:
    def read(columns: Sequence[str]) -> Iterator[Row]:
        import pyarrow
        import pyarrow.parquet

        try:
            with seekable(path) as source, pyarrow.parquet.ParquetFile(source) as file:
                names = file.schema_arrow.names
                pick(path, columns, names)
                there = [str(c) for c in dict.fromkeys(columns) if c in names]
                done = 0
                for batch in file.iter_batches(batch_size=2048, columns=there or names[:1]):
                    none = [None] * batch.num_rows
                    values = [batch.column(c).to_pylist() if c in there else none for c in columns]
                    yield from enumerate(zip(*values), done + 1)
                    done += batch.num_rows
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            reason = (str(error).splitlines() or ["broken"])[0].rstrip(".")
            raise InputError(f"{path} is not a whole Parquet file: {reason}.") from None

    return Table(path, read)


_READERS = {
    ".csv": _csv_table,
    ".tsv": _tsv_table,
    ".txt": _text_table,
    ".jsonl": _json_table,
    ".ndjson": _json_table,
    ".json": _json_or_squad_table,
    ".parquet": _parquet_table,
} | dict.fromkeys(EXTENSIONS, conll_table)
