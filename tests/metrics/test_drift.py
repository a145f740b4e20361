"""PSI, Kolmogorov-Smirnov, MMD and shares against scipy, hand computations and identities."""

import math

import numpy as np
import pytest
from scipy import stats

from kerasft._core.errors import InputError
from kerasft.metrics import drift, ks, mmd2, psi, share_difference, wilson


def draws(seed, size, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, size)


# --- bins and PSI -------------------------------------------------------------------------------


def test_bins_hold_the_same_number_each():
    values = draws(0, 1000)
    counts = drift.binned(values, drift.quantile_edges(values))
    assert counts == [100] * 10


@pytest.mark.parametrize(
    ("values", "bins", "edges"),
    [([3, 3, 3], 10, []), ([0, 0, 0, 1], 10, [0.0]), ([1, 2, 3, 4], 2, [2.0])],
)
def test_values_of_few_kinds_have_fewer_bins(values, bins, edges):
    assert drift.quantile_edges(values, bins) == edges
    # Fails if quantiles lie between the values, or the greatest value is an edge.
    assert min(drift.binned(values, edges)) > 0


def test_the_edge_belongs_to_the_bin_below():
    assert drift.binned([2.5, 2.5000001], [2.5]) == [1, 1]
    assert drift.binned([], [2.5]) == [0, 0]


def test_psi_of_the_same_is_zero_and_it_is_symmetric():
    assert psi([3, 5, 9], [3, 5, 9]) == 0
    assert psi([30, 50, 90], [1, 1, 1], 0) == pytest.approx(psi([1, 1, 1], [30, 50, 90], 0))


def test_psi_by_hand():
    # (0.8 - 0.5) ln 1.6 + (0.2 - 0.5) ln 0.4
    expected = 0.3 * math.log(1.6) - 0.3 * math.log(0.4)
    assert psi([50, 50], [80, 20], smoothing=0) == pytest.approx(expected)
    p, q = np.array([50.5, 50.5]) / 101, np.array([80.5, 20.5]) / 101
    assert psi([50, 50], [80, 20]) == pytest.approx(float(((q - p) * np.log(q / p)).sum()))


def test_psi_is_both_divergences_of_scipy():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.2])
    both = stats.entropy(p, q) + stats.entropy(q, p)
    assert psi(p * 100, q * 100, smoothing=0) == pytest.approx(both)


def test_psi_of_equal_distributions_is_what_the_docstring_says():
    found = []
    for seed in range(200):
        values = np.random.default_rng(seed).random(100)
        found.append(psi([1000] * 10, drift.binned(values, np.arange(1, 10) / 10)))
    assert np.mean(found) == pytest.approx(9 * (1 / 100 + 1 / 10_000), rel=0.1)


@pytest.mark.parametrize(
    ("one", "other", "smoothing", "words"),
    [
        ([1, 2], [1, 2, 3], 0.5, "same bins"),
        ([1, -2], [1, 2], 0.5, "same bins"),
        ([], [], 0.5, "at least 1"),
        ([1, math.nan], [1, 2], 0.5, "finite"),
        ([1, 0], [1, 2], 0, "empty"),
        ([1, 0], [1, 2], -1, "smoothing"),
    ],
)
def test_wrong_counts_are_refused(one, other, smoothing, words):
    with pytest.raises(InputError, match=words):
        psi(one, other, smoothing)


# --- Kolmogorov-Smirnov -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "shift"), [(100, 80, 0), (500, 300, 0.2), (50, 70, 1.0)])
def test_ks_is_that_of_scipy(n, m, shift):
    one, other = draws(1, n), draws(2, m, shift)
    found, known = ks(one, other), stats.ks_2samp(one, other, method="asymp")
    assert found["statistic"] == pytest.approx(known.statistic, abs=1e-15)
    limit = stats.kstwobign.sf(math.sqrt(n * m / (n + m)) * known.statistic)
    assert found["p_value"] == pytest.approx(limit, rel=1e-9, abs=1e-12)
    assert found["p_value"] == pytest.approx(known.pvalue, abs=0.05)


def test_ks_with_ties_is_that_of_scipy():
    one, other = np.array([1, 1, 2, 3, 3]), np.array([1, 3, 3, 4])
    assert ks(one, other)["statistic"] == pytest.approx(stats.ks_2samp(one, other).statistic)


def test_ks_of_the_same_and_of_what_lies_apart():
    assert ks([1, 2, 2], [1, 2, 2]) == {"statistic": 0.0, "p_value": 1.0}
    assert ks([1, 2], [3])["statistic"] == 1.0


@pytest.mark.parametrize("t", [0.0, 0.1, 0.2, 0.5, 1.0, 1.36, 2.0, 5.0])
def test_kolmogorovs_limit(t):
    assert drift.kolmogorov(t) == pytest.approx(stats.kstwobign.sf(t), abs=1e-12)


@pytest.mark.parametrize("wrong", [[], [math.inf], [math.nan], ["a"]])
def test_ks_refuses_what_is_no_sample(wrong):
    with pytest.raises(InputError):
        ks([1.0], wrong)


# --- MMD ----------------------------------------------------------------------------------------


def by_loops(x, y, s):
    def k(a, b):
        return math.exp(-sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / (2 * s * s))

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_mmd_by_loops():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(7, 3)), draw.normal(0.5, 1, size=(5, 3))
    assert mmd2(x, y, bandwidth=1.3) == pytest.approx(by_loops(x, y, 1.3))
    both = [*x, *y]
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(both) for b in both[i + 1 :]]
    assert mmd2(x, y) == pytest.approx(by_loops(x, y, float(np.median(pairs))))


def test_mmd_is_unbiased_where_nothing_moved_and_grows_where_it_did():
    same, moved = [], []
    for seed in range(50):
        draw = np.random.default_rng(seed)
        x, y = draw.normal(size=(40, 4)), draw.normal(size=(40, 4))
        same.append(mmd2(x, y))
        moved.append(mmd2(x, y + 1))
    # Fails for the biased estimate, which is above 0 by 2/40 of k(x, x) = 1.
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(50)
    assert min(moved) > max(same)


def test_mmd_takes_a_bounded_draw():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(5000, 2)), draw.normal(size=(3000, 2)) + 1
    assert mmd2(x, y, most=200) == mmd2(x, y, most=200)
    assert mmd2(x, y, most=200) != mmd2(x, y, most=200, seed=1)


def test_vectors_that_are_all_the_same():
    assert mmd2(np.ones((3, 2)), np.ones((4, 2))) == 0


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([[1.0]], [[1.0], [2.0]]),
        ([1.0, 2.0], [[1.0], [2.0]]),
        ([[1.0, 2.0]] * 2, [[1.0]] * 2),
        ([[math.nan]] * 2, [[1.0]] * 2),
    ],
)
def test_mmd_refuses_what_is_no_sample(x, y):
    with pytest.raises(InputError):
        mmd2(x, y)


# --- shares -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "rows"), [(0, 10), (3, 10), (20, 100), (100, 100)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_that_of_scipy(count, rows, confidence):
    known = stats.binomtest(count, rows).proportion_ci(confidence, method="wilson")
    assert wilson(count, rows, confidence) == pytest.approx((known.low, known.high), abs=1e-12)


def test_the_difference_of_newcombes_paper():
    # Table II, row (a): 56/70 - 48/80, method 10.
    found = share_difference(56, 70, 48, 80)
    assert found["difference"] == pytest.approx(0.2)
    assert (found["low"], found["high"]) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_z_test_is_the_chi_square_test():
    found = share_difference(45, 100, 200, 1000)
    table = [[45, 55], [200, 800]]
    known = stats.chi2_contingency(table, correction=False)
    assert found["z"] ** 2 == pytest.approx(known.statistic)
    assert found["p_value"] == pytest.approx(known.pvalue)


def test_the_interval_holds_the_difference_as_often_as_it_says():
    draw, held = np.random.default_rng(0), 0
    for now, before in zip(
        draw.binomial(80, 0.3, 1000), draw.binomial(300, 0.2, 1000), strict=True
    ):
        found = share_difference(int(now), 80, int(before), 300)
        held += found["low"] <= 0.1 <= found["high"]
    assert 930 <= held <= 970


@pytest.mark.parametrize(("now", "before"), [((0, 5), (0, 9)), ((5, 5), (9, 9))])
def test_shares_of_none_and_of_all(now, before):
    found = share_difference(*now, *before)
    assert found["difference"] == 0 and found["p_value"] == 1
    assert found["low"] < 0 < found["high"]


@pytest.mark.parametrize(("count", "rows"), [(1, 0), (3, 2), (-1, 2)])
def test_a_share_that_is_none_is_refused(count, rows):
    with pytest.raises(InputError):
        share_difference(count, rows, 1, 2)


# --- a draw -------------------------------------------------------------------------------------


def test_every_value_of_a_stream_has_the_same_chance():
    counts = np.zeros(20)
    for seed in range(2000):
        draw = drift.Draw(5, seed)
        for value in range(20):
            draw.add(value)
        counts[draw.values] += 1
    assert counts.sum() == 2000 * 5
    # 2000 draws of chance 1/4: five standard deviations are 97. Fails if the first are kept.
    assert np.abs(counts - 500).max() < 97
