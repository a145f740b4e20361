"""What is made of ragged rows with few ops is what TensorFlow's own functions make of them."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from kerasft._core import ragged

# Rows without values at the begin, in the middle and at the end; no rows; rows without any values.
ROWS = [[[], [1, 2, 3], [], [], [4], []], [[5, 6]], [[7], [8, 9]], [], [[], []]]
IDS = ["gaps", "one", "full", "no rows", "no values"]
every = pytest.mark.parametrize("rows", ROWS, ids=IDS)


def made(rows, dtype=tf.int32):
    return tf.ragged.constant(rows, dtype, ragged_rank=1, row_splits_dtype=tf.int64)


def same(got, want):
    assert got.to_list() == want.to_list()
    assert got.values.dtype == want.values.dtype
    assert got.row_splits.dtype == tf.int64
    got.row_splits[1:].shape.assert_is_compatible_with([want.nrows()])


def odd(values):
    return values.with_values(values.values % 2 == 1)


@every
def test_rows_and_places(rows):
    values = made(rows)
    assert ragged.rows_of(values).numpy().tolist() == values.value_rowids().numpy().tolist()
    want = tf.ragged.range(values.row_lengths()).flat_values
    assert ragged.places_of(values).numpy().tolist() == want.numpy().tolist()


@every
def test_masks(rows):
    values = made(rows)
    keep = odd(values)
    same(ragged.masked(values, keep.values), tf.ragged.boolean_mask(values, keep))


@every
def test_masks_of_matrices(rows):
    values = made(rows).to_tensor(-1)
    same(ragged.masked_dense(values, values > 1), tf.ragged.boolean_mask(values, values > 1))


@every
@pytest.mark.parametrize("most", [0, 1, 2, 9])
def test_firsts(rows, most):
    values = made(rows)
    same(ragged.firsts(values, tf.fill([values.nrows()], np.int64(most))), values[:, :most])


@pytest.mark.parametrize(
    "rows", [[[[1], [], [2, 3]], [], [[4]]], [], [[], []], [[[]], [[], []]]], ids=str
)
def test_merging(rows):
    values = tf.ragged.constant(rows, tf.int32, ragged_rank=2, row_splits_dtype=tf.int64)
    same(ragged.merged(values), values.merge_dims(-2, -1))


@every
def test_side_by_side(rows):
    values, count = made(rows), len(rows)
    twice = tf.concat([values, values], axis=1)
    column = ragged.column([7, 8], count)
    none = ragged.column([], count)
    got = ragged.side_by_side([column, values, none, twice, column])
    dense = tf.RaggedTensor.from_tensor(column, row_splits_dtype=tf.int64)
    same(got, tf.concat([dense, values, twice, dense], axis=1))


@every
def test_one_value_where_there_is_none(rows):
    got = ragged.side_by_side([made(rows), ragged.where_empty(made(rows), 0)])
    assert got.to_list() == [row or [0] for row in rows]


@pytest.mark.parametrize("texts", [["a b,c", "", ",,", " x "], [""], []], ids=str)
def test_splitting(texts):
    texts = tf.constant(texts, tf.string)
    same(ragged.regex_split(texts, " |,", ","), tf_text.regex_split(texts, " |,", ","))


def test_they_take_few_ops():
    def ops(function):
        graph = tf.function(function, [tf.TensorSpec([None], tf.string)]).get_concrete_function()
        definition = graph.graph.as_graph_def()
        inner = sum(len(f.node_def) for f in definition.library.function)
        return len(definition.node) + inner

    def ours(texts):
        parts = ragged.regex_split(texts, " ", " ")
        return ragged.masked(parts, parts.values != " ")

    def theirs(texts):
        parts = tf_text.regex_split(texts, " ", " ")
        return tf.ragged.boolean_mask(parts, parts != " ")

    assert 10 * ops(ours) < ops(theirs)
