"""The labels of a data set: which there are, in which order, and whether all are known."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from kerasft._core.checks import nearest
from kerasft._core.errors import InputError
from kerasft.data.source import Source

_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")


def label_field(source: Source) -> str | None:
    """Return the name of the first field of kind "label", "labels" or "spans", or None."""
    kinds = ("label", "labels", "spans")
    return next((f for f, kind in source.fields.items() if kind in kinds), None)


def chunk_labels(source: Source, chunk: Mapping[str, list]) -> list[tuple[str, ...]] | None:
    """Return the labels of each row of a chunk, sorted; None if the source has no field of labels.

    Args:
        source: where the chunk comes from.
        chunk: field -> values.

    Returns:
        A tuple a row: its one label, its labels, or the labels of its spans.

    Example:
        chunk_labels(source, {"text": ["Ann in Oslo"], "spans": [((0, 3, "PER"), (7, 11, "LOC"))]})
        # [("LOC", "PER")]
    """
    field = label_field(source)
    if field is None:
        return None
    kind = source.fields[field]
    if kind == "labels":
        return chunk[field]
    if kind == "label":
        return [(label,) for label in chunk[field]]
    return [tuple(sorted({label for _, _, label in spans})) for spans in chunk[field]]


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the labels without repeats: as numbers if all are integers, else by code point."""
    found = set(labels)
    if all(_INTEGER.fullmatch(label) for label in found):
        return tuple(sorted(found, key=lambda label: (int(label), label)))
    return tuple(sorted(found))


def discover_labels(source: Source) -> tuple[str, ...]:
    """Read the labels of a source in a pass over it.

    Returns:
        The labels in the order of `order_labels`, which does not depend on the order of rows.

    Raises:
        InputError: if there are fewer than two labels (fewer than one for multi-label and spans).

    Example:
        discover_labels(open_source("spam.csv", fields))  # ("ham", "spam")
    """
    found: set[str] = set()
    for _, values in _labels(source):
        found.update(chain.from_iterable(values))
    kind = source.fields[label_field(source)]
    if len(found) < (2 if kind == "label" else 1):
        only = f"one only, {next(iter(found))!r}" if found else "none"
        raise InputError(
            f"{source.name} must have at least {'two labels' if kind == 'label' else 'one label'}. "
            f"Received: {only}. Check that the label column is the right one."
        )
    return order_labels(found)


def check_labels(source: Source, known: Sequence[str]) -> None:
    """Raise `InputError` with file, line and the nearest known label for one that is not known."""
    allowed = set(known)
    for positions, values in _labels(source):
        if allowed.issuperset(chain.from_iterable(values)):
            continue
        position, label = next(
            (p, label) for p, row in zip(positions, values) for label in row if label not in allowed
        )
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise InputError(
            f"{source.where(position)}: the label must be one of: {shown}. "
            f"Received: {label!r}.{nearest(label, known)}"
        )


def _labels(source: Source) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
    """Positions and labels of each row, chunk by chunk."""
    if label_field(source) is None:
        raise InputError(f"{source.name} was opened without a field of labels.")
    for positions, chunk in source.numbered():
        yield positions, chunk_labels(source, chunk)
