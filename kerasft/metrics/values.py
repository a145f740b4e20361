"""What may go into a metric and what may come out: checked arrays in, JSON types out."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft._core.errors import InputError


def plain(value: Any) -> Any:
    """Return `value` in JSON types: NumPy becomes Python, NaN and infinity become None.

    Args:
        value: Any nesting of mappings, sequences, arrays, NumPy scalars and Python values.

    Returns:
        The same nesting of dict (keys are str), list, str, int, float, bool and None.

    Example:
        >>> plain({"f1": np.float32("nan"), "rows": np.arange(2)})
        {'f1': None, 'rows': [0, 1]}
    """
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def class_ids(y_true: Any, classes: int) -> np.ndarray:
    """Check class numbers: whole, at least 0, below `classes`.

    Args:
        y_true: Class numbers, shape [n].
        classes: How many classes there are.

    Returns:
        The numbers as int64, shape [n].

    Raises:
        InputError: If the shape is another, there is no row, or a number is out of range.
    """
    array = np.asarray(y_true)
    if array.ndim != 1 or not len(array):
        raise InputError(
            f"`y_true` must hold one class number a row, shape [n], n at least 1. "
            f"Received: y_true of shape {list(array.shape)}."
        )
    numeric = array.dtype.kind in "iufb"
    wrong = ~_whole_below(array, classes) if numeric else np.ones(len(array), bool)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"`y_true` must hold whole numbers from 0 to {classes - 1}, the places in `labels`. "
            f"Received: {array[row].item()!r} at index {row}."
        )
    return array.astype(np.int64)


def indicators(y_true: Any, classes: int) -> np.ndarray:
    """Check the zeros and ones of a multi-label problem.

    Args:
        y_true: 1 where a row has the label, else 0, shape [n, classes].
        classes: How many labels there are.

    Returns:
        The same as int64, shape [n, classes].

    Raises:
        InputError: If the shape is another, there is no row, or a value is not 0 or 1.
    """
    array = _table("y_true", y_true, None, classes)
    if not np.isin(array, (0, 1)).all():
        value = array[~np.isin(array, (0, 1))][0].item()
        raise InputError(
            f"`y_true` must hold only 0 and 1, one column a label. Received: {value!r}."
        )
    return array.astype(np.int64)


def unit_table(name: str, values: Any, rows: int, classes: int) -> np.ndarray:
    """Check a table of probabilities, each from 0 to 1.

    Args:
        name: The argument's name, for the message.
        values: Probabilities, shape [rows, classes].
        rows: How many rows there must be.
        classes: How many columns there must be.

    Returns:
        The table in its own floating dtype, shape [rows, classes].

    Raises:
        InputError: If the shape is another or a value is NaN or outside 0 to 1.
    """
    array = _table(name, values, rows, classes)
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    slack = 1e-3  # half precision rounds 1 up
    wrong = ~((array >= -slack) & (array <= 1 + slack))
    if wrong.any():
        row = int(wrong.any(axis=1).argmax())
        raise InputError(
            f"`{name}` must be probabilities from 0 to 1 (after softmax or sigmoid, not logits). "
            f"Received: {array[row].tolist()} at index {row}."
        )
    return np.clip(array, 0, 1)


def distributions(name: str, values: Any, rows: int, classes: int) -> np.ndarray:
    """Check a table of probabilities whose rows sum to one.

    Args:
        name: The argument's name, for the message.
        values: Probabilities, shape [rows, classes].
        rows: How many rows there must be.
        classes: How many columns there must be.

    Returns:
        The table as float64, each row divided by its sum, shape [rows, classes].

    Raises:
        InputError: As `unit_table`, and if a row is more than 1e-2 away from the sum 1.
    """
    array = unit_table(name, values, rows, classes).astype(np.float64)
    sums = array.sum(axis=1)
    wrong = np.abs(sums - 1) > 1e-2  # rows of bfloat16 are off by some thousandths
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"Each row of `{name}` must sum to 1 (the output of a softmax). "
            f"Received: the sum {sums[row]:.4g} at index {row}."
        )
    return array / sums[:, None]


def numbers(name: str, values: Any) -> np.ndarray:
    """Check finite numbers, one a row.

    Args:
        name: The argument's name, for the message.
        values: Numbers, shape [n] or [n, 1].

    Returns:
        The numbers as float64, shape [n].

    Raises:
        InputError: If the shape is another, there is no row, or a number is NaN or infinite.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iufb":
        raise InputError(
            f"`{name}` must hold one number a row, shape [n], n at least 1. "
            f"Received: {array.dtype} of shape {list(array.shape)}."
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        row = int((~np.isfinite(array)).argmax())
        raise InputError(
            f"`{name}` must hold finite numbers. Received: {array[row]} at index {row}."
        )
    return array


def label_thresholds(thresholds: Any, classes: int) -> np.ndarray:
    """Check the thresholds of a multi-label problem.

    Args:
        thresholds: The least probability of each label, shape [classes]; 0.5 each if None.
        classes: How many labels there are.

    Returns:
        The thresholds as float64, shape [classes].

    Raises:
        InputError: If the shape is another or a value is NaN or outside 0 to 1.
    """
    if thresholds is None:
        return np.full(classes, 0.5)
    array = np.asarray(thresholds, dtype=np.float64)
    if array.shape != (classes,) or not ((array >= 0) & (array <= 1)).all():
        raise InputError(
            f"`thresholds` must be {classes} numbers from 0 to 1, one a label. "
            f"Received: thresholds={array.tolist()!r}."
        )
    return array


def _table(name: str, values: Any, rows: int | None, classes: int) -> np.ndarray:
    array = np.asarray(values)
    right = array.ndim == 2 and array.shape[1] == classes and array.shape[0] == (rows or len(array))
    if not right or not len(array) or array.dtype.kind not in "iufb":
        raise InputError(
            f"`{name}` must be a table of numbers of shape [{rows or 'n'}, {classes}], one column "
            f"a label. Received: {array.dtype} of shape {list(array.shape)}."
        )
    return array


def _whole_below(array: np.ndarray, classes: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (array == np.floor(array)) & (array >= 0) & (array < classes)
