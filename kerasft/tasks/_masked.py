"""Texts with masks in them: their ids and words, and what the masks stand for, in the graph."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasft._core import ragged
from kerasft._core.errors import InputError
from kerasft.backbones import family_of, pieces, template_of
from kerasft.backbones.bpe import byte_letters
from kerasft.preprocessing import row_begins

_WHITE = r"[\s\p{Z}]+$"
_UNKNOWN = ("[UNK]", "<unk>")


@dataclass(frozen=True)
class Mask:
    """What a tokenizer hides tokens with.

    Args:
        token: how it is written in a text.
        id: its id.
        special: ids that are neither hidden nor put in: those around texts, padding, the mask and
            the unknown.
        size: how many ids there are.
    """

    token: str
    id: int
    special: tuple[int, ...]
    size: int


def mask_of(tokenizer: Any) -> Mask:
    """The mask of a tokenizer; `InputError` where its vocabulary has none."""
    index = getattr(tokenizer, "mask_token_id", None)
    if index is None:
        raise InputError(
            "Words are hidden and guessed by an encoder whose vocabulary has a mask token, such as "
            f"BERT or RoBERTa. Received: {type(tokenizer).__name__}."
        )
    template, known = template_of(tokenizer), tokens_of(tokenizer)
    special = {*template.start, *template.separator, *template.end, template.pad, int(index)}
    special |= {i for i in tokenizer.special_token_ids if i is not None}
    special |= {i for i, token in enumerate(known) if token in _UNKNOWN}
    token = getattr(tokenizer, "mask_token", None) or known[int(index)]
    return Mask(token, int(index), tuple(sorted(map(int, special))), len(known))


def tokens_of(tokenizer: Any) -> list[str]:
    """The pieces of a tokenizer as its vocabulary writes them, by id; "" where an id has none."""
    with tf.init_scope():  # SentencePiece asks its model, which a graph cannot answer
        known = getattr(tokenizer, "vocabulary", None)
        if isinstance(known, dict):
            found = {index: token for token, index in known.items()}
            return [found.get(index, "") for index in range(max(found) + 1)]
        return [str(token) for token in tokenizer.get_vocabulary()]


def spelled(tokenizer: Any, mask: Mask) -> list[str]:
    """The pieces of a tokenizer as they are shown, by id: without the mark of a word's begin.

    A byte-level piece that is not whole UTF-8 stays as the vocabulary writes it. Special ids are
    "": no word stands for them.
    """
    letters = byte_letters() if isinstance(getattr(tokenizer, "vocabulary", None), dict) else {}
    return [
        "" if index in mask.special else _text(token, letters) or token
        for index, token in enumerate(tokens_of(tokenizer))
    ]


def _text(token: str, letters: dict[str, int]) -> str:
    if not letters:
        return token.removeprefix("▁")
    try:
        return bytes(letters[letter] for letter in token).decode("utf-8").strip()
    except (KeyError, UnicodeDecodeError):
        return ""


def ids_and_words(tokenizer: Any, mask: Mask, texts: Any) -> tuple[Any, Any]:
    """Ids of texts in which the mask's token is the mask's id, and the words that they are of.

    White space in front of a mask goes, as Transformers has it.

    Args:
        tokenizer: a KerasHub tokenizer.
        mask: from `mask_of`.
        texts: string [batch].

    Returns:
        Ragged int32 [batch, (ids)] each; of the words a number of its own for each, -1 for a
        mask and for pieces that stand for white space.
    """
    parts = tf.strings.split(texts, mask.token)
    flat = parts.flat_values
    # Every part but the last of its text has a mask behind it.
    ends = parts.row_limits()[:, None] - 1
    before = tf.scatter_nd(ends, tf.ones_like(ends[:, 0]), [tf.size(flat, tf.int64)]) == 0
    flat = tf.where(before, tf.strings.regex_replace(flat, _WHITE, ""), flat)
    found = pieces(tokenizer, flat)
    word = found.word.flat_values
    last = tf.concat([[-1], word[:-1]], 0)[: tf.size(word)]
    number = tf.cumsum(tf.cast(row_begins(found.word) | (word != last), tf.int32))
    number = tf.where(word >= 0, number, -1)
    masks = tf.fill([tf.reduce_sum(tf.cast(before, tf.int32))], mask.id)
    lay = ragged.SideBySide([found.ids, ragged.of_lengths(masks, before)])
    ids = lay([found.ids.flat_values, masks])
    words = lay([number, -tf.ones_like(masks)])
    return tuple(ragged.merged(parts.with_flat_values(values)) for values in (ids, words))


def at_masks(pipe: Any, features: dict[str, Any], places: Any) -> Any:
    """Logits of a pipeline's model at some places alone, float32 [places, vocabulary].

    Those of every token would take a number an id for each.

    Args:
        pipe: a pipeline of a masked language model.
        features: what `encode` gave.
        places: int64 [places, 2], sequence and token.
    """
    import keras

    layer = pipe.model.get_layer("logits")
    below = keras.Model(pipe.model.inputs, layer.input)
    vectors, table = below(pipe.model_inputs(features), training=False)
    return layer(tf.gather_nd(vectors, places)[None], table)[0]


def check_encoder(backbone: Any) -> None:
    """`InputError` for a decoder, which never sees what stands behind a mask."""
    family = family_of(backbone)
    if family.kind != "encoder":
        raise InputError(
            "Words are hidden and guessed by an encoder, such as BERT or RoBERTa. Received: "
            f"{family.backbone}, which is a model of another kind ({family.kind}). A decoder's "
            "further training is the task causal-lm."
        )


def filled(tokenizer: Any, logits: Any, row: Any, rows: Any) -> dict[str, Any]:
    """The likeliest piece at each mask; special ids, and those without a piece, are none.

    Args:
        tokenizer: a KerasHub tokenizer.
        logits: float32 [masks, vocabulary].
        row: int32 [masks], which text a mask is of, in order.
        rows: how many texts there are.

    Returns:
        `token` string and `score` float32, [rows, most masks], padded with "" and 0.
    """
    size = logits.shape[1]
    known = spelled(tokenizer, mask_of(tokenizer))[:size]
    known = tf.constant(known + [""] * (size - len(known)))
    best = tf.argmax(tf.where(known != "", logits, logits.dtype.min), axis=1)
    score = tf.exp(tf.gather(logits, best, batch_dims=1) - tf.reduce_logsumexp(logits, axis=1))
    row, rows = tf.cast(row, tf.int64), tf.cast(rows, tf.int64)
    found = {"token": (tf.gather(known, best), ""), "score": (score, 0.0)}
    return {
        name: tf.RaggedTensor.from_value_rowids(values, row, rows).to_tensor(pad)
        for name, (values, pad) in found.items()
    }
