"""Two models on the same rows: the score, the difference, and its interval."""

import numpy as np
import pytest

from kerasft import InputError
from kerasft.evaluation import Collector, _kinds, compare

# kind -> (labels, right answers, outputs of an old model, those of a better one)
CASES = {
    "multiclass": (
        ("a", "b", "none"),
        [0, 1, 1, 2, 0],
        [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.6, 0.2, 0.2], [0.1, 0.2, 0.7]],
        [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7]],
    ),
    "multilabel": (
        ("a", "b", "c"),
        [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]],
        [[0.9, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.1], [0.6, 0.3, 0.2]],
        [[0.9, 0.1, 0.1], [0.8, 0.7, 0.1], [0.1, 0.1, 0.1], [0.1, 0.3, 0.2]],
    ),
    "regression": ((), [1.0, 2.0, 4.0, 3.0], [2.0, 2.5, 3.0, 3.0], [1.5, 2.0, 4.0, 3.0]),
    "entities": (
        ("PER", "LOC"),
        [[("PER", 0, 2)], [("LOC", 1, 2), ("PER", 3, 4)], [], [("LOC", 0, 1)]],
        [[("PER", 0, 2)], [("PER", 1, 2)], [("LOC", 5, 6)], []],
        [[("PER", 0, 2)], [("LOC", 1, 2)], [], [("LOC", 0, 1)]],
    ),
    "answers": (
        (),
        [["the cat"], ["big dog", "dog house"], [], ["fish"]],
        [("cat", 0.9), ("dog", 0.7), ("bird", 0.6), ("bird", 0.4)],
        [("cat", 0.9), ("big dog", 0.7), ("", 0.6), ("bird", 0.4)],
    ),
    "generation": (
        (),
        ["the cat sat here", "a dog barked", "same"],
        ["the cat sat there", "", "same"],
        ["the cat sat here", "a dog", "same"],
    ),
    "perplexity": ((), [4, 2, 0, 10], [4.0, 6.0, 0.0, 5.0], [3.0, 6.0, 0.0, 4.0]),
    "ranking": (
        (),
        [[0, 1], [1, 0, 0], [0, 0], [1, 0, 2]],
        [[0.9, 0.1], [0.9, 0.1, 0.2], [1, 2], [0.1, 0.3, 0.2]],
        [[0.1, 0.9], [0.9, 0.1, 0.2], [1, 2], [0.1, 0.3, 0.4]],
    ),
    "similarity": (
        (),
        [5.0, 0.0, 3.0, 1.0, 4.0],
        [0.9, 0.1, 0.2, 0.3, 0.5],
        [0.9, 0.1, 0.4, 0.3, 0.5],
    ),
}


def collected(kind, which, repeat=1, **options):
    labels, truth, *outputs = CASES[kind]
    collector = Collector("task", kind, labels, **options)
    for _ in range(repeat):
        collector.add({}, truth, outputs[which])
    return collector


def test_every_kind_is_tried():
    assert set(CASES) == set(_kinds.KINDS)


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("which", [0, 1])
def test_the_score_is_that_of_the_report(kind, which):
    """Also where rows are drawn some times each; wrong if `drawn` counted other rows."""
    for options in ({}, {"options": {"none": "none"}}) if kind == "multiclass" else ({},):
        collector = collected(kind, which, **options)
        name, score = collector.main()
        rows = collector.rows
        assert score(np.ones(rows, int)) == pytest.approx(collector.report().after[name])
        counts = np.array([2, 0, 3, 1, 1, 1][:rows])
        labels, truth, *outputs = CASES[kind]
        again = Collector("task", kind, labels, **options)
        for row, count in enumerate(counts):
            for _ in range(count):
                again.add({}, truth[row : row + 1], outputs[which][row : row + 1])
        assert score(counts) == pytest.approx(again.report().after[name])
        if which == 0:
            assert score(counts) != pytest.approx(score(np.ones(rows, int)))


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.contract("kinds compared with themselves", of=len(CASES))
def test_a_model_is_as_good_as_itself(kind):
    same = compare(collected(kind, 0, repeat=3), collected(kind, 0, repeat=3), draws=50)
    assert (same.gain, same.interval) == (0.0, (0.0, 0.0))
    assert same.old == same.new is not None


@pytest.mark.parametrize("kind", CASES)
def test_a_better_model_gains_also_where_less_is_better(kind):
    found = compare(collected(kind, 0, repeat=5), collected(kind, 1, repeat=5), draws=50)
    turned = compare(collected(kind, 1, repeat=5), collected(kind, 0, repeat=5), draws=50)
    assert found.gain > 0 and found.rows == collected(kind, 0, repeat=5).rows
    assert turned.gain == -found.gain
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    assert found.interval[0] < found.gain < found.interval[1]
    less = found.metric in ("mae", "nll")
    assert (found.new < found.old) == less


def test_the_bootstrap_by_hand():
    """Mean absolute errors of three rows, drawn by the same numbers."""
    truth, old, new = np.zeros(3), np.array([1.0, 2.0, 4.0]), np.array([3.0, 1.0, 1.0])
    pair = [Collector("task", "regression") for _ in range(2)]
    for collector, outputs in zip(pair, (old, new), strict=True):
        collector.add({}, truth, outputs)
    found = compare(*pair, draws=4, seed=7)
    random = np.random.default_rng(7)
    gains = [(old - new)[random.integers(0, 3, 3)].mean() for _ in range(4)]
    assert len(set(np.round(gains, 9))) > 1
    gains.sort()
    # Four sorted numbers: 2.5 percent of the way from the first to the last is 0.075 steps.
    low = gains[0] + 0.075 * (gains[1] - gains[0])
    high = gains[3] - 0.075 * (gains[3] - gains[2])
    assert found.interval == pytest.approx((low, high))
    assert (found.old, found.new, found.gain) == pytest.approx((7 / 3, 5 / 3, 2 / 3))
    assert compare(*pair, draws=4, seed=7) == found
    assert compare(*pair, draws=4, seed=8).interval != found.interval


def test_rows_are_drawn_in_pairs():
    """Two models that err together differ by little; drawn apart they would differ by much."""
    random = np.random.default_rng(0)
    errors = random.exponential(10, 200)
    pair = [Collector("task", "regression") for _ in range(2)]
    for collector, shift in zip(pair, (0.1, 0.0), strict=True):
        collector.add({}, np.zeros(200), errors + shift)
    found = compare(*pair, draws=50)
    assert found.interval == pytest.approx((0.1, 0.1), abs=1e-5)


def test_what_is_undefined_is_none():
    pair = [Collector("task", "entities", ("PER",)) for _ in range(2)]
    for collector in pair:
        collector.add({}, [[], []], [[], []])
    found = compare(*pair, draws=5)
    assert (found.old, found.new, found.gain, found.interval) == (None,) * 4
    assert found.to_json()["interval"] is None


def test_different_rows_are_refused():
    with pytest.raises(InputError, match="same rows.*4 rows and mae of 8"):
        compare(collected("regression", 0), collected("regression", 1, repeat=2))
    with pytest.raises(InputError, match="mae of 4 rows and nll of 4"):
        compare(collected("regression", 0), collected("perplexity", 1))
    with pytest.raises(InputError, match="no rows"):
        compare(Collector("task", "regression"), collected("regression", 1))
    with pytest.raises(InputError, match="draws"):
        compare(collected("regression", 0), collected("regression", 1), draws=0)
