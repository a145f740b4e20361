"""Sequences of like length run together, in the graph: a short one does not pay for a long one."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def in_groups(
    run: Callable[[dict[str, Any]], Any],
    features: dict[str, Any],
    shape: tuple[int | None, ...],
    spare: int,
    most: int | None = None,
) -> Any:
    """What a function makes of sequences, those of like length at a time.

    From the longest on, sequences join a group until its padding is more than `spare` tokens, so
    a group wastes no more than another pass would cost.

    Args:
        run: features of some sequences -> float32 [those, *shape].
        features: int32 [sequences, length] each, padded at the end, `padding_mask` among them.
        shape: of one result; None is the length.
        spare: tokens of padding that cost what one more pass does.
        most: sequences that are run together at most, which bounds the memory; None: all.

    Returns:
        float32 [sequences, *shape] in order, 0 on padding where a result is as long as a sequence.

    Example:
        >>> ids = tf.constant([[5, 0, 0], [5, 6, 7]])
        >>> given = {"token_ids": ids, "padding_mask": tf.cast(ids > 0, tf.int32)}
        >>> in_groups(lambda x: tf.cast(x["token_ids"], tf.float32), given, (None,), 0).numpy()
        array([[5., 0., 0.],
               [5., 6., 7.]], dtype=float32)
    """
    found = tf.reduce_sum(features["padding_mask"], axis=1)
    order = tf.argsort(found, direction="DESCENDING", stable=True)
    lengths = tf.maximum(tf.gather(found, order), 1)
    count, width = tf.shape(features["padding_mask"])[0], tf.shape(features["padding_mask"])[1]

    def one(begin: Any, results: Any) -> tuple[Any, Any]:
        rest = lengths[begin:] if most is None else lengths[begin : begin + most]
        longest = rest[0]
        size = tf.reduce_sum(tf.cast(tf.cumsum(longest - rest) <= spare, tf.int32))
        rows = order[begin : begin + size]
        made = run({n: tf.gather(values, rows)[:, :longest] for n, values in features.items()})
        if None in shape:
            missing = [[0, width - longest if s is None else 0] for s in shape]
            made = tf.pad(made, [[0, 0], *missing])
        return begin + size, tf.tensor_scatter_nd_update(results, rows[:, None], made)

    results = tf.zeros([count, *(width if s is None else s for s in shape)])
    # One after the other: side by side they would take the memory of all.
    _, results = tf.while_loop(
        lambda begin, _: begin < count, one, [0, results], parallel_iterations=1
    )
    return results
