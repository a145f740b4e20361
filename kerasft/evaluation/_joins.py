"""How what a kind kept of each chunk becomes one for all rows, and what one score of all rows."""

from collections.abc import Callable, Sequence
from itertools import chain
from math import nan

import numpy as np


def arrays(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One array, the rows of the first chunk first."""
    return np.concatenate(parts)


def lists(parts: Sequence[Sequence]) -> list:
    """One list, for rows that are texts or of different lengths."""
    return list(chain.from_iterable(parts))


def mean(values: np.ndarray, weights: np.ndarray | None = None) -> Callable[[np.ndarray], float]:
    """counts [rows] -> sum of counts * values / sum of counts * weights; NaN where that is 0/0."""
    values = np.asarray(values, np.float64)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)

    def score(counts: np.ndarray) -> float:
        total = float(counts @ weights)
        return float(counts @ values) / total if total else nan

    return score
