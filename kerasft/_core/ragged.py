"""Ragged rows in a graph, with few ops.

TensorFlow's own functions check what they are given and broadcast by generic code, hundreds of ops
a call: more than all else in a tokenizer's graph, which every process traces and every request
runs. These take what is known to be right, two-dimensional ragged tensors with int64 splits.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def of_lengths(values: Any, lengths: Any) -> tf.RaggedTensor:
    """Values in rows of these lengths, [rows, (values)]."""
    return tf.RaggedTensor.from_row_lengths(values, tf.cast(lengths, tf.int64), validate=False)


def of_splits(values: Any, splits: Any) -> tf.RaggedTensor:
    """Values in rows that begin and end at these places, [rows, (values)]."""
    return tf.RaggedTensor.from_row_splits(values, splits, validate=False)


def rows_of(values: tf.RaggedTensor) -> tf.Tensor:
    """The row of each value, int32 [values]."""
    begins = tf.expand_dims(values.row_splits, 0)
    places = tf.expand_dims(_numbers(values), 0)
    # Of a row without values, which begins where the next one does, it is the last that counts.
    return tf.squeeze(tf.raw_ops.UpperBound(sorted_inputs=begins, values=places), 0) - 1


def places_of(values: tf.RaggedTensor) -> tf.Tensor:
    """The place of each value in its row, int64 [values]."""
    return _numbers(values) - tf.gather(values.row_splits, rows_of(values))


def masked(values: tf.RaggedTensor, keep: Any) -> tf.RaggedTensor:
    """What is kept of each row.

    Args:
        values: [rows, (values)].
        keep: bool [values], of the flat values.
    """
    before = tf.concat([[0], tf.cumsum(tf.cast(keep, tf.int64))], 0)
    kept = tf.gather(values.values, tf.where(keep)[:, 0])
    return of_splits(kept, tf.gather(before, values.row_splits))


def firsts(values: tf.RaggedTensor, count: Any) -> tf.RaggedTensor:
    """The first values of each row, at most `count`, int64 [rows], of them."""
    return masked(values, places_of(values) < tf.gather(count, rows_of(values)))


def masked_dense(values: Any, keep: Any) -> tf.RaggedTensor:
    """What is kept of each row of a matrix; `values` and `keep` (bool) are [rows, length]."""
    kept = tf.gather_nd(values, tf.where(keep))
    return of_lengths(kept, tf.reduce_sum(tf.cast(keep, tf.int64), axis=1))


def regex_split(texts: Any, delimiters: str, kept: str) -> tf.RaggedTensor:
    """`tensorflow_text.regex_split` of string [n], without the offsets, which nobody reads.

    Args:
        texts: string [n].
        delimiters, kept: patterns (RE2) of what texts are split by, and of what of it stays.

    Returns:
        Ragged string [n, (parts)].
    """
    from tensorflow_text.python.ops import regex_split_ops

    made = regex_split_ops.gen_regex_split_ops.regex_split_with_offsets(
        texts, f"({delimiters})", f"({kept})"
    )
    return of_splits(made[0], made[3])


def merged(values: tf.RaggedTensor) -> tf.RaggedTensor:
    """The inner lists of each row as one: [rows, (lists), (values)] as [rows, (values)]."""
    inner = values.values
    return of_splits(inner.values, tf.gather(inner.row_splits, values.row_splits))


def column(values: Sequence[Any], rows: Any, dtype: Any = tf.int32) -> tf.Tensor:
    """The same values for every row: [rows, len(values)]."""
    return tf.tile(tf.constant([list(values)], dtype), [rows, 1])


def where_empty(values: tf.RaggedTensor, value: Any) -> tf.RaggedTensor:
    """One value for each row that has none, nothing for the others."""
    missing = tf.cast(values.row_lengths() == 0, tf.int64)
    return of_lengths(tf.fill([tf.reduce_sum(missing)], value), missing)


class SideBySide:
    """Rows of several tensors behind each other; the places are found once for all values.

    Args:
        parts: ragged [rows, (values)] or dense [rows, n] each, with the same number of rows.

    Example:
        >>> lay = SideBySide([tf.ragged.constant([[1], [2, 3]]), tf.constant([[9], [9]])])
        >>> lay([[1, 2, 3], [[9], [9]]]).to_list()
        [[1, 9], [2, 3, 9]]
    """

    def __init__(self, parts: Sequence[Any]):
        sizes = [_row_lengths(part) for part in parts]
        ends = tf.cumsum(tf.add_n(sizes))
        self.splits = tf.concat([[0], ends], 0)
        begins, self.places = self.splits[:-1], []
        for part, size in zip(parts, sizes):
            self.places.append(tf.cast(_places(part, begins), tf.int32))
            begins += size

    def __call__(self, parts: Sequence[Any]) -> tf.RaggedTensor:
        """Lay out values: the flat ones of what is ragged, matrices of what is dense."""
        return of_splits(tf.dynamic_stitch(self.places, list(parts)), self.splits)


def side_by_side(parts: Sequence[Any]) -> tf.RaggedTensor:
    """`tf.concat(parts, axis=1)` of ragged [rows, (values)] and dense [rows, n] tensors."""
    return SideBySide(parts)([flat(part) for part in parts])


def flat(part: Any) -> tf.Tensor:
    """What `SideBySide` lays out of a part."""
    return part.values if isinstance(part, tf.RaggedTensor) else part


def _numbers(values: tf.RaggedTensor) -> tf.Tensor:
    return tf.range(tf.shape(values.values, tf.int64)[0])


def _row_lengths(part: Any) -> tf.Tensor:
    if isinstance(part, tf.RaggedTensor):
        return tf.cast(part.row_lengths(), tf.int64)
    shape = tf.shape(part, tf.int64)
    return tf.fill(shape[:1], shape[1])


def _places(part: Any, begins: tf.Tensor) -> tf.Tensor:
    if isinstance(part, tf.RaggedTensor):
        shift = begins - tf.cast(part.row_splits[:-1], tf.int64)
        return tf.gather(shift, rows_of(part)) + _numbers(part)
    return begins[:, None] + tf.range(tf.shape(part, tf.int64)[1])
