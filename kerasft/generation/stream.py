"""One text as it comes, piece by piece."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.generation._rows import new_tokens, options, prepare
from kerasft.generation.cached import Cached
from kerasft.generation.loop import Decoding, decoding_of

_ROW = {"temperature": tf.float32, "top_k": tf.int32, "top_p": tf.float32}
_ROW |= {"repetition_penalty": tf.float32, "seed": tf.int32}


def stream(
    cached: Cached,
    token_ids: Any,
    padding_mask: Any,
    *,
    max_new_tokens: int,
    detokenize: Callable[[Any], Any],
    source: tuple = (),
    end_ids: Sequence[int] = (),
    stop: Sequence[str] = (),
    pad: int = 0,
    **parameters: Any,
) -> Iterator[str]:
    """Continue one prompt and give its text as it comes.

    What is given can no longer change: half a character, and what may become a stop string,
    is held back until the next token. The parts joined are the `text` that `generate` gives.

    Args:
        cached: the decoder, from `step_model`. Its two compiled functions stay with it, so that
            the next stream with the same `detokenize`, `end_ids` and `stop` begins at once.
        token_ids: int32 [1, length].
        padding_mask: [1, length], 1 on real ids.
        max_new_tokens: the most tokens that follow the prompt.
        detokenize: from `detokenizer`.
        source, end_ids, stop, pad: as in `generate`.
        parameters: `temperature`, `top_k`, `top_p`, `repetition_penalty` and `seed`, as in
            `generate`.

    Returns:
        A generator of strings that are not empty.

    Raises:
        InputError: for more than one prompt, or a parameter outside its range.

    Example:
        >>> for part in stream(cached, ids, mask, max_new_tokens=64, detokenize=detokenize):
        ...     print(part, end="", flush=True)
    """
    if len(token_ids) != 1:
        raise InputError(f"A stream continues one prompt. Received: {len(token_ids)} prompts.")
    asked = options(**parameters)
    penalty = asked["repetition_penalty"]
    decoding = decoding_of(cached, end_ids, stop, detokenize, penalty)
    key = ("stream", decoding.ends, decoding.text, decoding.penalised, pad, len(source))
    if key not in cached.compiled:
        cached.compiled[key] = _compiled(decoding, pad, len(source))
    begin, advance = cached.compiled[key]
    values = {name: tf.cast(value, _ROW[name]) for name, value in asked.items()}
    values = {name: tf.reshape(value, [1]) for name, value in values.items()}
    start = tf.cast(token_ids, tf.int32), tf.cast(padding_mask, tf.int32)
    most = tf.reshape(tf.cast(max_new_tokens, tf.int32), [1])
    source = tuple(tf.cast(part, tf.int32) for part in source)
    return _parts(decoding.text, begin, advance, (*start, most, values, source))


def _parts(text: Any, begin: Any, advance: Any, asked: tuple) -> Iterator[str]:
    rows, state, going = begin(*asked)
    given, whole = "", ""
    while bool(going):
        state, going, found = advance(rows, state)
        whole = found.numpy()[0].decode("utf-8")
        ready = text.settled(whole) if bool(going) else whole
        if len(ready) > len(given):
            yield ready[len(given) :]
            given = ready


def _compiled(decoding: Decoding, pad: int, sources: int) -> tuple[Any, Any]:
    """(begin, advance), traced once for prompts of every length."""
    wide = tf.TensorSpec([1, None], tf.int32)
    row = tf.TensorSpec([1], tf.int32)
    values = {name: tf.TensorSpec([1], kind) for name, kind in _ROW.items()}

    @tf.function(input_signature=[wide, wide, row, values, (wide,) * sources], autograph=False)
    def begin(token_ids, padding_mask, most, asked, source):
        rows, tokens = prepare(decoding.cached, token_ids, padding_mask, most, asked, pad)
        state = decoding.begin(rows, tokens, source)
        return rows, state, decoding.going(state)

    rows, state, _ = tf.nest.map_structure(
        lambda x: tf.TensorSpec(x.shape, x.dtype), begin.get_concrete_function().structured_outputs
    )

    @tf.function(input_signature=[rows, state], autograph=False)
    def advance(rows, state):
        state = decoding.advance(rows, state)
        ids = new_tokens(state.tokens, rows.lengths, state.count)
        text = decoding.text.cut(decoding.text.detokenize(ids))
        return state, decoding.going(state), text

    return begin, advance
