"""Reliability bins and the expected calibration error."""

import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.metrics import ece, reliability


def test_by_hand():
    # one bin of two rows: mean confidence 0.85, accuracy 0.5
    assert ece([0.9, 0.8], [1, 0], bins=2) == pytest.approx(0.35)
    # two bins: |0 - 0.2| * 1/3 + |1 - 0.8| * 2/3
    assert ece([0.2, 0.8, 0.8], [0, 1, 1], bins=2) == pytest.approx(0.2)


def test_calibrated_confidence_has_almost_no_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 50_000)
    assert ece(confidence, rng.random(50_000) < confidence) < 0.01


def test_overconfidence_is_seen():
    rng = np.random.default_rng(0)
    assert ece(np.full(10_000, 0.99), rng.random(10_000) < 0.7) == pytest.approx(0.29, abs=0.02)


def test_bins_hold_every_row_once_and_their_upper_bound():
    bins = reliability([0.0, 0.2, 0.21, 1.0], [1, 1, 0, 1], bins=5)
    assert [b["count"] for b in bins] == [2, 1, 0, 0, 1]
    assert bins[2]["accuracy"] is None and bins[2]["confidence"] is None
    assert (bins[0]["low"], bins[-1]["high"]) == (0.0, 1.0)


def test_error_is_the_sum_over_the_bins():
    rng = np.random.default_rng(3)
    confidence, right = rng.random(300), rng.integers(0, 2, 300)
    bins = [b for b in reliability(confidence, right) if b["count"]]
    total = sum(b["count"] / 300 * abs(b["accuracy"] - b["confidence"]) for b in bins)
    assert ece(confidence, right) == pytest.approx(total)


@pytest.mark.parametrize(
    "confidence, correct, bins, message",
    [
        ([0.5], [1, 0], 15, "one length"),
        ([1.5], [1], 15, "from 0 to 1"),
        ([0.5], [2], 15, "0 or 1"),
        ([float("nan")], [1], 15, "finite"),
        ([], [], 15, "at least 1"),
        ([0.5], [1], 0, "`bins` must be a whole number"),
    ],
)
def test_wrong_input(confidence, correct, bins, message):
    for function in (ece, reliability):
        with pytest.raises(InputError, match=message):
            function(confidence, correct, bins)
