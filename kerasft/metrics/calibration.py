"""How far confidence can be taken at its word."""

from typing import Any

import numpy as np

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.metrics.values import numbers


def reliability(confidence: Any, correct: Any, bins: int = 15) -> list[dict]:
    """Compare confidence and accuracy in bins of equal width.

    Bin b holds the rows with b/bins < confidence <= (b+1)/bins; 0 is in the first.

    Args:
        confidence: What the model gave its answers, from 0 to 1, shape [n].
        correct: 1 where the answer was right, else 0, shape [n].
        bins: How many bins.

    Returns:
        One dict a bin, from low to high: `low`, `high` (its bounds), `count`, and the means
        `confidence` and `accuracy`, None in an empty bin.

    Raises:
        InputError: If the shapes differ or a value is out of range.

    Example:
        >>> reliability([0.9, 0.8], [1, 0], bins=2)[1]
        {'low': 0.5, 'high': 1.0, 'count': 2, 'confidence': 0.85, 'accuracy': 0.5}
    """
    whole("bins", bins, 1)
    counts, confidences, rights = _totals(confidence, correct, bins)
    return [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "count": int(count),
            "confidence": float(confidences[b] / count) if count else None,
            "accuracy": float(rights[b] / count) if count else None,
        }
        for b, count in enumerate(counts)
    ]


def ece(confidence: Any, correct: Any, bins: int = 15) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy.

    ECE = sum over bins b of count_b / n * |accuracy_b - confidence_b|

    Args:
        confidence: What the model gave its answers, from 0 to 1, shape [n].
        correct: 1 where the answer was right, else 0, shape [n].
        bins: How many bins of equal width.

    Returns:
        A number from 0 (calibrated) to 1.

    Raises:
        InputError: If the shapes differ or a value is out of range.

    Example:
        >>> ece([1.0, 1.0], [1, 0])
        0.5

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, 2017, https://arxiv.org/abs/1706.04599
    """
    whole("bins", bins, 1)
    counts, confidences, rights = _totals(confidence, correct, bins)
    return float(np.abs(confidences - rights).sum() / counts.sum())


def _totals(confidence: Any, correct: Any, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, sum of confidence and sum of right answers of each bin."""
    confidence, correct = numbers("confidence", confidence), numbers("correct", correct)
    if confidence.shape != correct.shape:
        raise InputError(
            "`confidence` and `correct` must be of one length. "
            f"Received: {len(confidence)} and {len(correct)} rows."
        )
    if confidence.min() < 0 or confidence.max() > 1 or not np.isin(correct, (0, 1)).all():
        raise InputError(
            "`confidence` must be from 0 to 1 and `correct` 0 or 1. Received: confidence from "
            f"{confidence.min():.4g} to {confidence.max():.4g}, "
            f"correct from {correct.min():.4g} to {correct.max():.4g}."
        )
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return tuple(np.bincount(place, weights=w, minlength=bins) for w in (None, confidence, correct))
