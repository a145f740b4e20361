"""Long texts as overlapping windows of pieces, in the graph."""

import tensorflow as tf

from kerasft._core import ragged


def windows(lengths, size, overlap: int) -> tuple:
    """Cut rows of pieces into windows that overlap.

        begin_k = k * (size - overlap),   end_k = min(begin_k + size, length)

    for k = 0, 1, ... until a window reaches the end of its row; every row has at least one.

    Args:
        lengths: pieces in each row, int [rows].
        size: the most pieces in a window, an int or int32 [rows].
        overlap: pieces that a window shares with the one before, fewer where `size` is not larger.

    Returns:
        (row, begin, end), int32 [windows] each, in the order of the rows.

    Example:
        >>> windows(tf.constant([5]), size=3, overlap=1)[1].numpy()
        array([0, 2], dtype=int32)
    """
    lengths = tf.cast(lengths, tf.int32)
    size = tf.broadcast_to(size, tf.shape(lengths))
    step = tf.maximum(size - overlap, 1)
    count = 1 + tf.maximum(lengths - size + step - 1, 0) // step
    row = tf.repeat(tf.range(tf.size(lengths)), count)
    number = tf.range(tf.size(row)) - tf.gather(tf.cumsum(count, exclusive=True), row)
    begin = number * tf.gather(step, row)
    return row, begin, tf.minimum(begin + tf.gather(size, row), tf.gather(lengths, row))


def taken(values: tf.RaggedTensor, row, begin, end) -> tf.RaggedTensor:
    """The parts [begin, end) of rows of a ragged tensor, one a window (see `windows`)."""
    first = tf.gather(values.row_splits, row)
    begin, end = tf.cast(begin, tf.int64), tf.cast(end, tf.int64)
    return tf.gather(values.flat_values, tf.ragged.range(first + begin, first + end))


def beside(values: tf.RaggedTensor, before, after: int) -> tf.Tensor:
    """Values of pieces as they stand behind `before` and in front of `after` other ids; -1 there.

    Args:
        values: int32 [windows, (pieces)].
        before: ids in front of the pieces, an int or int32 [windows].
        after: ids behind them.

    Returns:
        int32 [windows, longest].
    """

    def none(count):
        lengths = tf.broadcast_to(tf.cast(count, tf.int64), [values.nrows()])
        return ragged.of_lengths(tf.fill([tf.reduce_sum(lengths)], -1), lengths)

    return ragged.side_by_side([none(before), values, none(after)]).to_tensor(-1)


def by_row(values, row, fill: int = 0) -> tf.Tensor:
    """The windows of each row side by side, behind the last one as many of padding as it takes.

    Args:
        values: [windows, length].
        row: the row of each window, int [windows], in order; every row has one or more.
        fill: what the padding holds.

    Returns:
        [rows, most windows of a row, length].

    Example:
        >>> by_row(tf.constant([[1], [2], [3]]), tf.constant([0, 0, 1])).numpy().tolist()
        [[[1], [2]], [[3], [0]]]
    """
    values = tf.convert_to_tensor(values)
    found = tf.RaggedTensor.from_value_rowids(values, tf.cast(row, tf.int64), validate=False)
    return found.to_tensor(tf.cast(fill, values.dtype))


def row_begins(values: tf.RaggedTensor) -> tf.Tensor:
    """Which of the flat values are the first of their row, bool [values]."""
    some = values.row_lengths() > 0
    places = tf.boolean_mask(values.row_starts(), some)[:, None]
    shape = tf.shape(values.flat_values, tf.int64)[:1]
    return tf.scatter_nd(places, tf.ones_like(places[:, 0], tf.int32), shape) > 0
