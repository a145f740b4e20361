"""Scores of numbers, against hand-computed values and SciPy."""

import json

import numpy as np
import pytest
from scipy import stats

from kerasft._core.errors import InputError
from kerasft.metrics import mae, mse, pearson, r2, scores, spearman


def test_by_hand():
    found = scores([1, 2, 3], [1, 2, 5])
    assert found["mse"] == pytest.approx(4 / 3)
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["r2"] == pytest.approx(1 - 4 / 2)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(4 / np.sqrt(2 * 26 / 3))
    assert list(found) == ["pearson", "spearman", "mse", "mae", "r2"]


def test_ties_share_their_rank():
    # ranks 1.5 1.5 3 against 1 2 3
    assert spearman([5, 5, 7], [1, 2, 3]) == pytest.approx(
        np.corrcoef([1.5, 1.5, 3], [1, 2, 3])[0, 1]
    )


def test_random_numbers_equal_scipy():
    rng = np.random.default_rng(0)
    y_true = rng.normal(size=100)
    y_pred = y_true + rng.normal(size=100)
    assert pearson(y_true, y_pred[:, None]) == pytest.approx(stats.pearsonr(y_true, y_pred)[0])
    assert spearman(y_true, y_pred) == pytest.approx(stats.spearmanr(y_true, y_pred)[0])


def test_perfect_and_reversed():
    y = [0.0, 1.0, 2.0]
    assert scores(y, y) == pytest.approx({"pearson": 1, "spearman": 1, "mse": 0, "mae": 0, "r2": 1})
    assert pearson(y, y[::-1]) == pytest.approx(-1)


@pytest.mark.parametrize("y_true, y_pred", [([2, 2, 2], [1, 2, 3]), ([4.0], [4.0])])
def test_constant_is_undefined_not_nan(y_true, y_pred):
    found = scores(y_true, y_pred)
    assert found["pearson"] is None and found["spearman"] is None and found["r2"] is None
    json.dumps(found, allow_nan=False)


def test_constant_prediction_still_has_an_error():
    assert pearson([1, 2, 3], [2, 2, 2]) is None
    assert r2([1, 2, 3], [2, 2, 2]) == 0.0


@pytest.mark.parametrize(
    "y_true, y_pred, message",
    [
        ([1, 2], [1], "one length"),
        ([1, 2], [1, float("nan")], "`y_pred` must hold finite numbers. Received: nan at index 1"),
        ([float("inf"), 2], [1, 2], "`y_true` must hold finite numbers"),
        ([], [], "at least 1"),
        ([1, 2], [[1, 2], [3, 4]], r"shape \[2, 2\]"),
        (["a"], [1], "one number a row"),
    ],
)
@pytest.mark.parametrize("function", [scores, pearson, spearman, mse, mae, r2])
def test_wrong_input(function, y_true, y_pred, message):
    with pytest.raises(InputError, match=message):
        function(y_true, y_pred)
