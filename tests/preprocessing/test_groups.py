"""Sequences that run with those of like length: each is answered as alone, and few are padded."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft.preprocessing import in_groups

RANDOM = np.random.default_rng(7)
LENGTHS = (3, 9, 1, 9, 2, 16, 8, 1)


def features(lengths=LENGTHS, width=None):
    mask = np.arange(width or max(lengths, default=0)) < np.asarray(lengths, int)[:, None]
    ids = RANDOM.integers(1, 100, mask.shape) * mask
    return {"token_ids": tf.constant(ids, tf.int32), "padding_mask": tf.constant(mask, tf.int32)}


def asked(given, shape, spare, most=None, run=None):
    """What `in_groups` gives, and the shapes [rows, length] that it has run, in a graph."""
    shapes = []

    def watched(part):
        tf.py_function(lambda x: shapes.append(tuple(x.shape)), [part["token_ids"]], [])
        return (run or summed)(part)

    result = tf.function(lambda: in_groups(watched, given, shape, spare, most))()
    return result.numpy(), shapes


def summed(part):
    ids = tf.cast(part["token_ids"], tf.float32)
    return tf.stack([tf.reduce_sum(ids, 1), tf.reduce_max(ids, 1)], 1)


def each_token(part):
    return tf.cast(part["token_ids"], tf.float32)[:, :, None] * [1.0, 2.0] + 0.5


@pytest.mark.parametrize("spare", [0, 3, 10**6])
@pytest.mark.parametrize("most", [None, 2])
def test_every_row_is_answered_in_its_place(spare, most):
    """Fails if rows are not put back, e.g. with `rows` left out of the scatter."""
    given = features()
    got, _ = asked(given, (2,), spare, most)
    np.testing.assert_array_equal(got, summed(given))


@pytest.mark.parametrize("spare", [0, 5])
def test_outputs_of_tokens_are_0_on_padding(spare):
    given = features(width=20)  # nobody is as long as the batch
    got, _ = asked(given, (None, 2), spare, run=each_token)
    real = np.asarray(given["padding_mask"])[:, :, None]
    np.testing.assert_array_equal(got * real, each_token(given) * real)
    longest = (real * 0 + np.arange(20)[:, None] >= max(LENGTHS))[:, :, 0]
    assert got.shape == (8, 20, 2) and not got[longest].any()


def test_no_group_pads_more_than_it_may():
    _, apart = asked(features(), (2,), 0)
    assert sorted(apart) == [(1, 2), (1, 3), (1, 8), (1, 16), (2, 1), (2, 9)]
    _, some = asked(features(), (2,), 3)
    assert some == [(1, 16), (3, 9), (3, 3)] + [(1, 1)]
    _, together = asked(features(), (2,), 10**6)
    assert together == [(8, 16)]


def test_no_group_has_more_rows_than_it_may():
    _, shapes = asked(features(), (2,), 10**6, most=3)
    assert shapes == [(3, 16), (3, 8), (2, 1)]


def test_rows_of_one_length_run_at_once():
    assert asked(features((5,) * 6), (2,), 0)[1] == [(6, 5)]


def test_no_row_and_an_empty_row():
    got, shapes = asked(features((), 4), (2,), 0)
    assert got.shape == (0, 2) and shapes == []
    got, shapes = asked(features((0, 2)), (2,), 0)
    assert got[0].tolist() == [0, 0] and sorted(shapes) == [(1, 1), (1, 2)]
