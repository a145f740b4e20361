"""From a cell of a table to the value of a field: text, label, labels or number."""

import decimal
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kerasft._core.checks import one_of

KINDS = ("text", "label", "labels", "number")


def converter(kind: str, separator: str, keep_empty: bool) -> Callable[[Any], Any]:
    """Return the function from cells to values of a kind.

    Args:
        kind: "text" (str), "label" (str), "labels" (sorted tuple of str) or "number" (float).
        separator: what stands between the labels of a "labels" cell that is a string.
        keep_empty: an empty or missing text becomes "" and is no error.

    Returns:
        A function that raises `ValueError`, saying what is expected, for a cell that it refuses.
    """
    one_of("kind", kind, KINDS)
    if kind == "text":
        return lambda cell: text(cell, keep_empty)
    if kind == "labels":
        return lambda cell: labels(cell, separator)
    return label if kind == "label" else number


def text(cell: Any, keep_empty: bool = False) -> str:
    """A text as it stands; numbers are written out."""
    value = _plain(cell)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        if keep_empty:
            return ""
        raise ValueError("a text is expected, but it is empty")
    return _encodable(value, "a text")


def label(cell: Any) -> str:
    """A label as stripped text: " spam" -> "spam", 1 and 1.0 -> "1", True -> "True"."""
    value = _plain(cell)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError("a label is expected, but it is empty")
    return _encodable(value, "a label (a name or a whole number)").strip()


def labels(cell: Any, separator: str = "|") -> tuple[str, ...]:
    """A set of labels, sorted: from a list, or from a string split at `separator`; may be empty."""
    value = _plain(cell)
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part for part in value.split(separator) if part.strip()]
    if not isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        value = [value]
    return tuple(sorted({label(item) for item in value}))


def number(cell: Any) -> float:
    """A finite number."""
    value = _plain(cell)
    refused = isinstance(value, bool) or (isinstance(value, str) and "_" in value)
    if not refused and isinstance(value, (int, float, str, decimal.Decimal)):
        try:
            found = float(value)
        except (ValueError, OverflowError):
            found = math.nan
        if math.isfinite(found):
            return found
    raise ValueError("a finite number is expected")


def _plain(value: Any) -> Any:
    """The Python value of a numpy scalar, the text of bytes, None for NaN."""
    if type(value) is str:
        return value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("UTF-8 text is expected") from None
    return None if isinstance(value, float) and math.isnan(value) else value


def _encodable(value: Any, expected: str) -> str:
    """The string, if it can be written as UTF-8: JSON may hold half of a surrogate pair."""
    if not isinstance(value, str):
        raise ValueError(f"{expected} is expected")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{expected} is expected, but it holds half of a surrogate pair") from None
    return value
