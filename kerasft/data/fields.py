"""From a cell of a table to the value of a field: one function for each kind."""

import decimal
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kerasft._core.checks import one_of

KINDS = (
    "text",
    "optional text",
    "texts",
    "label",
    "labels",
    "number",
    "whole",
    "spans",
    "words",
    "answers",
    "messages",
)
OPTIONAL = ("optional text", "words")  # their column may be missing
SINGLE = ("text", "optional text", "label", "number", "whole")  # a cell is one value, no list
ROLES = ("system", "user", "assistant")
_ROLE_OF = {role: role for role in ROLES} | {"human": "user", "gpt": "assistant"}
_LISTS = (list, tuple, np.ndarray)


def converter(kind: str, separator: str, keep_empty: bool) -> Callable[[Any], Any]:
    """Return the function from cells to values of a kind.

    | kind | cell | value |
    |---|---|---|
    | text | a string or a number | str |
    | optional text | the same, or empty, or no such column | str, "" for none |
    | texts | a list of strings, or one string split at the separator | tuple of str |
    | label | a name or a whole number | str |
    | labels | a list of labels, or one string split at the separator | sorted tuple of str |
    | number | a finite number | float |
    | whole | a whole number | int |
    | spans | see `spans` | sorted tuple of (start, end, label) |
    | words | a list of [start, end], or no such column | tuple of (start, end) |
    | answers | see `answers` | tuple of (start, text) |
    | messages | see `messages` | tuple of (role, content) |

    Args:
        kind: one of `KINDS`.
        separator: what stands between the items of a "labels" or "texts" cell that is a string.
        keep_empty: an empty or missing text becomes "" and is no error.

    Returns:
        A function that raises `ValueError`, saying what is expected, for a cell that it refuses.
    """
    one_of("kind", kind, KINDS)
    if kind == "text":
        return lambda cell: text(cell, keep_empty)
    if kind in ("labels", "texts"):
        split = labels if kind == "labels" else texts
        return lambda cell: split(cell, separator)
    others = {
        "optional text": lambda cell: text(cell, keep_empty=True),
        "label": label,
        "number": number,
        "whole": whole_number,
        "spans": spans,
        "words": words,
        "answers": answers,
        "messages": messages,
    }
    return others[kind]


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


def texts(cell: Any, separator: str = "|") -> tuple[str, ...]:
    """Texts in their order: from a list as they stand, or from a string split at `separator`."""
    value = _plain(cell)
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(separator) if part.strip()]
    if not isinstance(value, _LISTS):
        raise ValueError("a list of texts is expected")
    return tuple([text(item) for item in value])


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


def whole_number(cell: Any) -> int:
    """A whole number: 3, 3.0 and "3" are the same."""
    value = _plain(cell)
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # as it is: a float would round it above 2 ** 53
    try:
        found = number(value)
    except ValueError:
        found = math.nan
    if not found.is_integer():
        raise ValueError("a whole number is expected")
    return int(found)


def spans(cell: Any) -> tuple[tuple[int, int, str], ...]:
    """Labelled spans of a text, sorted; start and end count code points, end is not included.

    Args:
        cell: a list whose items are {"start", "end", "label"} (other keys are ignored) or
            [start, end, label]; or {"start": [...], "end": [...], "label": [...]}; None for none.

    Returns:
        Tuple of (start, end, label) with 0 <= start < end, none of which overlap.
    """
    keys = ("start", "end", "label")
    what = "a span ([start, end, label], or start, end and label by name)"
    found = [(*_border(start, end), label(tag)) for start, end, tag in _items(cell, keys, what)]
    found.sort()
    for (_, end, _), (start, _, _) in zip(found, found[1:]):
        if start < end:
            raise ValueError(
                f"spans that do not overlap are expected; one ends at {end}, the next "
                f"starts at {start}"
            )
    return tuple(found)


def words(cell: Any) -> tuple[tuple[int, int], ...]:
    """The (start, end) of each word of a text, in code points; () where nobody gave words."""
    what = "a word ([start, end])"
    return tuple([_border(start, end) for start, end in _items(cell, ("start", "end"), what)])


def answers(cell: Any) -> tuple[tuple[int, str], ...]:
    """Answers to a question as SQuAD writes them.

    Args:
        cell: {"text": [...], "answer_start": [...]}, or a list of {"text", "answer_start"}; an
            empty list or None where the question has no answer. No start, or one below 0, means
            that it is not known.

    Returns:
        Tuple of (start, text), start in code points, -1 where it is not known.
    """
    what = "an answer (text and answer_start)"
    found = [(text(item), start) for item, start in _items(cell, ("text", "answer_start"), what)]
    return tuple([(-1 if s is None else max(whole_number(s), -1), item) for item, s in found])


def messages(cell: Any) -> tuple[tuple[str, str], ...]:
    """A chat.

    Args:
        cell: a list whose items are {"role", "content"}, or {"from", "value"} with "human" and
            "gpt"; or a list of strings, which the user and the assistant say in turn.

    Returns:
        Tuple of (role, content); role is "system" (first only), "user" or "assistant", and the
        first that is not "system" is "user".
    """
    value = _plain(cell)
    if not isinstance(value, _LISTS) or not len(value):
        raise ValueError("a chat (a list of messages, each with role and content) is expected")
    found = tuple([_message(item, place) for place, item in enumerate(value)])
    roles = [role for role, _ in found]
    if "system" in roles[1:]:
        raise ValueError("a chat with a system message at its begin only is expected")
    if roles[0] == "assistant" or roles[:2] == ["system", "assistant"]:
        raise ValueError("a chat is expected that the user begins, not the assistant")
    return found


def _message(item: Any, place: int) -> tuple[str, str]:
    if isinstance(item, str):
        return ROLES[1 + place % 2], text(item)
    names = ("role", "content") if isinstance(item, Mapping) and "role" in item else None
    names = names or ("from", "value")
    if not isinstance(item, Mapping) or not item.keys() >= set(names):
        raise ValueError(f"role and content are expected in message {place + 1}")
    role = _ROLE_OF.get(item[names[0]]) if isinstance(item[names[0]], str) else None
    if role is None:
        raise ValueError(
            f"one of the roles {', '.join(ROLES)} is expected in message {place + 1}, not "
            f"{item[names[0]]!r}"
        )
    try:
        return role, text(item[names[1]])
    except ValueError as error:
        raise ValueError(f"{error} in message {place + 1}") from None


def _items(cell: Any, keys: tuple[str, ...], what: str) -> list[tuple]:
    """Rows of a cell, each a tuple in the order of `keys`: written as dicts, lists or columns."""
    value = _plain(cell)
    if value is None:
        return []
    if isinstance(value, Mapping):
        columns = [value.get(key) for key in keys]
        if not all(isinstance(column, _LISTS) for column in columns):
            value = [value]
        elif len({len(column) for column in columns}) > 1:
            raise ValueError(f"equally many of {' and '.join(keys)} are expected")
        else:
            value = list(zip(*columns))
    if not isinstance(value, _LISTS):
        raise ValueError(f"a list is expected, each item {what}")
    return [_item(item, keys, what) for item in value]


def _item(item: Any, keys: tuple[str, ...], what: str) -> tuple:
    if isinstance(item, Mapping):
        item = tuple([item.get(key) for key in keys])
    if not isinstance(item, _LISTS) or len(item) != len(keys):
        raise ValueError(f"{what} is expected")
    return tuple(item)


def _border(start: Any, end: Any) -> tuple[int, int]:
    start, end = whole_number(start), whole_number(end)
    if not 0 <= start < end:
        raise ValueError(f"0 <= start < end is expected, but start is {start} and end is {end}")
    return start, end


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
