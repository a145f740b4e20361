"""Small language models for the loops alone: their next token follows from the whole text."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft.generation import Cached
from kerasft.generation._plain_ops import write

STATES = 997
# Learned positions, rotary ones, and Gemma's own way; the other members take as long again.
QUICK = ("gpt2", "llama", "gemma", "gemma2", "mistral, window")


def toy(vocabulary=7, limit=None, seed=0):
    """A decoder whose logits are a row of a random table, chosen by all tokens and their places.

    Its cache holds the tokens themselves, so that a wrong place or a wrong row changes the answer.
    """
    table = table_of(vocabulary, seed)

    def hidden(token_ids, cache, index):
        kept = write(cache[0], index, token_ids)
        weight = 3 * tf.range(tf.shape(kept)[1]) + 1
        states = tf.cumsum(kept * weight + weight, axis=1) % STATES
        return states[:, index : index + tf.shape(token_ids)[1]], (kept,)

    return Cached(
        hidden,
        lambda states: tf.gather(table, states),
        lambda rows, length: (tf.zeros([rows, length], tf.int32),),
        vocabulary,
        limit,
    )


def table_of(vocabulary, seed=0):
    random = np.random.default_rng(seed)
    return (2 * random.standard_normal((STATES, vocabulary))).astype(np.float32)


def logits_of(tokens, vocabulary=7, seed=0):
    """The logits that `toy` gives after the tokens, without any cache."""
    state = sum((3 * i + 1) * (token + 1) for i, token in enumerate(tokens)) % STATES
    return table_of(vocabulary, seed)[state]


def log_softmax(logits):
    logits = logits.astype(np.float64) - logits.max()
    return logits - np.log(np.exp(logits).sum())


def scripted(script, vocabulary):
    """A decoder that says the tokens of the script, one after the other, after one token."""
    said = tf.constant([*script, 0], tf.int32)

    def hidden(token_ids, cache, index):
        places = index + tf.range(tf.shape(token_ids)[1])
        return tf.repeat(places[None], tf.shape(token_ids)[0], axis=0), cache

    def logits(places):
        here = tf.gather(said, tf.minimum(places, len(script)))
        return tf.one_hot(here, vocabulary, on_value=9.0)

    return Cached(hidden, logits, lambda rows, length: (tf.zeros([rows]),), vocabulary)


def padded(prompts, pad=0):
    """Token ids and mask of prompts of unlike lengths, padded on the right."""
    width = max(map(len, prompts))
    ids = np.array([[*p, *[pad] * (width - len(p))] for p in prompts], np.int32)
    mask = np.array([[1] * len(p) + [0] * (width - len(p)) for p in prompts], np.int32)
    return ids, mask


def rows_of(found):
    """The new tokens of every row, as lists."""
    pairs = zip(found["token_ids"].numpy(), found["lengths"].numpy(), strict=True)
    return [row[:n].tolist() for row, n in pairs]


def some_slow(names):
    """Parameters of a test; all but a few run with -m slow."""
    slow = pytest.mark.slow
    return [name if name in QUICK else pytest.param(name, marks=slow) for name in names]
