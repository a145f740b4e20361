"""Scores of predicted numbers."""

import warnings
from typing import Any

import numpy as np

from kerasft._core.errors import InputError
from kerasft.metrics.values import numbers, plain


def scores(y_true: Any, y_pred: Any) -> dict[str, float | None]:
    """Return `pearson`, `spearman`, `mse`, `mae` and `r2` of predicted numbers.

    Args:
        y_true: The right numbers, shape [n] or [n, 1].
        y_pred: The predicted numbers, shape [n] or [n, 1].

    Returns:
        The five scores by name; None where one is undefined.

    Raises:
        InputError: If the lengths differ, there is no row, or a number is NaN or infinite.

    Example:
        >>> scores([1, 2, 3], [1, 2, 4])["mse"]
        0.3333333333333333
    """
    pairs = _pairs(y_true, y_pred)
    return {f.__name__: f(*pairs) for f in (pearson, spearman, mse, mae, r2)}


def pearson(y_true: Any, y_pred: Any) -> float | None:
    """Pearson's correlation; None if either side is constant.

    r = cov(y, p) / (std(y) std(p))
    """
    y_true, y_pred = _pairs(y_true, y_pred)
    if _constant(y_true) or _constant(y_pred):
        return None
    from scipy.stats import pearsonr

    with warnings.catch_warnings():  # nearly constant input: the number is still the best there is
        warnings.simplefilter("ignore", RuntimeWarning)
        return plain(float(pearsonr(y_true, y_pred).statistic))


def spearman(y_true: Any, y_pred: Any) -> float | None:
    """Spearman's correlation, Pearson's of the ranks (ties share theirs); None if constant."""
    y_true, y_pred = _pairs(y_true, y_pred)
    if _constant(y_true) or _constant(y_pred):
        return None
    from scipy.stats import spearmanr

    return plain(float(spearmanr(y_true, y_pred).statistic))


def mse(y_true: Any, y_pred: Any) -> float | None:
    """Mean squared error, mean (y - p)^2, in the unit of the numbers squared."""
    from sklearn.metrics import mean_squared_error

    return plain(float(mean_squared_error(*_pairs(y_true, y_pred))))


def mae(y_true: Any, y_pred: Any) -> float | None:
    """Mean absolute error, mean |y - p|, in the unit of the numbers."""
    from sklearn.metrics import mean_absolute_error

    return plain(float(mean_absolute_error(*_pairs(y_true, y_pred))))


def r2(y_true: Any, y_pred: Any) -> float | None:
    """Share of the variance explained; None if the right numbers are constant.

    R2 = 1 - sum (y - p)^2 / sum (y - mean(y))^2
    """
    y_true, y_pred = _pairs(y_true, y_pred)
    if _constant(y_true):
        return None
    from sklearn.metrics import r2_score

    return plain(float(r2_score(y_true, y_pred)))


def _pairs(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    y_true, y_pred = numbers("y_true", y_true), numbers("y_pred", y_pred)
    if len(y_true) != len(y_pred):
        raise InputError(
            "`y_true` and `y_pred` must be of one length. "
            f"Received: {len(y_true)} and {len(y_pred)} rows."
        )
    return y_true, y_pred


def _constant(values: np.ndarray) -> bool:
    return bool((values == values[0]).all())
