"""From hidden states to the vocabulary."""

from typing import Any

from kerasft.backbones import _surgery
from kerasft.backbones.families import family_of


def token_table(backbone: Any) -> Any:
    """The token embedding itself, whatever methods have put around it."""
    return _surgery.inside(backbone.token_embedding)


def lm_logits(backbone: Any, sequence_output: Any) -> Any:
    """Logits of the next token from a decoder's hidden states, in float32.

        logits = x W,   W = the transposed token embeddings, or `reverse_embeddings` if untied

    and cap * tanh(logits / cap) where the backbone caps them (Gemma 2); T5 divides x by the root
    of its width where the embeddings are tied. Call it in a layer whose
    dtype is float32: in one of lower precision Keras hands out rounded embeddings.

    Args:
        backbone: a KerasHub decoder or encoder-decoder backbone.
        sequence_output: its (decoder's) outputs, [..., width].

    Returns:
        float32 [..., vocabulary].
    """
    import tensorflow as tf

    table = token_table(backbone)
    tied = table.tie_weights
    kernel = tf.convert_to_tensor(table.embeddings if tied else table.reverse_embeddings)
    x = tf.cast(sequence_output, tf.float32)
    if tied and family_of(backbone).scaled_logits:
        x *= backbone.hidden_dim**-0.5
    flat = tf.reshape(x, [-1, x.shape[-1]])
    logits = tf.matmul(flat, tf.cast(kernel, tf.float32), transpose_b=tied)
    logits = tf.reshape(logits, tf.concat([tf.shape(x)[:-1], tf.shape(logits)[-1:]], 0))
    logits.set_shape([*x.shape[:-1], backbone.vocabulary_size])
    cap = table.logit_soft_cap
    return logits if cap is None else cap * tf.tanh(logits / cap)
