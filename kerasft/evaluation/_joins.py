"""How what a kind kept of each chunk becomes one for all rows."""

from collections.abc import Sequence
from itertools import chain

import numpy as np


def arrays(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One array, the rows of the first chunk first."""
    return np.concatenate(parts)


def lists(parts: Sequence[Sequence]) -> list:
    """One list, for rows that are texts or of different lengths."""
    return list(chain.from_iterable(parts))
