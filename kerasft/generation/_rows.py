"""What the rows of a batch ask for, checked and as tensors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerasft._core import ragged
from kerasft._core.checks import in_range, whole
from kerasft._core.errors import InputError
from kerasft.generation.cached import Cached


class Rows(NamedTuple):
    """Each row's prompt length, the length at which it ends, and its parameters; all [rows]."""

    lengths: Any
    ends: Any
    temperature: Any
    top_k: Any
    top_p: Any
    repetition_penalty: Any
    seed: Any


def options(
    *,
    temperature: Any = 0.0,
    top_k: Any = 0,
    top_p: Any = 1.0,
    repetition_penalty: Any = 1.0,
    seed: Any = 0,
) -> dict[str, Any]:
    """Parameters by name; plain numbers are checked, tensors are taken as they are."""
    _number("temperature", temperature, 0)
    _number("top_p", top_p, 0, 1)
    _number("repetition_penalty", repetition_penalty, 0, above=True)
    if not tf.is_tensor(top_k) and isinstance(top_k, (int, float)):
        whole("top_k", top_k)
    return {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }


def _number(name: str, value: Any, low: float, high: float = float("inf"), **more: bool) -> None:
    if isinstance(value, (int, float)):
        in_range(name, value, low, high, **more)


def end_ids(ids: Sequence[int], vocabulary: int) -> tuple[int, ...]:
    """End ids as a tuple; `InputError` for one outside the vocabulary."""
    ids = tuple(int(i) for i in ids)
    for index in ids:
        if not 0 <= index < vocabulary:
            raise InputError(
                f"`end_ids` are ids from 0 to {vocabulary - 1}. Received: {index} in {ids}."
            )
    return ids


def prepare(
    cached: Cached, token_ids: Any, padding_mask: Any, max_new_tokens: Any, asked: dict, pad: int
) -> tuple[Rows, Any]:
    """The rows, and their tokens [rows, longest text] with room for what will be generated.

    A prompt without a token is taken as one pad token, for a decoder has to read something.
    """
    if not tf.is_tensor(max_new_tokens) and isinstance(max_new_tokens, (int, float)):
        whole("max_new_tokens", max_new_tokens)
    token_ids, padding_mask = tf.cast(token_ids, tf.int32), tf.cast(padding_mask, tf.int32)
    if cached.limit is not None:
        token_ids, padding_mask = token_ids[:, : cached.limit], padding_mask[:, : cached.limit]
    lengths = tf.maximum(tf.reduce_sum(padding_mask, axis=1), 1)
    rows, width = tf.shape(token_ids)[0], tf.maximum(tf.shape(token_ids)[1], 1)

    def per_row(value: Any, kind: tf.DType) -> Any:
        return tf.broadcast_to(tf.cast(value, kind), [rows])

    ends = lengths + tf.maximum(per_row(max_new_tokens, tf.int32), 0)
    if cached.limit is not None:
        ends = tf.minimum(ends, cached.limit)
    tokens = tf.where(padding_mask > 0, token_ids, pad)
    room = tf.maximum(tf.reduce_max(tf.concat([ends, [width]], 0)) - tf.shape(token_ids)[1], 0)
    tokens = tf.pad(tokens, [[0, 0], [0, room]], constant_values=pad)
    kinds = {"top_k": tf.int32, "seed": tf.int32}
    values = {name: per_row(value, kinds.get(name, tf.float32)) for name, value in asked.items()}
    return Rows(lengths, ends, **values), tokens


def new_tokens(tokens: Any, lengths: Any, count: Any) -> Any:
    """The `count` tokens behind each row's prompt, ragged int32 [rows, (count)]."""
    place = tf.range(tf.shape(tokens)[1])[None]
    mask = (place >= lengths[:, None]) & (place < (lengths + count)[:, None])
    return ragged.masked_dense(tokens, mask)


def keep_shapes(new: Any, old: Any) -> Any:
    """The structure `new`, with what is known of the shapes of `old`, as a loop needs it."""
    for one, other in zip(tf.nest.flatten(new), tf.nest.flatten(old), strict=True):
        one.set_shape(other.shape)
    return new
