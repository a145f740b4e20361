"""Comparisons that say what differs, and by how much."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerasft._core.errors import InputError


def equal(got: Any, want: Any, what: str) -> None:
    """Raise `AssertionError` unless both are equal."""
    if got != want:
        raise AssertionError(f"{what}: expected {want!r}, received {got!r}")


def same_names(got: Any, want: Any, what: str) -> None:
    """Raise `AssertionError` unless both hold the same names; says which are odd."""
    got, want = list(got), list(want)
    if sorted(got) != sorted(want):
        missing, extra = sorted(set(want) - set(got)), sorted(set(got) - set(want))
        raise AssertionError(
            f"{what}: {len(got)} names instead of {len(want)}; missing {missing[:3]}, "
            f"not expected {extra[:3]}"
        )


def same(got: Any, want: Any, what: str) -> None:
    """Raise `AssertionError` unless two arrays, or mappings of arrays, are equal bit for bit."""
    got, want = _named(got), _named(want)
    same_names(got, want, what)
    for name, value in want.items():
        here = got[name]
        if value.dtype == object and here.tolist() == value.tolist():
            continue
        if here.shape != value.shape or here.tobytes() != value.tobytes():
            raise AssertionError(f"{what}{name} differs by {difference(here, value):.3g}, not by 0")


def close(got: Any, want: Any, most: float, what: str, *, absolute: bool = False) -> None:
    """Raise `AssertionError` if arrays differ by more than `most` of the largest number.

    Args:
        got, want: arrays, or mappings of arrays.
        most: the largest difference allowed.
        what: what is compared, for the message.
        absolute: `most` is the difference itself, not a share of the largest number.
    """
    got, want = _named(got), _named(want)
    same_names(got, want, what)
    for name, value in want.items():
        scale = 1.0 if absolute else float(np.abs(value).max(initial=1e-30))
        found = difference(got[name], value) / scale
        if not found <= most:
            raise AssertionError(f"{what}{name} differs by {found:.3g}, more than {most:.0e}")


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """The largest absolute difference; infinite for another shape or where only one is NaN."""
    if got.shape != want.shape:
        return float("inf")
    apart = np.abs(got.astype(np.float64) - want.astype(np.float64))
    apart = np.where(np.isnan(got) & np.isnan(want), 0.0, apart)
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))


@contextlib.contextmanager
def refused(text: str, what: str) -> Iterator[None]:
    """Expect an `InputError` of one line that holds `text`."""
    try:
        yield
    except InputError as error:
        if text not in str(error) or "\n" in str(error):
            raise AssertionError(f"{what}: the message lacks {text!r}: {error}") from error
        return
    raise AssertionError(f"{what} was not refused with {text!r}")


def _named(value: Any) -> dict[str, np.ndarray]:
    if isinstance(value, dict):
        return {f" {name}": np.asarray(v) for name, v in value.items()}
    return {"": np.asarray(value)}
