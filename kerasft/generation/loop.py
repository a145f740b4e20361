"""One decode loop for every decoder, in plain TensorFlow ops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.generation import sampling
from kerasft.generation._rows import Rows, end_ids, keep_shapes, new_tokens, options, prepare
from kerasft.generation.cached import Cached
from kerasft.generation.text import Text


class State(NamedTuple):
    """What goes from one place of the texts to the next.

    position: the place that is filled next; tokens: prompts and what follows; count, score, done,
    ended: of each row; logits: of the next token; seen: the tokens that each text holds, or
    [rows, 0]; cache: keys and values of the places before.
    """

    position: Any
    tokens: Any
    count: Any
    score: Any
    done: Any
    ended: Any
    logits: Any
    seen: Any
    cache: Any


@dataclass(frozen=True)
class Decoding:
    """A decoder, the ends of its texts, and whether repetition is penalised."""

    cached: Cached
    ends: tuple[int, ...] = ()
    text: Text | None = None
    penalised: bool = False

    def begin(self, rows: Rows, tokens: Any, source: tuple = ()) -> State:
        """Read the sources, where there are any, and all prompts to the end of the shortest."""
        count, length = tf.shape(tokens)[0], tf.shape(tokens)[1]
        shortest = tf.minimum(tf.reduce_min(rows.lengths), length)
        cache = self.cached.empty(count, length, *source)
        hidden, cache = self.cached.hidden(tokens[:, :shortest], cache, 0)
        zeros = tf.zeros([count], tf.int32)
        done = rows.lengths >= rows.ends
        return State(
            position=shortest,
            tokens=tokens,
            count=zeros,
            score=tf.cast(zeros, tf.float32),
            done=done,
            ended=tf.zeros_like(done),
            logits=self.cached.logits(hidden[:, -1]),
            seen=self._seen(rows, tokens),
            cache=cache,
        )

    def going(self, state: State) -> Any:
        """Whether a row is not done."""
        return (state.position < tf.shape(state.tokens)[1]) & ~tf.reduce_all(state.done)

    def advance(self, rows: Rows, state: State) -> State:
        """Fill one place of every row: with its prompt's token, a chosen one, or nothing."""
        place = state.position
        step = place - rows.lengths
        live = (step >= 0) & ~state.done
        logits = state.logits
        if self.penalised:
            logits = sampling.repetition_penalty(logits, state.seen, rows.repetition_penalty)
        chosen = sampling.choose(
            logits, rows.temperature, rows.top_k, rows.top_p, rows.seed, tf.maximum(step, 0)
        )
        ended = live & is_one_of(chosen, self.ends)
        written = live & ~ended
        token = tf.where(written, chosen, tf.gather(state.tokens, place, axis=1))
        here = tf.range(tf.shape(state.tokens)[1])[None] == place
        tokens = tf.where(here, token[:, None], state.tokens)
        count = state.count + tf.cast(written, tf.int32)
        ended |= written & self._stopped(rows, tokens, count, place)
        gain = log_probability(state.logits, chosen)
        done = state.done | ended | (place + 1 >= rows.ends)
        moved = state._replace(
            position=place + 1,
            tokens=tokens,
            count=count,
            score=state.score + tf.where(live, gain, tf.zeros_like(gain)),
            done=done,
            ended=state.ended | ended,
            seen=self._seen_more(state.seen, chosen, written),
        )
        return keep_shapes(self._read(moved, token), state)

    def result(self, rows: Rows, state: State, pad: int) -> dict[str, Any]:
        """What `generate` gives."""
        ids = new_tokens(state.tokens, rows.lengths, state.count)
        found = {
            "token_ids": ids.to_tensor(pad),
            "lengths": state.count,
            "scores": state.score,
            "ended": state.ended,
        }
        return found | ({"text": self.text.cut(self.text.detokenize(ids))} if self.text else {})

    def _read(self, state: State, token: Any) -> State:
        """Logits of the next place, unless there is none."""

        def read() -> tuple[Any, Any]:
            hidden, cache = self.cached.hidden(token[:, None], state.cache, state.position - 1)
            return self.cached.logits(hidden[:, 0]), cache

        logits, cache = tf.cond(self.going(state), read, lambda: (state.logits, state.cache))
        return state._replace(logits=logits, cache=cache)

    def _stopped(self, rows: Rows, tokens: Any, count: Any, place: Any) -> Any:
        if self.text is None or not self.text.stop:
            return tf.zeros_like(count, tf.bool)
        first = tf.maximum(place + 1 - self.text.tail, 0)
        ids = new_tokens(tokens[:, first : place + 1], rows.lengths - first, count)
        return self.text.stops(ids)

    def _seen(self, rows: Rows, tokens: Any) -> Any:
        if not self.penalised:
            return tf.zeros([tf.shape(tokens)[0], 0], tf.bool)
        place = tf.range(tf.shape(tokens)[1])[None]
        prompts = tf.where(place < rows.lengths[:, None])
        token = tf.cast(tf.gather_nd(tokens, prompts), tf.int64)
        where = tf.stack([prompts[:, 0], token], axis=1)
        shape = tf.stack([tf.shape(tokens, tf.int64)[0], self.cached.vocabulary])
        return tf.scatter_nd(where, tf.ones_like(token), shape) > 0

    def _seen_more(self, seen: Any, chosen: Any, written: Any) -> Any:
        if not self.penalised:
            return seen
        new = tf.one_hot(chosen, self.cached.vocabulary, True, False, dtype=tf.bool)
        return seen | (new & written[:, None])


# AutoGraph would read all of it for Python's `if` and `while`, of which there is none on tensors.
@tf.autograph.experimental.do_not_convert
def generate(
    cached: Cached,
    token_ids: Any,
    padding_mask: Any,
    *,
    max_new_tokens: Any,
    source: tuple = (),
    temperature: Any = 0.0,
    top_k: Any = 0,
    top_p: Any = 1.0,
    repetition_penalty: Any = 1.0,
    seed: Any = 0,
    end_ids: Sequence[int] = (),
    stop: Sequence[str] = (),
    detokenize: Callable[[Any], Any] | None = None,
    pad: int = 0,
) -> dict[str, Any]:
    """Continue every prompt of a batch, token by token.

    A row ends at an end token, at a stop string, after `max_new_tokens`, or at the backbone's
    last position; the loop ends with the last row. What a row gets depends on its own prompt,
    parameters and seed alone. Inside a `tf.function` this is graph code without any Python.

    Args:
        cached: the decoder, from `step_model`.
        token_ids: int32 [rows, length], padded on the right as `pack` does.
        padding_mask: [rows, length], 1 on real ids.
        max_new_tokens: the most tokens that follow a prompt; a number, or int32 [rows].
        source: of an encoder-decoder: token_ids and padding_mask, [rows, length of the sources],
            of what its encoder reads; the prompts are then what its decoder begins with.
        temperature: 0 takes the likeliest token, more draws one; a number, or float32 [rows].
        top_k: draw among the k likeliest tokens, 0 for all; a number, or int32 [rows].
        top_p: draw among the likeliest tokens that reach this probability; a number, or
            float32 [rows].
        repetition_penalty: more than 1 avoids tokens that the text holds; a number, or
            float32 [rows].
        seed: what is drawn follows from it; a number, or int32 [rows].
        end_ids: ids that end a text; they are no part of it.
        stop: strings that end a text; `text` is cut off before them, `token_ids` are not.
        detokenize: from `detokenizer`; adds `text` to the result, and `stop` needs it.
        pad: the id that fills rows up.

    Returns:
        `token_ids` int32 [rows, most new tokens], without the prompt; `lengths` int32 [rows];
        `scores` float32 [rows], the sum of the log-probabilities that the model itself gave the
        tokens (and the end token); `ended` bool [rows], whether an end token or a stop string
        came; with `detokenize` also `text`, string [rows], valid UTF-8.

    Raises:
        InputError: for a parameter outside its range, or `stop` without `detokenize`.

    Example:
        >>> generate(step_model(backbone), [[5, 6]], [[1, 1]], max_new_tokens=8)["token_ids"]

    Reference: Transformers' `GenerationMixin.generate`, whose greedy search gives the same tokens.
    """
    asked = options(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    decoding = decoding_of(cached, end_ids, stop, detokenize, repetition_penalty)
    rows, tokens = prepare(cached, token_ids, padding_mask, max_new_tokens, asked, pad)
    (state,) = tf.while_loop(
        decoding.going,
        lambda state: (decoding.advance(rows, state),),
        (decoding.begin(rows, tokens, source),),
    )
    return decoding.result(rows, state, pad)


def decoding_of(
    cached: Cached, ends: Sequence[int], stop: Sequence[str], detokenize: Any, penalty: Any
) -> Decoding:
    """Check what is the same for all rows; a penalty of 1 leaves its code out of the graph."""
    if stop and detokenize is None:
        raise InputError("`stop` needs `detokenize`, which says what text the tokens are.")
    text = Text(detokenize, stop if isinstance(stop, str) else tuple(stop)) if detokenize else None
    off = isinstance(penalty, (int, float)) and penalty == 1
    return Decoding(cached, end_ids(ends, cached.vocabulary), text, not off)


def is_one_of(ids: Any, known: Sequence[int]) -> Any:
    """Whether each id is among the known ones, bool in the shape of `ids`."""
    found = tf.zeros_like(ids, tf.bool)
    for index in known:
        found |= ids == index
    return found


def log_probability(logits: Any, ids: Any) -> Any:
    """Log-probability of one id in each row of logits [rows, vocabulary]."""
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits)
