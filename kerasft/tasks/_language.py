"""From prompts, completions and chats to ids, the same in training and in the exported graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasft._core import ragged
from kerasft._core.errors import InputError
from kerasft.backbones import template_of
from kerasft.preprocessing import chat, ragged_ids

TEMPLATES = tuple(chat.TEMPLATES)
# The first sign of a segment says what it is: text or a special token, and in capitals: learned.
TEXT, LEARNED_TEXT, SPECIAL, LEARNED_SPECIAL = "t", "T", "s", "S"
# In texts it means nothing, so it may stand where a text is cut.
_CUT = "\0"
# What stands in a rendered chat where a user's words will be.
_HOLE = "\ue000"
# The signs of special tokens inside a byte-level BPE (`kerasft.backbones.words`).
_SIGNS = r"[\x{F0000}-\x{F0FFF}]"


@dataclass(frozen=True)
class Writing:
    """How a tokenizer's model is written to.

    Args:
        template: how turns are told apart; None: a text is a text.
        begin: ids before everything.
        end: the special token that ends what the model says.
        specials: every special token that a text is written with, and its id.
    """

    template: chat.ChatTemplate | None
    begin: tuple[int, ...]
    end: str
    specials: dict[str, int]


def writing_of(tokenizer: Any, template: str) -> Writing:
    """Find the template and the ids of its special tokens.

    Args:
        tokenizer: a KerasHub tokenizer of a decoder.
        template: a name of `kerasft.preprocessing.chat.TEMPLATES`, `none`, or `auto`: the one
            whose markers the tokenizer knows, else `plain`.

    Raises:
        InputError: if the tokenizer lacks a marker of the template.
    """
    end = tokenizer.end_token
    if template == "none":
        return Writing(None, template_of(tokenizer).start, end, {end: _special(tokenizer, end)})
    if template == "auto":
        template = next((n for n in ("llama3", "gemma", "chatml") if _has(tokenizer, n)), "plain")
    plain = template == "plain"
    found = chat.ending("plain", end) if plain else chat.template_of(template)
    ids = {marker: _special(tokenizer, marker) for marker in found.markers}
    missing = [marker for marker, index in ids.items() if index is None]
    if missing:
        raise InputError(
            f"The template {template!r} is written with special tokens that this tokenizer lacks: "
            f"{', '.join(missing)}. Received: task.template={template!r}. Use `plain`, or the "
            "template that the model was trained with."
        )
    begin = template_of(tokenizer).start if plain else ()
    return Writing(found, begin, chat.end_of(found), ids)


def _has(tokenizer: Any, template: str) -> bool:
    return all(_special(tokenizer, m) is not None for m in chat.special_tokens(template))


def _special(tokenizer: Any, token: str) -> int | None:
    """The id of a special token, or None where the tokenizer does not know it as one piece."""
    try:
        index = int(tokenizer.token_to_id(token))
        return index if tokenizer.id_to_token(index) == token else None
    except (KeyError, ValueError, TypeError):
        return None


# --- segments, in Python --------------------------------------------------------------------------


def chat_segments(writing: Writing, messages: Sequence[dict], prompt: bool) -> list[str]:
    """A chat as segments with their signs; `prompt`: one to go on with."""
    kinds = {("text", False): TEXT, ("text", True): LEARNED_TEXT}
    kinds |= {("special", False): SPECIAL, ("special", True): LEARNED_SPECIAL}
    found = chat.segments(messages, writing.template, prompt)
    return [kinds[s.kind, s.learned] + s.text for s in found]


def pair_segments(writing: Writing, prompt: str, completion: str) -> list[str]:
    """A prompt, and a completion that is learned with the end behind it."""
    return [TEXT + prompt, LEARNED_TEXT + completion, LEARNED_SPECIAL + writing.end]


# --- ids, in the graph ----------------------------------------------------------------------------


def prompt_segments(writing: Writing, prompts: Any, system: str = "") -> Any:
    """Prompts as ragged segments [batch, (segments)]: each as a user's turn that waits for an
    answer, or as it stands where there is no template."""
    if writing.template is None:
        return tf.RaggedTensor.from_tensor(tf.strings.join([TEXT, prompts])[:, None])
    if writing.template.strip:
        prompts = tf.strings.regex_replace(prompts, r"^[\s\p{Z}]+|[\s\p{Z}]+$", "")
    messages = [{"role": "system", "content": system.replace(_HOLE, "")}] if system else []
    turn = chat_segments(writing, [*messages, {"role": "user", "content": _HOLE}], prompt=True)
    parts = []
    for segment in turn:
        before, hole, after = segment.partition(_HOLE)
        whole = [before, prompts, after] if hole else [tf.fill(tf.shape(prompts), segment)]
        parts.append(tf.strings.join(whole))
    return tf.RaggedTensor.from_tensor(tf.stack(parts, axis=1))


def segment_ids(tokenizer: Any, writing: Writing, segments: Any) -> tuple[Any, Any]:
    """Ids of segments and which of them are learned.

    A special token that a text spells out stays text: nobody but the template says who speaks.

    Args:
        tokenizer: a KerasHub tokenizer.
        writing: from `writing_of`.
        segments: ragged string [batch, (segments)].

    Returns:
        Ragged int32 and bool [batch, (ids)], with the ids of `writing.begin`.
    """
    flat = segments.flat_values
    kind, body = tf.strings.substr(flat, 0, 1), tf.strings.substr(flat, 1, -1)
    special = (kind == SPECIAL) | (kind == LEARNED_SPECIAL)
    learned = (kind == LEARNED_TEXT) | (kind == LEARNED_SPECIAL)
    names, values = list(writing.specials), list(writing.specials.values())
    which = tf.argmax(body[:, None] == tf.constant(names)[None], axis=1)
    marker = tf.gather(tf.constant(values, tf.int32), which)
    markers = ragged.of_lengths(tf.boolean_mask(marker, special), special)
    plain = plain_ids(tokenizer, writing, tf.where(special, "", body))
    ids = ragged.side_by_side([markers, plain])
    flags = tf.gather(learned, ragged.rows_of(ids))
    ids = ragged.merged(segments.with_flat_values(ids))
    begin = ragged.column(writing.begin, segments.nrows())
    lay = ragged.SideBySide([begin, ids])
    return lay([begin, ids.values]), lay([tf.zeros_like(begin, tf.bool), flags])


def plain_ids(tokenizer: Any, writing: Writing, texts: Any) -> Any:
    """Ids of texts, ragged int32 [n, (ids)], in which no special token is found.

    A tokenizer takes what spells a special token for that token. So such a text is cut behind the
    first sign of the spelling, and the parts are tokenised one by one.
    """
    texts = tf.strings.regex_replace(texts, _SIGNS, "")
    known = set(writing.specials) | set(getattr(tokenizer, "unsplittable_tokens", None) or ())
    for first in sorted({token[0] for token in known if len(token) > 1}):
        rest = "|".join(_literal(t[1:]) for t in sorted(known) if t[0] == first and len(t) > 1)
        texts = tf.strings.regex_replace(texts, f"({_literal(first)})({rest})", rf"\1{_CUT}\2")
    parts = tf.strings.split(texts, _CUT)
    ids = ragged_ids(tokenizer(parts.flat_values))
    return ragged.merged(parts.with_flat_values(ids))


def _literal(text: str) -> str:
    """A pattern of RE2 that finds the text itself."""
    return "".join(f"\\x{{{ord(c):x}}}" for c in text)


def next_tokens(ids: Any, learned: Any) -> Any:
    """What is learned at each token: the next one where that is learned, else -1.

    Args:
        ids, learned: ragged int32 and bool [rows, (ids)].

    Returns:
        int32 [rows, longest], -1 on padding and at the last token.
    """
    ids, learned = ids.to_tensor(0), learned.to_tensor(False)
    some = tf.minimum(tf.shape(ids)[1], 1)  # of no rows there is no place either
    return tf.pad(tf.where(learned, ids, -1)[:, 1:], [[0, 0], [0, some]], constant_values=-1)
