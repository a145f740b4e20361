"""Scores of entities, found and right, and of tags token by token."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kerasft._core.errors import InputError
from kerasft.metrics.values import plain


def entity_scores(y_true: Any, y_pred: Any, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """Score entities; one is right if label, start and end are.

    precision = right / predicted, recall = right / expected, F1 = 2 right / (predicted + expected)

    The numbers are those of seqeval (default mode) on the tags of the same entities. What a row
    names twice counts once.

    Args:
        y_true: The right entities, one list of (label, start, end) a row; the unit of start and
            end (tokens, characters) is that of `y_pred`.
        y_pred: The predicted ones, of as many rows.
        labels: The labels in the order of `per_class`; if None, those that occur, sorted.

    Returns:
        JSON types only: `entity_f1`, `entity_precision`, `entity_recall` (over all entities),
        `macro_f1`, `macro_precision`, `macro_recall` (mean over the labels that occur as right or
        predicted), `accuracy` (share of rows with all entities right) and `per_class` (label to
        `precision`, `recall`, `f1`, `support`). None stands for what is undefined: all scores of
        a label, or of all rows, that have no entity on either side.

    Raises:
        InputError: If the rows differ in number, an entity is not (label, start, end), or a
            label is not among `labels`.

    Example:
        >>> entity_scores([[("PER", 0, 2)]], [[("PER", 0, 2), ("LOC", 4, 5)]])["entity_precision"]
        0.5

    Reference:
        Nakayama, seqeval, 2018, https://github.com/chakki-works/seqeval
    """
    y_true, y_pred = entity_rows("y_true", y_true, labels), entity_rows("y_pred", y_pred, labels)
    _same_length(y_true, y_pred)
    right, predicted, expected = Counter(), Counter(), Counter()
    for true, pred in zip(y_true, y_pred, strict=True):
        for counter, spans in ((right, true & pred), (predicted, pred), (expected, true)):
            counter.update(label for label, _, _ in spans)
    found = set(predicted) | set(expected)
    counts = {label: (right[label], predicted[label], expected[label]) for label in found}
    scores = {label: _scores(*counts[label]) for label in sorted(found)}
    overall = _scores(*map(sum, zip(*counts.values(), strict=True)) if counts else (0, 0, 0))
    order = sorted(found) if labels is None else labels
    return plain(
        {f"entity_{name}": overall[name] for name in ("f1", "precision", "recall")}
        | {f"macro_{name}": _mean(scores, name) for name in ("f1", "precision", "recall")}
        | {"accuracy": sum(t == p for t, p in zip(y_true, y_pred, strict=True)) / len(y_true)}
        | {
            "per_class": {
                label: scores.get(label, _scores(0, 0, 0)) | {"support": expected[label]}
                for label in order
            }
        }
    )


def token_accuracy(y_true: Any, y_pred: Any) -> float | None:
    """Share of tokens whose tag is right, over all rows; None if there is no token.

    Args:
        y_true: The right tags, one list a row.
        y_pred: The predicted ones, of the same lengths.

    Returns:
        A number from 0 to 1.

    Raises:
        InputError: If the rows differ in number or a row in length.

    Example:
        >>> token_accuracy([["DET", "NOUN"]], [["DET", "VERB"]])
        0.5
    """
    _same_length(y_true, y_pred)
    right = tokens = 0
    for row, (true, pred) in enumerate(zip(y_true, y_pred, strict=True)):
        if len(true) != len(pred):
            raise InputError(
                "Each row must have as many predicted as right tags. "
                f"Received: {len(pred)} for {len(true)} at index {row}."
            )
        right += sum(t == p for t, p in zip(true, pred, strict=True))
        tokens += len(true)
    return right / tokens if tokens else None


def entity_rows(
    name: str, rows: Iterable, labels: Sequence[str] | None = None
) -> list[frozenset[tuple[str, int, int]]]:
    """Check the entities of some rows.

    Args:
        name: The argument's name, for the message.
        rows: One collection of (label, start, end) a row.
        labels: The labels that there are; any if None.

    Returns:
        The same as sets.

    Raises:
        InputError: If an entity is not a label and two whole numbers, 0 <= start < end, or its
            label is not among `labels`.
    """
    found = [frozenset(_entity(name, i, span) for span in row) for i, row in enumerate(rows)]
    for row, spans in enumerate(found):
        unknown = sorted({label for label, _, _ in spans} - set(labels)) if labels else []
        if unknown:
            raise InputError(
                f"`{name}` must hold entities with the labels {', '.join(labels)}. "
                f"Received: {unknown[0]!r} at index {row}."
            )
    return found


def _entity(name: str, row: int, span: Any) -> tuple[str, int, int]:
    try:
        label, start, end = span
        whole = int(start) == start and int(end) == end
    except (TypeError, ValueError):
        whole = False
    if not whole or not isinstance(label, str) or not 0 <= start < end:
        raise InputError(
            f"`{name}` must hold entities (label, start, end) with 0 <= start < end. "
            f"Received: {span!r} at index {row}."
        )
    return label, int(start), int(end)


def _scores(right: int, predicted: int, expected: int) -> dict[str, float | None]:
    """As scikit-learn: 0/0 is 0 where the label occurs on the other side."""
    if not predicted + expected:
        return {"precision": None, "recall": None, "f1": None}
    return {
        "precision": right / max(predicted, 1),
        "recall": right / max(expected, 1),
        "f1": 2 * right / (predicted + expected),
    }


def _mean(scores: dict[str, dict], name: str) -> float | None:
    return sum(s[name] for s in scores.values()) / len(scores) if scores else None


def _same_length(y_true: Sequence, y_pred: Sequence) -> None:
    if len(y_true) != len(y_pred) or not len(y_true):
        raise InputError(
            "`y_true` and `y_pred` must be of one length, at least 1. "
            f"Received: {len(y_true)} and {len(y_pred)} rows."
        )
