"""From what people ask to rows of a task, and from arrays of answers to plain values."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kerasft._core.errors import InputError
from kerasft.data import kinds_of

# What stands for a field of a kind in an item of `predict`.
_TYPES = {"text": str, "whole": int, "texts": (list, tuple)}
# What fills a list of answers that is shorter than another in its batch, by kind of array.
_PADS = {"O": b"", "S": b"", "i": -1, "f": 0.0}


def rows_of(task: Any, texts: Iterable[Any], given: dict[str, Any]) -> list[dict[str, Any]]:
    """Items of `Pipeline.predict` as rows with every input of the task."""
    given, kinds = given_of(task, given), kinds_of(task)
    names = [name for name in task.inputs if name not in given]
    form = "a string" if len(names) == 1 else f"({', '.join(names)})"
    if isinstance(texts, (str, bytes, dict)):
        raise InputError(f"`predict` takes a list, each item {form}. Received: {texts!r}.")
    rows = []
    for item in texts:
        if isinstance(item, dict):
            row = {name: item.get(name) for name in names}
        elif len(names) == 1:
            row = {names[0]: item}
        else:
            same = isinstance(item, (tuple, list)) and len(item) == len(names)
            row = dict(zip(names, item if same else [None] * len(names), strict=True))
        if not all(sound(value, _TYPES[kinds[name]]) for name, value in row.items()):
            raise InputError(f"Each item of `predict` is {form}. Received: {item!r}.")
        rows.append(row | given)
    return rows


def in_batches(
    fields: list[list], size: int, answer: Callable[[list[int]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Answers of rows in their order, those of like length together.

    Args:
        fields: the values of each field that is read, one a row.
        size: rows of a batch.
        answer: gives the answers of the rows with these numbers.
    """
    rows = list(zip(*fields, strict=True))
    order = sorted(range(len(rows)), key=lambda row: sum(len(str(v)) for v in rows[row]))
    found: list[dict[str, Any]] = [{}] * len(rows)
    for start in range(0, len(rows), size):
        chosen = order[start : start + size]
        for row, own in zip(chosen, answer(chosen), strict=True):
            found[row] = own
    return found


def given_of(task: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Inputs that are the same for every text, checked."""
    kinds = kinds_of(task)
    for name, value in given.items():
        if name not in task.inputs:
            raise InputError(
                f"The task {task.name} is asked {', '.join(task.inputs)}. Received: {name!r}."
            )
        if not sound(value, _TYPES[kinds[name]]) or not value:
            what = "a list that is not empty" if kinds[name] == "texts" else "a value"
            raise InputError(f"`{name}` must be {what}. Received: {name}={value!r:.80}.")
    return dict(given)


def sound(value: Any, kind: Any) -> bool:
    """Whether a value is of its kind, with texts that can be written as UTF-8 in it."""
    texts = value if isinstance(value, (list, tuple)) else [value] if kind is str else []
    return isinstance(value, kind) and all(
        isinstance(text, str) and not any("\ud800" <= sign <= "\udfff" for sign in text)
        for text in texts
    )


def told(task: Any, decoded: dict[str, Any]) -> list[dict[str, Any]]:
    """Arrays of answers as one mapping of plain values a row."""
    arrays = {name: np.asarray(value) for name, value in decoded.items()}
    return [
        {name: _plain(value) for name, value in _trimmed(arrays, row, task.padded).items()}
        for row in range(len(next(iter(arrays.values()))))
    ]


def _trimmed(arrays: dict[str, np.ndarray], row: int, padded: tuple[str, ...]) -> dict[str, Any]:
    """One row's answers without the padding that lists of unlike length have in a batch."""
    answer = {name: value[row] for name, value in arrays.items()}
    real = [answer[name] != _PADS[answer[name].dtype.kind] for name in padded]
    count = int(np.any(real, axis=0).nonzero()[0].max(initial=-1)) + 1 if real else 0
    return answer | {name: answer[name][:count] for name in padded}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value
