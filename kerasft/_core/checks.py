"""Checks of arguments, with messages that name the nearest right value."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

from kerasft._core.errors import InputError


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the known word nearest to `word`, or ""."""
    found = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


def one_of(name: str, value: Any, known: Iterable) -> Any:
    """Return `value` if it is among `known`, else raise `InputError` naming the nearest."""
    known = tuple(known)
    if value in known:
        return value
    choices = ", ".join(str(k) for k in known)
    raise InputError(
        f"`{name}` must be one of: {choices}. Received: {name}={value!r}."
        + nearest(str(value), map(str, known))
    )


def listed(name: str, value: Any) -> tuple:
    """Return a list's items as a tuple; raise `InputError` for one text, which is no list of
    letters, and for what is no list."""
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise InputError(f"`{name}` must be a list. Received: {name}={value!r}. Write [{value}].")


def in_range(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> Any:
    """Return the number `value` if low <= value <= high (low < value with `above`), else raise."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and math.isfinite(value) and low <= value <= high and not (above and value == low):
        return value
    least = f"more than {low}" if above else f"at least {low}"
    bounds = [least] if low > -math.inf else []
    bounds += [f"at most {high}"] if high < math.inf else []
    raise InputError(f"`{name}` must be {' and '.join(bounds)}. Received: {name}={value!r}.")


def whole(name: str, value: Any, low: int = 0) -> int:
    """Return the integer `value` if it is at least `low`, else raise `InputError`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= low:
        return value
    raise InputError(
        f"`{name}` must be a whole number, at least {low}. Received: {name}={value!r}."
    )
