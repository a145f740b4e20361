"""Answers as spans of a context: targets, loss, and the best spans of all windows, in the graph."""

from typing import Any

import numpy as np

from kerasft._core import stack

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
import tensorflow as tf  # noqa: E402
from keras import ops  # noqa: E402

# Starts and ends of a window that are paired, and pairs of a window that are compared.
BEAMS = 20
# Spans of a row that are compared for repeats, so that a context of any length takes little memory.
KEPT = 10 * BEAMS
_NEVER = -1e9


@keras.saving.register_keras_serializable("kerasft")
class SpanLoss(keras.losses.Loss):
    """Cross-entropy of the first and the last token of an answer, from logits.

        loss = -(log softmax_t(s)[y_0] + log softmax_t(e)[y_1]) / 2

    Call arguments: y int [batch, 2], positions of the first and the last token; logits
    [batch, length, 2], very low on padding. Returns [batch] before reduction.

    Reference: Devlin et al. 2018, https://arxiv.org/abs/1810.04805 (4.2)
    """

    def __init__(self, **options: Any):
        super().__init__(**({"name": "span_cross_entropy"} | options))

    def call(self, y_true, y_pred):
        """One loss a row."""
        log_p = ops.log_softmax(ops.cast(y_pred, "float32"), axis=1)
        y_true = ops.cast(y_true, "int32")
        picked = ops.take_along_axis(log_p, y_true[:, None, :], axis=1)
        return -ops.mean(picked[:, 0], axis=-1)


@keras.saving.register_keras_serializable("kerasft")
class SpanAccuracy(keras.metrics.Mean):
    """The share of windows with the right first and last token.

    Call arguments as of `SpanLoss`.
    """

    def __init__(self, name: str = "accuracy", **options: Any):
        super().__init__(name=name, **options)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch."""
        right = ops.equal(ops.argmax(y_pred, axis=1), ops.cast(y_true, "int32"))
        super().update_state(ops.cast(ops.all(right, axis=-1), "float32"))


@keras.saving.register_keras_serializable("kerasft")
class OnReal(keras.layers.Layer):
    """Logits that are very low on padding, so that a softmax over positions leaves it out.

    Call arguments: logits [batch, length, n] and the padding mask [batch, length], or None.
    """

    def call(self, logits, padding_mask=None):
        """Lower the logits of padding."""
        if padding_mask is None:
            return logits
        real = ops.expand_dims(ops.cast(padding_mask, logits.dtype), -1)
        return logits * real + (1.0 - real) * _NEVER

    def compute_output_shape(self, logits_shape, *_):
        """That of the logits."""
        return logits_shape


def spans_of(answers: list[tuple], features: dict[str, np.ndarray]) -> np.ndarray:
    """The first and the last token of each window's answer, int32 [windows, 2].

    The first answer of a row that lies wholly in the window counts; (0, 0) where none does.

    Args:
        answers: of each row a tuple of (start, text), code points of the context.
        features: `row` int32 [windows], `start` and `end` int32 [windows, length], -1 outside
            the context.
    """
    found = np.zeros((len(features["row"]), 2), np.int32)
    for window, row in enumerate(features["row"]):
        start, end = features["start"][window], features["end"][window]
        real = np.flatnonzero(start >= 0)
        if not len(real):
            continue
        for first, text in answers[row]:
            last = first + len(text)
            inside = real[(start[real] < last) & (end[real] > first)]
            whole = len(inside) and start[real].min() <= first and last <= end[real].max()
            if whole:
                found[window] = inside[0], inside[-1]
                break
    return found


def candidates(logits: Any, features: dict[str, Any], longest: int) -> tuple[Any, Any, Any]:
    """The best spans of each window.

    Args:
        logits: float32 [windows, length, 2], of the first and the last token.
        features: `start` and `end` int32 [windows, length], -1 outside the context.
        longest: the most tokens in an answer.

    Returns:
        (score, start, end), [windows, BEAMS or fewer] each: the sum of two logits, and offsets;
        the score is very low where there is no span.
    """
    start = tf.convert_to_tensor(features["start"])
    end = tf.convert_to_tensor(features["end"])
    real = start >= 0
    logits = tf.where(real[:, :, None], logits, _NEVER)
    beams = tf.minimum(BEAMS, tf.shape(start)[1])
    s, first = tf.math.top_k(logits[:, :, 0], beams)
    e, last = tf.math.top_k(logits[:, :, 1], beams)
    # A piece has the offsets of its word, so two spans of pieces may be one span of words.
    length = last[:, None, :] - first[:, :, None]
    ok = (length >= 0) & (length < longest)
    total = tf.where(ok, s[:, :, None] + e[:, None, :], _NEVER)
    pairs = tf.shape(total)[1] * tf.shape(total)[2]
    total = tf.reshape(total, [-1, pairs])
    score, place = tf.math.top_k(total, tf.minimum(BEAMS, pairs))
    a = tf.gather(first, place // beams, batch_dims=1)
    b = tf.gather(last, place % beams, batch_dims=1)
    score = tf.maximum(score, _NEVER)
    return score, tf.gather(start, a, batch_dims=1), tf.gather(end, b, batch_dims=1)


def best_spans(score: Any, start: Any, end: Any, row: Any, rows: Any) -> tuple[Any, Any, Any]:
    """The spans of all windows of each row, the best first, each once.

    Args:
        score, start, end: as `candidates` gives them, [windows, n].
        row: the row of each window, int32 [windows].
        rows: the number of rows.

    Returns:
        (score, start, end), [rows, most spans of a row, KEPT at most]; what repeats a better span
        is very low.
    """

    def by_row(values, fill):
        width = tf.shape(values, tf.int64)[1]
        flat = tf.reshape(values, [-1])
        owner = tf.repeat(tf.cast(row, tf.int64), width)
        made = tf.RaggedTensor.from_value_rowids(
            flat, owner, nrows=tf.cast(rows, tf.int64), validate=False
        )
        return made.to_tensor(fill)

    score, start, end = by_row(score, _NEVER), by_row(start, -1), by_row(end, -1)
    score, order = tf.math.top_k(score, tf.minimum(KEPT, tf.shape(score)[1]))
    start, end = (tf.gather(v, order, batch_dims=1) for v in (start, end))
    same = (start[:, :, None] == start[:, None, :]) & (end[:, :, None] == end[:, None, :])
    places = tf.range(tf.shape(score)[1])
    earlier = places[None, :, None] > places[None, None, :]
    repeated = tf.reduce_any(same & earlier, axis=2)
    score = tf.where(repeated, _NEVER, score)
    order = tf.argsort(score, axis=1, direction="DESCENDING", stable=True)
    return tuple(tf.gather(v, order, batch_dims=1) for v in (score, start, end))
