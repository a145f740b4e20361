"""Two entities of a text between markers, and the part of the text around them, in the graph."""

from typing import Any

import tensorflow as tf

from kerasft._core import stack

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
from keras import ops  # noqa: E402

# The signs around the head and around the tail; punctuation is in every vocabulary.
SIGNS = ("@", "#")
_SPACE = r"[\s\p{Z}]"
_FAR = 2**30


def marked(text: Any, borders: list[Any]) -> tuple[Any, Any]:
    """Put markers around two parts of each text.

        "Ann met Bo." with (8, 10), (0, 3) becomes "# Ann # met @ Bo @ ."

    A space is added between a marker and what is not a space already.

    Args:
        text: string [batch].
        borders: head_start, head_end, tail_start, tail_end, int32 [batch] each, in code points;
            clipped into the text, an end before its start to the start.

    Returns:
        The texts, string [batch], and where the markers lie in them, int32 [batch, 4], in the
        order of `borders`.
    """
    # Bytes that are no UTF-8 would be counted in one way and cut in another.
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8")
    size = tf.strings.length(text, unit="UTF8_CHAR")
    cuts = []
    for start, end in (borders[:2], borders[2:]):
        start = tf.clip_by_value(tf.cast(start, tf.int32), 0, size)
        cuts += [start, tf.clip_by_value(tf.cast(end, tf.int32), start, size)]
    places = tf.stack(cuts, axis=1)
    # At one place what closes comes before what opens, but not before its own opening.
    empty = tf.cast(tf.stack([cuts[0] == cuts[1], cuts[2] == cuts[3]], axis=1), tf.int32)
    empty = tf.repeat(empty, 2, axis=1)
    rank = tf.where(empty > 0, 1, [[3, 0, 3, 0]])
    order = tf.argsort(places * 16 + rank * 4 + tf.range(4), axis=1)
    signs = tf.gather(tf.repeat(tf.constant(SIGNS), 2), order)
    edges = tf.gather(places, order, batch_dims=1)
    begin = tf.pad(edges, [[0, 0], [1, 0]])
    parts = tf.strings.substr(
        tf.repeat(text[:, None], 5, axis=1),
        begin,
        tf.concat([edges, size[:, None]], axis=1) - begin,
        unit="UTF8_CHAR",
    )
    before, after = parts[:, :4], parts[:, 1:]
    inner = tf.constant([[False, True, True, True]])
    spaced = tf.strings.regex_full_match(before, f"(?s).*{_SPACE}")
    lead = tf.where(before == "", inner, ~spaced)
    trail = (after != "") & ~tf.strings.regex_full_match(after, f"(?s){_SPACE}.*")
    lead, trail = (tf.where(need, " ", "") for need in (lead, trail))
    pieces = tf.stack([before, lead, signs, trail], axis=2)
    lengths = tf.strings.length(pieces, unit="UTF8_CHAR")
    whole = tf.strings.reduce_join(tf.reshape(pieces, [-1, 16]), axis=1) + after[:, 3]
    ends = tf.cumsum(tf.reduce_sum(lengths, axis=2), axis=1)
    found = ends - lengths[:, :, 3] - 1
    return whole, tf.gather(found, tf.argsort(order, axis=1), batch_dims=1)


def around(places: Any, lengths: Any, budget: int) -> Any:
    """Which pieces of a text are kept: those between the markers, then the nearest to them.

    Where the markers are too far from each other for one window, those nearest to any of them.

    Args:
        places: the pieces that the markers are, int32 [batch, 4].
        lengths: pieces of each text, int32 [batch].
        budget: the most pieces to keep.

    Returns:
        bool [batch, longest], False behind the end of a text.
    """
    at = tf.range(tf.reduce_max(lengths, axis=0))[None, :]
    at = tf.broadcast_to(at, [tf.shape(lengths)[0], tf.size(at)])
    nearest = tf.reduce_min(tf.abs(at[:, :, None] - places[:, None, :]), axis=2)
    first, last = (f(places, axis=1, keepdims=True) for f in (tf.reduce_min, tf.reduce_max))
    inside = (at >= first) & (at <= last) & (last - first < budget)
    far = tf.where(inside, 0, nearest)
    far = tf.where(at < lengths[:, None], far, _FAR)
    rank = tf.argsort(tf.argsort(far, axis=1, stable=True), axis=1)
    return (rank < budget) & (far < _FAR)


@keras.saving.register_keras_serializable("kerasft")
class MarkerPool(keras.layers.Layer):
    """The vectors at two markers, one behind the other: [h_i ; h_j].

    Args:
        codes: the numbers of the two markers in `marks`.

    Call arguments: the sequence [batch, length, width] and `marks` int [batch, length]. Returns
    [batch, 2 * width], float32; 0 for a marker that is not there.

    Reference: Baldini Soares et al. 2019, https://arxiv.org/abs/1906.03158
    """

    def __init__(self, codes: tuple[int, int] = (1, 2), **options: Any):
        super().__init__(**({"dtype": "float32"} | options))
        self.codes = tuple(codes)

    def call(self, sequence, marks):
        """Take the two vectors."""
        sequence = ops.cast(sequence, "float32")
        chosen = [ops.cast(ops.equal(marks, code), "float32")[:, :, None] for code in self.codes]
        return ops.concatenate([ops.sum(sequence * one, axis=1) for one in chosen], axis=-1)

    def compute_output_shape(self, sequence_shape, *_):
        """[batch, 2 * width]."""
        return (sequence_shape[0], 2 * sequence_shape[-1])

    def get_config(self):
        """The codes."""
        return {**super().get_config(), "codes": list(self.codes)}
