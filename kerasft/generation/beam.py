"""Beam search: the likeliest of several texts that are followed at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from kerasft._core.checks import whole
from kerasft.generation._rows import Rows, keep_shapes, new_tokens, options, prepare
from kerasft.generation.cached import Cached
from kerasft.generation.loop import decoding_of, generate, is_one_of

# The score of a text that is not there: below every real one, and finite.
NONE = -1e9


class Finished(NamedTuple):
    """The best finished texts of each row, best first: [rows, beams] and tokens [..., length]."""

    tokens: Any
    count: Any
    score: Any
    ended: Any


class Beams(NamedTuple):
    """What goes from one place to the next; `score` are sums of log-probabilities."""

    position: Any
    tokens: Any
    score: Any
    done: Any
    logits: Any
    finished: Finished
    cache: Any


class Candidates(NamedTuple):
    """The likeliest continuations of each row, [rows, candidates], best first."""

    score: Any
    parent: Any
    token: Any
    is_end: Any
    hit: Any


@dataclass(frozen=True)
class Search:
    """A decoder, the number of beams, the ends of texts, and the length penalty."""

    cached: Cached
    beams: int
    ends: tuple[int, ...]
    penalty: float

    def begin(self, rows: Rows, tokens: Any, source: tuple = ()) -> Beams:
        """Read sources, and all prompts to the end of the shortest, once for all beams."""
        count, length, beams = tf.shape(tokens)[0], tf.shape(tokens)[1], self.beams
        shortest = tf.minimum(tf.reduce_min(rows.lengths), length)
        cache = self.cached.empty(count, length, *source)
        hidden, cache = self.cached.hidden(tokens[:, :shortest], cache, 0)
        logits = self.cached.logits(hidden[:, -1])
        # All beams of a row are the same at first, so all but one begin out of the running.
        first = tf.tile(tf.constant([[0.0] + [NONE] * (beams - 1)]), [count, 1])
        every = tf.repeat(tokens[:, None], beams, axis=1)
        zeros = tf.zeros_like(first, tf.int32)
        return Beams(
            position=shortest,
            tokens=every,
            score=first,
            done=rows.lengths >= rows.ends,
            logits=tf.repeat(logits[:, None], beams, axis=1),
            finished=Finished(every, zeros, tf.fill(tf.shape(first), NONE), zeros > 0),
            cache=tf.nest.map_structure(lambda x: tf.repeat(x, beams, axis=0), cache),
        )

    def going(self, state: Beams) -> Any:
        """Whether a row is not done."""
        return (state.position < tf.shape(state.tokens)[2]) & ~tf.reduce_all(state.done)

    def advance(self, rows: Rows, state: Beams) -> Beams:
        """Fill one place of every beam; a finished text leaves the beams."""
        place = state.position
        step = tf.maximum(place - rows.lengths, 0)
        live = (place >= rows.lengths) & ~state.done
        found = self._candidates(state, place + 1 >= rows.ends)
        longer = tf.gather(state.tokens, found.parent, axis=1, batch_dims=1)
        here = tf.range(tf.shape(longer)[2]) == place
        longer = tf.where(here, found.token[:, :, None], longer)
        size = tf.cast(step + 1, tf.float32)[:, None] ** self.penalty

        finished = self._finish(state.finished, found, longer, step, size)
        running = tf.math.top_k(tf.where(found.hit, NONE, found.score), self.beams).indices

        def pick(x: Any) -> Any:
            return tf.gather(x, running, axis=1, batch_dims=1)

        score = tf.where(pick(found.hit), NONE, pick(found.score))
        hopeless = ~tf.reduce_any(score[:, :1] / size > finished.score, axis=1)
        new = (pick(longer), score, pick(found.parent), finished)
        same = tf.repeat(tf.range(self.beams)[None], tf.shape(live)[0], axis=0)
        old = (state.tokens, state.score, same, state.finished)
        tokens, score, parent, finished = tf.nest.map_structure(
            lambda a, b: tf.where(tf.reshape(live, [-1] + [1] * (a.shape.rank - 1)), a, b), new, old
        )
        done = state.done | (live & (hopeless | (place + 1 >= rows.ends)))
        moved = state._replace(
            position=place + 1, tokens=tokens, score=score, done=done, finished=finished
        )
        return keep_shapes(self._read(moved, parent), state)

    def _candidates(self, state: Beams, last: Any) -> Candidates:
        """Enough that beams stay to go on with when each of them ends in every way."""
        vocabulary = self.cached.vocabulary
        score = tf.nn.log_softmax(state.logits) + state.score[:, :, None]
        score = tf.reshape(score, [-1, self.beams * vocabulary])
        most = max(2, 1 + len(self.ends)) * self.beams
        top = tf.math.top_k(score, min(most, self.beams * vocabulary))
        token = top.indices % vocabulary
        is_end = is_one_of(token, self.ends)
        return Candidates(
            top.values, top.indices // vocabulary, token, is_end, is_end | last[:, None]
        )

    def _finish(
        self, old: Finished, found: Candidates, longer: Any, step: Any, size: Any
    ) -> Finished:
        """The best of the texts that were finished and those that finish among the best beams."""
        among = tf.range(tf.shape(found.score)[1]) < self.beams
        new = Finished(
            longer,
            step[:, None] + tf.where(found.is_end, 0, 1),
            tf.where(found.hit & among, found.score / size, NONE),
            found.is_end,
        )
        both = tf.nest.map_structure(lambda a, b: tf.concat([a, b], axis=1), old, new)
        best = tf.math.top_k(both.score, self.beams).indices
        return tf.nest.map_structure(lambda x: tf.gather(x, best, axis=1, batch_dims=1), both)

    def _read(self, state: Beams, parent: Any) -> Beams:
        """Logits of the next place, with each beam's cache from the beam that it continues."""
        rows, place = tf.shape(parent)[0], state.position - 1

        def read() -> tuple[Any, Any]:
            flat = tf.reshape(parent + tf.range(rows)[:, None] * self.beams, [-1])
            cache = tf.nest.map_structure(lambda x: tf.gather(x, flat), state.cache)
            token = tf.reshape(tf.gather(state.tokens, place, axis=2), [-1, 1])
            hidden, cache = self.cached.hidden(token, cache, place)
            logits = self.cached.logits(hidden[:, 0])
            return tf.reshape(logits, [rows, self.beams, self.cached.vocabulary]), cache

        logits, cache = tf.cond(self.going(state), read, lambda: (state.logits, state.cache))
        return state._replace(logits=logits, cache=cache)


@tf.autograph.experimental.do_not_convert
def beam_search(
    cached: Cached,
    token_ids: Any,
    padding_mask: Any,
    *,
    max_new_tokens: Any,
    beams: int,
    source: tuple = (),
    length_penalty: float = 1.0,
    end_ids: Sequence[int] = (),
    detokenize: Callable[[Any], Any] | None = None,
    pad: int = 0,
) -> dict[str, Any]:
    """Continue every prompt with the likeliest of the texts that `beams` beams come upon.

        score = (sum of log-probabilities) / length ** length_penalty

    where the length is that of what follows the prompt, with its end token. A row is done when it
    has `beams` finished texts and its best beam, at its present length, is worse than each. The
    same call gives the same texts; one beam is greedy search.

    Args:
        cached, token_ids, padding_mask, max_new_tokens, source, end_ids, detokenize, pad: as in
            `generate`.
        beams: how many texts of each row are followed at once.
        length_penalty: 0 compares sums, which favours short texts; more favours longer ones.

    Returns:
        As `generate`, for the best text of each row; `scores` as in the formula.

    Raises:
        InputError: for a parameter outside its range.

    Example:
        >>> beam_search(step_model(backbone), [[5, 6]], [[1, 1]], max_new_tokens=8, beams=3)

    Reference: Wu et al. 2016, "Google's Neural Machine Translation System",
    https://arxiv.org/abs/1609.08144; the rules for ends are those of Transformers' `generate`.
    """
    whole("beams", beams, 1)
    common = {"max_new_tokens": max_new_tokens, "pad": pad}
    if beams == 1:
        more = {"source": source, "end_ids": end_ids, "detokenize": detokenize}
        found = generate(cached, token_ids, padding_mask, **common, **more)
        length = tf.cast(found["lengths"] + tf.cast(found["ended"], tf.int32), tf.float32)
        return found | {"scores": found["scores"] / tf.maximum(length, 1.0) ** length_penalty}
    decoding = decoding_of(cached, end_ids, (), detokenize, 1)
    search = Search(cached, beams, decoding.ends, float(length_penalty))
    rows, tokens = prepare(cached, token_ids, padding_mask, max_new_tokens, options(), pad)
    (state,) = tf.while_loop(
        search.going,
        lambda state: (search.advance(rows, state),),
        (search.begin(rows, tokens, source),),
    )
    best = tf.nest.map_structure(lambda x: x[:, 0], state.finished)
    ids = new_tokens(best.tokens, rows.lengths, best.count)
    none = best.score <= NONE
    found = {
        "token_ids": ids.to_tensor(pad),
        "lengths": best.count,
        "scores": tf.where(none, tf.zeros_like(best.score), best.score),
        "ended": best.ended,
    }
    return found | ({"text": decoding.text.detokenize(ids)} if decoding.text else {})
