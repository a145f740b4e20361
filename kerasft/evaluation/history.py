"""`history.csv`: one row an epoch, for any spreadsheet; a resumed run continues it."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError

_FIRST = ("epoch", "loss", "val_loss")


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read the rows of a history file.

    Args:
        path: A file that `write` or `append` made; local or of a scheme such as gs://.

    Returns:
        One dict an epoch: whole numbers as int, other numbers as float, an empty cell as None.
        No file gives no rows.

    Raises:
        InputError: If a line has another number of cells than the header, or no epoch.

    Example:
        >>> read("runs/none/history.csv")
        []
    """
    if not files.exists(path):
        return []
    lines = csv.reader(io.StringIO(files.read_bytes(path).decode("utf-8"), newline=""))
    header = next(lines, [])
    rows = []
    for number, cells in enumerate(lines, start=2):
        if len(cells) != len(header) or "epoch" not in header:
            raise InputError(
                f"{os.fspath(path)}, line {number}: a history has a header with `epoch` and as "
                f"many cells in each line. Received: {len(cells)} cells under {header!r}."
            )
        rows.append({name: _value(cell) for name, cell in zip(header, cells, strict=True)})
    return rows


def write(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows, whole or not at all; columns are `epoch, loss, val_loss`, then the others.

    Args:
        path: Where to; local or of a scheme such as gs://.
        rows: One mapping an epoch; what a row lacks becomes an empty cell.

    Raises:
        InputError: If a row has no epoch.

    Example:
        >>> write("history.csv", [{"epoch": 1, "loss": 0.5, "val_loss": 0.4, "accuracy": 0.9}])
    """
    for row in rows:
        _epoch(row)
    columns = list(dict.fromkeys([*_FIRST, *(name for row in rows for name in row)]))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    files.write_text(path, text.getvalue())


def append(path: str | os.PathLike, row: Mapping[str, Any]) -> None:
    """Add an epoch; rows of the same epoch and of later ones, left by a run that was cut, go.

    Args:
        path: A file to continue; it is made when it is not there.
        row: `epoch`, `loss`, `val_loss` and further columns.

    Raises:
        InputError: If the row has no epoch, or the file is not a history.

    Example:
        >>> append("history.csv", {"epoch": 2, "loss": 0.3, "val_loss": 0.35})
    """
    kept = [old for old in read(path) if _epoch(old) < _epoch(row)]
    write(path, [*kept, row])


def _epoch(row: Mapping[str, Any]) -> int:
    epoch = row.get("epoch")
    if not isinstance(epoch, int):
        raise InputError(
            f"A row of the history needs a whole number `epoch`. Received: epoch={epoch!r}."
        )
    return epoch


def _cell(value: Any) -> str:
    if value is None:
        return ""
    value = value.item() if hasattr(value, "item") else value
    return repr(value) if isinstance(value, float) else str(value)


def _value(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell or None
