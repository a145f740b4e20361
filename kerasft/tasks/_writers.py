"""What tasks share whose answer is a text that a decoder writes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasft._core import ragged
from kerasft._core.checks import in_range, listed, whole
from kerasft._core.errors import InputError
from kerasft.backbones import template_of
from kerasft.backbones.describe import decoder_start
from kerasft.data import encoder
from kerasft.data.encoded import DECODER
from kerasft.generation import beam_search, detokenizer, generate, step_model, stream
from kerasft.methods import Adapted
from kerasft.preprocessing import taken, windows
from kerasft.tasks import _language
from kerasft.tasks._models import language_model

# The most new tokens that a row may ask of a server.
MOST_SERVED = 1024
# How a row of the signature `generate` asks: name -> type.
ASKED = {
    "max_new_tokens": tf.int32,
    "temperature": tf.float32,
    "top_k": tf.int32,
    "top_p": tf.float32,
    "seed": tf.int32,
}


def check_options(task: Any) -> None:
    """`InputError` for an option of generation outside its range."""
    whole("max_new_tokens", task.max_new_tokens, 1)
    whole("beams", task.beams, 1)
    whole("top_k", task.top_k, 0)
    in_range("temperature", task.temperature, 0)
    in_range("top_p", task.top_p, 0, 1, above=True)
    in_range("repetition_penalty", task.repetition_penalty, 0, above=True)
    in_range("length_penalty", task.length_penalty, -10, 10)
    object.__setattr__(task, "stop", listed("stop", task.stop))
    if not all(isinstance(s, str) and s for s in task.stop):
        raise InputError(f"`stop` is a list of texts. Received: stop={task.stop!r}.")
    if task.beams > 1 and (task.temperature or task.stop or task.repetition_penalty != 1):
        raise InputError(
            "Beam search follows the likeliest texts: with `beams` above 1 leave temperature at "
            f"0, repetition_penalty at 1 and stop empty. Received: beams={task.beams}."
        )


def kept(ids: Any, max_length: int, begin: int, side: str = "right", said: Any = None) -> Any:
    """Which ids of rows that are too long stay: bool [ids], of the flat ids.

    Args:
        ids: ragged int32 [rows, (ids)].
        max_length: the most that stay.
        begin: ids in front that always do.
        side: where a row is cut: at its end (`right`), or behind `begin` (`left`).
        said: ragged bool, the ids of a completion at the end; one that is too long by itself
            loses its own end.
    """
    size, place, row = ids.row_lengths(), ragged.places_of(ids), ragged.rows_of(ids)
    if side == "right":
        return place < max_length
    end = size
    if said is not None:
        own = tf.cast(said.flat_values, tf.int64)
        own = tf.math.unsorted_segment_sum(own, row, tf.size(size))
        end -= tf.maximum(own - (max_length - begin), 0)
    cut = tf.maximum(end - max_length, 0)
    first, end = tf.gather(begin + cut, row), tf.gather(end, row)
    return (place < begin) | ((place >= first) & (place < end))


def examples(
    tokenizer: Any,
    ids: Any,
    learned: Any,
    max_length: int,
    begin: int,
    side: str,
    said: Any = None,
) -> dict[str, Any]:
    """Ids to learn from as features with `targets`, `row` and `lost`.

    Args:
        ids, learned: ragged int32 and bool [examples, (ids)].
        max_length: the most ids in a row.
        begin: ids in front of every example that are never cut.
        side: `left`, `right`, or `windows`: a long example goes on in the next row, which begins
            with the last token of the one before, so that no token is left out or learned twice.
        said: as in `kept`; what is learned when None.
    """
    count = learned.with_values(tf.cast(learned.flat_values, tf.int32))
    if side == "windows":
        row, first, last = windows(ids.row_lengths(), max_length, 1)
        ids, learned = (taken(x, row, first, last) for x in (ids, learned))
        lost = tf.zeros_like(row)
    else:
        keep = kept(ids, max_length, begin, side, learned if said is None else said)
        row = tf.range(ids.nrows(out_type=tf.int32))
        ids, learned = (ragged.masked(x, keep) for x in (ids, learned))
        gone = tf.where(keep, 0, count.flat_values)
        lost = tf.reduce_sum(count.with_values(gone), axis=1)
    targets = _language.next_tokens(ids, learned)
    features = inputs_of(tokenizer, ids)
    missing = tf.shape(features["token_ids"])[1] - tf.shape(targets)[1]
    targets = tf.pad(targets, [[0, 0], [0, missing]], constant_values=-1)
    return features | {"targets": targets, "row": row, "lost": lost}


def prompted(tokenizer: Any, writing: Any, segments: Any, max_length: int) -> dict[str, Any]:
    """Prompts as the backbone's inputs; of one that is too long the end is kept."""
    ids, _ = _language.segment_ids(tokenizer, writing, segments)
    keep = kept(ids, max_length, len(writing.begin), "left")
    return inputs_of(tokenizer, ragged.masked(ids, keep))


def packed(model: Any) -> Any:
    """A model of packed rows with the weights of a language model."""
    adapted = next(layer for layer in model.layers if isinstance(layer, Adapted))
    return language_model(adapted, model.name, packed=True, source=True)


def inputs_of(tokenizer: Any, ids: Any) -> dict[str, Any]:
    """Ragged ids as padded features; a row without any reads the pad id."""
    pad = template_of(tokenizer).pad
    ids = ragged.side_by_side([ids, ragged.where_empty(ids, pad)])
    token_ids = ids.to_tensor(pad)
    return {
        "token_ids": token_ids,
        "segment_ids": tf.zeros_like(token_ids),
        "padding_mask": tf.ones_like(ids).to_tensor(0),
    }


def written(task: Any, pipe: Any, features: dict[str, Any], **asked: Any) -> dict[str, Any]:
    """Continue prompts, in the graph.

    Args:
        task: says how (`temperature`, `beams`, ...).
        pipe: holds backbone and tokenizer.
        features: prompts as `encode` gives them.
        asked: values of `ASKED` that take the place of the task's, a number or one a row.

    Returns:
        `completion` string [batch], and `tokens` int32 [batch, most new tokens], padded with -1.
    """
    parts, cached = _parts(task, pipe), step_model(pipe.backbone)
    given, parts["source"] = prompts_of(features)
    given = given if parts["source"] else with_room(given, cached.limit, task.max_new_tokens)
    options = {name: getattr(task, name) for name in ASKED if name != "seed"} | asked
    if task.beams > 1 and not asked:
        parts.pop("stop")
        found = beam_search(
            cached,
            *given,
            max_new_tokens=task.max_new_tokens,
            beams=task.beams,
            length_penalty=task.length_penalty,
            **parts,
        )
    else:
        found = generate(
            cached,
            *given,
            repetition_penalty=task.repetition_penalty,
            **options,
            **parts,
        )
    ids, count = found["token_ids"], found["lengths"]
    real = tf.range(tf.shape(ids)[1])[None] < count[:, None]
    return {"completion": found["text"], "tokens": tf.where(real, ids, -1)}


def streamed(task: Any, pipe: Any, features: dict[str, Any], **asked: Any) -> Iterator[str]:
    """One text as it comes, piece by piece; options as in `written`."""
    names = (*ASKED, "repetition_penalty")
    options = {name: getattr(task, name) for name in names if name != "seed"} | asked
    if "stream" not in pipe.kept:  # its functions are traced once
        pipe.kept["stream"] = step_model(pipe.backbone), _parts(task, pipe)
    cached, parts = pipe.kept["stream"]
    whole("max_new_tokens", options["max_new_tokens"], 1)
    given, source = prompts_of(features)
    given = given if source else with_room(given, cached.limit, task.max_new_tokens)
    return stream(cached, *given, **({"source": source} | parts | options))


def with_room(given: tuple[Any, Any], limit: int | None, new: int) -> tuple[Any, Any]:
    """Prompts that leave room for an answer where positions end; of a longer one the end is kept.

    Args:
        given: token_ids and padding_mask, int32 [batch, length].
        limit: the backbone's last position, or None.
        new: the tokens that an answer may have; half of the positions are a prompt's at least.
    """
    if limit is None:
        return given
    ids, mask = (tf.cast(x, tf.int32) for x in given)
    kept_ids = tf.RaggedTensor.from_tensor(ids, tf.reduce_sum(mask, axis=1))
    kept_ids = kept_ids[:, -max(limit - new, limit // 2) :]
    return kept_ids.to_tensor(0), tf.ones_like(kept_ids).to_tensor(0)


def prompts_of(features: dict[str, Any]) -> tuple[tuple, tuple]:
    """What is gone on with, and what is read for it: (token_ids, padding_mask) each, or ()."""
    own = (features["token_ids"], features["padding_mask"])
    if DECODER + "token_ids" not in features:
        return own, ()
    return (features[DECODER + "token_ids"], features[DECODER + "padding_mask"]), own


def _parts(task: Any, pipe: Any) -> dict[str, Any]:
    """What generation needs of a tokenizer."""
    writing = task.writing(pipe.tokenizer)
    ends = {writing.specials[writing.end], pipe.tokenizer.end_token_id}
    begun = (*template_of(pipe.tokenizer).start, *decoder_start(pipe.tokenizer))
    drop = sorted({*writing.specials.values(), *ends, *begun})
    return {
        "end_ids": tuple(sorted(ends)),
        "stop": task.stop,
        "detokenize": detokenizer(pipe.tokenizer, drop),
        "pad": template_of(pipe.tokenizer).pad,
    }


def signatures(task: Any, pipe: Any) -> dict[str, Any]:
    """The signature `generate`: a prompt a row, and how each is to be continued, without beams.

    A row gets at most 1,024 new tokens, or the task's `max_new_tokens` where that is more.
    """
    specs = {task.inputs[0]: tf.string} | ASKED
    given = [tf.TensorSpec([None], kind, name=name) for name, kind in specs.items()]

    @tf.function(input_signature=given, autograph=False)
    def generate_each(*values):
        asked = dict(zip(specs, values, strict=True))
        prompt = {task.inputs[0]: asked.pop(task.inputs[0])}
        # One request must not make room for more than a server has, for all rows of its batch.
        most = max(task.max_new_tokens, MOST_SERVED)
        asked["max_new_tokens"] = tf.clip_by_value(asked["max_new_tokens"], 0, most)
        return written(task, pipe, task.encode(pipe.tokenizer, prompt), **asked)

    return {"generate": generate_each}


def likelihoods(
    task: Any, pipe: Any, chunks: Iterable[dict[str, list]]
) -> Iterator[tuple[dict[str, list], np.ndarray, np.ndarray]]:
    """(rows, how many of their tokens are learned, their summed negative log-likelihood)."""
    encode = encoder(task, pipe.tokenizer, task.reads)
    for fields in chunks:
        features = encode(fields)
        features["targets"] = task.targets(fields, features)
        nll, tokens = pipe.reduced(features, token_nll).T
        rows = len(next(iter(fields.values())))
        row = features.get("row", np.arange(rows))
        counts, sums = (np.bincount(row, values, rows) for values in (tokens, nll))
        yield fields, counts, sums


def token_nll(logits: Any, targets: Any) -> Any:
    """Summed negative log-likelihood and number of the learned tokens, float32 [rows, 2]."""
    learned = tf.cast(targets >= 0, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(targets, 0), logits)
    return tf.stack([tf.reduce_sum(losses * learned, 1), tf.reduce_sum(learned, 1)], axis=1)


def checked(features: dict[str, Any], texts: Sequence[str], overlong: str, limit: int) -> Any:
    """The targets of `encode`; `InputError` if what is to be learned was cut and may not be."""
    lost = features["lost"]
    if overlong == "error" and lost.any():
        which = int(np.argmax(lost))
        raise InputError(
            f"What is to be learned has to fit into data.max_length={limit} tokens. Received: "
            f"a row of which {int(lost[which])} tokens would be cut off: {texts[which][:60]!r}. "
            "Set data.max_length higher, or task.overlong=cut."
        )
    return features["targets"]
