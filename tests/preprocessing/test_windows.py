"""Windows of long rows: every piece in one, overlaps as asked, and nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft.preprocessing import beside, by_row, row_begins, taken, windows


def cut(lengths, size, overlap):
    return [v.numpy().tolist() for v in windows(tf.constant(lengths, tf.int64), size, overlap)]


def test_windows_by_hand():
    assert cut([5], 3, 1) == [[0, 0], [0, 2], [3, 5]]
    assert cut([6], 3, 1) == [[0, 0, 0], [0, 2, 4], [3, 5, 6]]
    assert cut([0, 2], 3, 0) == [[0, 1], [0, 0], [0, 2]], "an empty row has a window too"


@pytest.mark.parametrize(("size", "overlap"), [(1, 0), (4, 0), (4, 3), (7, 2), (50, 10)])
def test_every_piece_is_in_a_window(size, overlap):
    lengths = [0, 1, size, size + 1, 3 * size, 29]
    row, begin, end = cut(lengths, size, overlap)
    for number, length in enumerate(lengths):
        mine = [(a, b) for r, a, b in zip(row, begin, end, strict=True) if r == number]
        assert mine[0][0] == 0 and mine[-1][1] == length
        for (_, last), (first, _) in zip(mine, mine[1:]):
            assert last - first == overlap, "neighbours share as many as asked"
        assert all(b - a <= size for a, b in mine)
        assert all(b - a == size for a, b in mine[:-1]), "only the last one may be shorter"


def test_a_size_of_its_own_for_every_row():
    row, begin, end = cut([5, 5], tf.constant([5, 2]), 1)
    assert row == [0, 1, 1, 1, 1]
    assert list(zip(begin, end, strict=True)) == [(0, 5), (0, 2), (1, 3), (2, 4), (3, 5)]


def test_parts_and_their_places():
    values = tf.ragged.constant([[1, 2, 3], [], [4, 5]], dtype=tf.int32)
    row, begin, end = windows(values.row_lengths(), 2, 0)
    parts = taken(values, row, begin, end)
    assert parts.to_list() == [[1, 2], [3], [], [4, 5]]
    expected = [[-1, 1, 2, -1], [-1, 3, -1, -1], [-1, -1, -1, -1], [-1, 4, 5, -1]]
    assert beside(parts, 1, 1).numpy().tolist() == expected
    ragged = beside(parts, tf.constant([0, 1, 2, 0]), 0).numpy().tolist()
    assert ragged == [[1, 2], [-1, 3], [-1, -1], [4, 5]]


def test_windows_side_by_side():
    values, row = tf.constant([[1, 2], [3, 4], [5, 6]]), tf.constant([0, 1, 1])
    assert by_row(values, row, 9).numpy().tolist() == [[[1, 2], [9, 9]], [[3, 4], [5, 6]]]
    assert by_row(values.numpy(), np.array([0, 1, 2], np.int32)).shape == (3, 1, 2)
    assert by_row(values[:0], row[:0]).shape[0] == 0
    spec = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
    graph = tf.function(lambda v, r: by_row(v, r, 9), input_signature=spec)
    np.testing.assert_array_equal(graph(values, row), by_row(values, row, 9))


def test_where_rows_begin():
    values = tf.ragged.constant([[], [7, 8], [], [9]], dtype=tf.int32)
    assert row_begins(values).numpy().tolist() == [True, False, True]
    assert row_begins(values[:1]).numpy().tolist() == []


def test_in_a_graph():
    made = tf.function(
        lambda x: windows(x, 3, 1), input_signature=[tf.TensorSpec([None], tf.int64)]
    )
    for got, want in zip(made(tf.constant([5, 0], tf.int64)), cut([5, 0], 3, 1), strict=True):
        np.testing.assert_array_equal(got, want)
