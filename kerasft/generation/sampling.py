"""Functions on the logits of the next token; every row has parameters of its own."""

from typing import Any

import tensorflow as tf

# What a ruled-out token gets: far below every logit, and finite, so that 0 times it is 0.
RULED_OUT = -1e9


def temperature(logits: Any, value: Any) -> Any:
    """Divide the logits of each row by its temperature.

    Args:
        logits: float32 [rows, vocabulary].
        value: float32 [rows]; 0 leaves the row as it is (see `choose`).

    Returns:
        float32 [rows, vocabulary].
    """
    return logits / tf.where(value > 0, value, tf.ones_like(value))[:, None]


def top_k(logits: Any, k: Any) -> Any:
    """Rule out all but the k likeliest tokens of each row; of equal ones the lower ids stay.

    Args:
        logits: float32 [rows, vocabulary].
        k: int32 [rows]; 0 rules nothing out.

    Returns:
        float32 [rows, vocabulary], `RULED_OUT` where a token is ruled out.

    Reference: Fan et al. 2018, "Hierarchical Neural Story Generation",
    https://arxiv.org/abs/1805.04833
    """
    ordered, order = _sorted(logits)
    return tf.where(_in_order(_within_k(ordered, k), order), logits, RULED_OUT)


def top_p(logits: Any, p: Any) -> Any:
    """Rule out all but the fewest likeliest tokens of each row whose probability reaches p.

        token i stays where the probability of all likelier tokens is below p

    Args:
        logits: float32 [rows, vocabulary].
        p: float32 [rows], 0 to 1; 1 rules nothing out. The likeliest token always stays.

    Returns:
        float32 [rows, vocabulary], `RULED_OUT` where a token is ruled out.

    Reference: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration",
    https://arxiv.org/abs/1904.09751
    """
    ordered, order = _sorted(logits)
    return tf.where(_in_order(_within_p(ordered, p), order), logits, RULED_OUT)


def repetition_penalty(logits: Any, seen: Any, penalty: Any) -> Any:
    """Make tokens that the text holds already less likely.

        logit / penalty where it is positive, logit * penalty where it is negative

    Args:
        logits: float32 [rows, vocabulary].
        seen: bool [rows, vocabulary], the tokens of the row's prompt and of what follows it.
        penalty: float32 [rows]; 1 changes nothing, more than 1 avoids repetition.

    Returns:
        float32 [rows, vocabulary].

    Reference: Keskar et al. 2019, "CTRL: A Conditional Transformer Language Model for
    Controllable Generation", https://arxiv.org/abs/1909.05858
    """
    by = penalty[:, None]
    return tf.where(seen, tf.where(logits > 0, logits / by, logits * by), logits)


def choose(logits: Any, heat: Any, k: Any, p: Any, seed: Any, step: Any) -> Any:
    """Choose the next token of each row: the likeliest, or one drawn at random.

    Logits are divided by the temperature, then the k likeliest tokens are kept, then those that
    reach the probability p. The random number follows from the row's seed and step alone.

    Args:
        logits: float32 [rows, vocabulary].
        heat: temperature, float32 [rows]; 0 takes the likeliest token, of equal ones the lowest id.
        k: int32 [rows]; 0 for all tokens.
        p: float32 [rows]; 1 for all tokens.
        seed: int32 [rows].
        step: int32 [rows], how many tokens the row has got before.

    Returns:
        int32 [rows], ids.

    Example:
        >>> choose(logits, tf.fill([2], 0.7), tf.fill([2], 40), tf.ones([2]), seeds, steps)
    """
    best = tf.math.top_k(logits, 1).indices[:, 0]

    def drawn() -> Any:
        return tf.where(heat > 0, _draw(temperature(logits, heat), k, p, seed, step), best)

    # Sorting a vocabulary costs; where no row draws, it is not done.
    return tf.cond(tf.reduce_any(heat > 0), drawn, lambda: best)


def _draw(logits: Any, k: Any, p: Any, seed: Any, step: Any) -> Any:
    ordered, order = _sorted(logits)
    kept = tf.where(_within_k(ordered, k), ordered, RULED_OUT)
    kept = tf.where(_within_p(kept, p), kept, RULED_OUT)
    below = tf.cumsum(tf.nn.softmax(kept), axis=1)
    place = _uniform(seed, step)[:, None] * below[:, -1:]
    index = tf.reduce_sum(tf.cast(below <= place, tf.int32), axis=1)
    return tf.gather(order, index, axis=1, batch_dims=1)


def _uniform(seed: Any, step: Any) -> Any:
    """A number in [0, 1) a row, which follows from the row's (seed, step)."""
    return tf.map_fn(
        lambda pair: tf.random.stateless_uniform([], pair, alg="philox"),
        tf.stack([seed, step], axis=1),
        fn_output_signature=tf.TensorSpec([], tf.float32),
    )


def _sorted(logits: Any) -> tuple[Any, Any]:
    """Logits from high to low, and their ids; equal ones by id."""
    found = tf.math.top_k(logits, tf.shape(logits)[1])
    return found.values, found.indices


def _within_k(ordered: Any, k: Any) -> Any:
    rank = tf.range(tf.shape(ordered)[1])[None]
    return (rank < k[:, None]) | (k[:, None] <= 0)


def _within_p(ordered: Any, p: Any) -> Any:
    likelier = tf.cumsum(tf.nn.softmax(ordered), axis=1, exclusive=True)
    first = tf.range(tf.shape(ordered)[1])[None] == 0
    # Sums of rounded numbers reach 1 before the last token; p = 1 keeps all the same.
    return (likelier < p[:, None]) | (p[:, None] >= 1) | first


def _in_order(mask: Any, order: Any) -> Any:
    """A mask over sorted places as one over ids."""
    return tf.gather(mask, tf.argsort(order, axis=1), axis=1, batch_dims=1)
