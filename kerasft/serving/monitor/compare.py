"""What a window holds against the reference: one `Finding` a quantity."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kerasft.export.profile import Reference
from kerasft.metrics.drift import binned, ks, mmd2, psi, share_difference
from kerasft.serving.monitor.windows import Window

QUANTITIES = ("class_share", "psi", "ks", "mean", "mmd2")
CLASSES, EMBEDDING = "classes", "embedding"  # keys of what is no feature


@dataclass(frozen=True)
class Finding:
    """One quantity of a window.

    Args:
        quantity: `class_share` (a share), `psi`, `ks` (D), `mean` (the feature's unit), `mmd2`.
        key: the label of a class share; else the feature, `classes` or `embedding`.
        value: in the window.
        reference: what it was; None where a statistic compares both already.
        rows: that it was made of.
        low, high: 95% interval of value - reference, of a class share.
        p_value: of a class share (two-proportion z) or `ks`.
    """

    quantity: str
    key: str
    value: float
    reference: float | None
    rows: int
    low: float | None = None
    high: float | None = None
    p_value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """In JSON types, without what is None."""
        return {n: v for n, v in asdict(self).items() if v is not None}


def compare(reference: Reference, window: Window, vectors: Any = None) -> list[Finding]:
    """Compare a window with the reference.

    Args:
        reference: the profile of the training data.
        window: the rows.
        vectors: embeddings of the reference, [rows, width], or None.

    Returns:
        What could be compared: a feature that no row of the window has is left out.
    """
    found = _shares(reference, window)
    for name, feature in reference.features.items():
        values = window.values(name)
        if not values:
            continue
        rows, counts = len(values), binned(values, feature.edges)
        found.append(Finding("mean", name, float(np.mean(values)), feature.mean, rows))
        found.append(Finding("psi", name, psi(feature.counts, counts), None, rows))
        tested = ks(feature.sample, values)
        found.append(
            Finding("ks", name, tested["statistic"], None, rows, p_value=tested["p_value"])
        )
    if vectors is not None and len(window.vectors) > 1:
        value = mmd2(vectors, window.vectors)
        found.append(Finding("mmd2", EMBEDDING, value, None, len(window.vectors)))
    return found


def _shares(reference: Reference, window: Window) -> list[Finding]:
    expected, rows = reference.expected, window.answered
    if expected is None or not expected.rows or not rows:
        return []
    found = []
    for label in reference.labels:
        now, before = window.classes[label], expected.counts.get(label, 0)
        told = share_difference(now, rows, before, expected.rows)
        found.append(
            Finding(
                "class_share",
                label,
                now / rows,
                before / expected.rows,
                rows,
                told["low"],
                told["high"],
                told["p_value"],
            )
        )
    counts = [expected.counts.get(label, 0) for label in reference.labels]
    value = psi(counts, [window.classes[label] for label in reference.labels])
    return [*found, Finding("psi", CLASSES, value, None, rows)]
