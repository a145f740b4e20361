"""Ids back to text in the graph, and the strings at which a text ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasft._core import ragged, stack
from kerasft._core.errors import InputError
from kerasft.backbones.bpe import byte_letters

# Tokens without a text of their own that may stand within a stop string, special ones above all.
_SLACK = 8
REPLACEMENT = "\ufffd"


def detokenizer(tokenizer: Any, drop: Sequence[int] = ()) -> Callable[[Any], Any]:
    """A function from ids to text, in the graph.

    Args:
        tokenizer: a KerasHub tokenizer, byte-level BPE or SentencePiece.
        drop: ids that leave no text, such as those of special tokens.

    Returns:
        A function from ragged int32 [rows, (ids)] to string [rows], valid UTF-8: bytes that are
        no character become U+FFFD. Ids that the tokenizer lacks leave no text.

    Raises:
        InputError: for a tokenizer of another kind.

    Example:
        >>> detokenizer(tokenizer)(tf.ragged.constant([[5, 6]]))
    """
    stack.ensure()
    import keras_hub

    size = tokenizer.vocabulary_size()
    if isinstance(tokenizer, keras_hub.tokenizers.BytePairTokenizer):
        join = _byte_pairs(tokenizer, size)
    elif isinstance(tokenizer, keras_hub.tokenizers.SentencePieceTokenizer):
        tokenizer.detokenize(tf.ragged.constant([[0]]))  # its model is set up outside any graph
        join = tokenizer.detokenize
    else:
        raise InputError(
            "Text is generated with a byte-level BPE or a SentencePiece tokenizer. "
            f"Received: {type(tokenizer).__name__}."
        )

    def detokenize(ids: Any) -> Any:
        known = (ids.flat_values >= 0) & (ids.flat_values < size)
        for index in drop:
            known &= ids.flat_values != index
        text = join(ragged.masked(ids, known))
        text = tf.convert_to_tensor(text, tf.string)  # outside a graph KerasHub gives a list
        return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")

    return detokenize


def _byte_pairs(tokenizer: Any, size: int) -> Callable[[Any], Any]:
    """KerasHub's own way needs tables that it makes late, which no traced graph may do."""
    letters, pieces = byte_letters(), [b""] * size
    for piece, index in tokenizer.vocabulary.items():
        plain = all(letter in letters for letter in piece)
        pieces[index] = bytes(letters[c] for c in piece) if plain else piece.encode()
    return lambda ids: tf.strings.reduce_join(tf.gather(tf.constant(pieces), ids), axis=-1)


@dataclass(frozen=True)
class Text:
    """How ids become text, and the strings at which it ends.

    Args:
        detokenize: ragged int32 [rows, (ids)] -> string [rows], valid UTF-8.
        stop: strings; the text ends before the first of them.
    """

    detokenize: Callable[[Any], Any]
    stop: tuple[str, ...] = ()

    def __post_init__(self):
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise InputError(
                "`stop` is a list of strings that are not empty. "
                f"Received: stop={self.stop!r}. Write ['...'] for a single one."
            )

    @property
    def tail(self) -> int:
        """How many of the last tokens can hold a stop string that has just been completed."""
        return max((len(s.encode()) for s in self.stop), default=0) + _SLACK

    def cut(self, text: Any) -> Any:
        """String [rows] up to the first stop string."""
        if not self.stop:
            return text
        # By number, so that no sign has a meaning of its own in the pattern.
        found = "|".join("".join(f"\\x{{{ord(c):x}}}" for c in s) for s in self.stop)
        return tf.strings.regex_replace(text, f"(?s)(?:{found}).*", "", replace_global=False)

    def stops(self, ids: Any) -> Any:
        """Whether the text of ragged ids [rows, (ids)] holds a stop string, bool [rows]."""
        text = self.detokenize(ids)
        return tf.strings.length(self.cut(text)) < tf.strings.length(text)

    def settled(self, text: str) -> str:
        """The part of an unfinished text that no later token can change or cut off.

        Half a character shows as U+FFFD at the end, and half a stop string may become a whole one.
        """
        text = text.rstrip(REPLACEMENT)
        longest = max((len(s) for s in self.stop), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(s.startswith(text[-size:]) for s in self.stop):
                return text[:-size]
        return text
