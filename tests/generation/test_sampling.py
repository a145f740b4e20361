"""Functions on logits against NumPy, and how often each token is drawn."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft.generation import choose, repetition_penalty, temperature, top_k, top_p
from kerasft.generation.sampling import RULED_OUT

FIVE = np.log(np.array([0.4, 0.05, 0.3, 0.05, 0.2], np.float32))


def logits(rows=6, vocabulary=11, seed=0):
    found = np.random.default_rng(seed).standard_normal((rows, vocabulary)) * 3
    return np.round(found).astype(np.float32)  # with many equal ones


def softmax(row):
    row = np.exp(row.astype(np.float64) - row.max())
    return row / row.sum()


def ranked(row):
    """Ids from the likeliest on; of equal ones the lower id first."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def numpy_top_k(row, k):
    kept = ranked(row)[: k or len(row)]
    return [v if i in kept else RULED_OUT for i, v in enumerate(row)]


def numpy_top_p(row, p):
    kept, reached, share = [], 0.0, softmax(row)
    for i in ranked(row):
        if reached < p or not kept:
            kept.append(i)
        reached += share[i]
    return [v if i in kept else RULED_OUT for i, v in enumerate(row)]


def test_top_k():
    x, k = logits(), np.array([1, 2, 3, 10, 0, 50], np.int32)
    expected = np.array([numpy_top_k(row, n) for row, n in zip(x, k, strict=True)])
    np.testing.assert_array_equal(top_k(x, k), expected)
    assert (np.array(top_k(x, k + 1))[:3] != expected[:3]).any()
    ties = np.zeros((1, 4), np.float32)
    np.testing.assert_array_equal(top_k(ties, np.array([2]))[0] == 0, [True, True, False, False])


def test_top_p():
    x, p = logits(seed=1), np.array([0.0, 0.3, 0.5, 0.9, 0.999, 1.0], np.float32)
    expected = np.array([numpy_top_p(row, n) for row, n in zip(x, p, strict=True)])
    np.testing.assert_array_equal(top_p(x, p), expected)
    assert (np.array(top_p(x, p / 2)) != expected).any()
    kept = np.array(top_p(FIVE[None], np.array([0.75], np.float32)))[0] > RULED_OUT
    np.testing.assert_array_equal(kept, [True, False, True, False, True])


def test_temperature():
    x, heat = logits(2), np.array([2.0, 0.0], np.float32)
    np.testing.assert_allclose(temperature(x, heat), [x[0] / 2, x[1]])


def test_repetition_penalty():
    x = logits(2)
    seen = np.random.default_rng(2).random(x.shape) < 0.5
    by = np.array([[1.5], [1.0]], np.float32)
    expected = np.where(seen, np.where(x > 0, x / by, x * by), x)
    np.testing.assert_allclose(repetition_penalty(x, seen, by[:, 0]), expected)
    assert (expected[0] != x[0]).any() and (expected[1] == x[1]).all()
    # Dividing negative logits too would make those tokens likelier.
    assert (expected[0] <= x[0]).all() and (np.where(seen, x / by, x)[0] > x[0]).any()


def draws(x, count, heat=1.0, k=0, p=1.0, seeds=None, steps=None):
    """`count` rows of the same logits, each with its own seed."""
    same = np.repeat(np.asarray(x, np.float32)[None], count, axis=0)
    seeds = np.arange(count) if seeds is None else seeds
    steps = np.zeros(count) if steps is None else steps
    return CHOOSE(
        same,
        np.full(count, heat, np.float32),
        np.full(count, k, np.int32),
        np.full(count, p, np.float32),
        seeds.astype(np.int32),
        steps.astype(np.int32),
    ).numpy()


CHOOSE = tf.function(choose, autograph=False, reduce_retracing=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.4, 0.05, 0.3, 0.05, 0.2]),
        ({"heat": 0.5}, np.array([16, 0.25, 9, 0.25, 4]) / 29.5),
        ({"k": 2}, [4 / 7, 0, 3 / 7, 0, 0]),
        ({"p": 0.75}, [4 / 9, 0, 3 / 9, 0, 2 / 9]),
        # The probabilities that top-p adds up are those among the k likeliest.
        ({"k": 3, "p": 0.7}, [4 / 7, 0, 3 / 7, 0, 0]),
    ],
)
def test_frequencies(options, expected):
    count = 4000
    for vary in ("seeds", "steps"):
        ids = draws(FIVE, count, **options, **{vary: np.arange(count)})
        found = np.bincount(ids, minlength=5) / count
        assert np.abs(found - expected).max() < 0.03  # over 3.8 standard errors
        assert (found[np.asarray(expected) == 0] == 0).all()


def test_a_wrong_temperature_is_found():
    found = np.bincount(draws(FIVE, 4000, heat=0.7), minlength=5) / 4000
    assert np.abs(found - softmax(FIVE)).max() > 0.03


def test_a_draw_follows_from_seed_and_step_alone():
    seeds, steps = np.arange(40), np.arange(40)[::-1] * 3
    ids = draws(FIVE, 40, seeds=seeds, steps=steps)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(
        draws(FIVE, 40, seeds=seeds[order], steps=steps[order]), ids[order]
    )
    alone = [draws(FIVE, 1, seeds=seeds[i : i + 1], steps=steps[i : i + 1])[0] for i in range(40)]
    np.testing.assert_array_equal(alone, ids)
    assert (draws(FIVE, 40, seeds=seeds + 1, steps=steps) != ids).any()
    assert (draws(FIVE, 40, seeds=seeds, steps=steps + 1) != ids).any()


def test_greedy():
    """Temperature 0 takes the likeliest, of equal ones the lowest id, and rows do not mix."""
    x = np.array([[1, 3, 3, 0], [2, 2, 2, 2], FIVE[:4]], np.float32)
    heat = np.array([0, 0, 1], np.float32)
    asked = (np.zeros(3, np.int32), np.ones(3, np.float32), np.arange(3), np.zeros(3, np.int32))
    cold = CHOOSE(x, 0 * heat, asked[0], asked[1], asked[2].astype(np.int32), asked[3]).numpy()
    np.testing.assert_array_equal(cold, [1, 0, 0])
    mixed = CHOOSE(x, heat, asked[0], asked[1], asked[2].astype(np.int32), asked[3]).numpy()
    np.testing.assert_array_equal(mixed[:2], [1, 0])
    wide = np.zeros((1, 5000), np.float32)
    one = np.zeros(1, np.int32)
    assert CHOOSE(wide, np.zeros(1, np.float32), one, np.ones(1, np.float32), one, one)[0] == 0
