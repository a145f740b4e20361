"""The characters of a batch of texts, in the raw texts' own order, and the words that they make.

All is done on one flat list of code points: what a character is, is looked up once for each of the
few hundred that a batch has, and the rest is counting.
"""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

_JOINER = 0x200D
# What belongs to the character before it: marks, joiners, sound marks of half-width kana,
# emoji modifiers and tags.
_EXTENDS = r"\p{M}|[\x{200D}\x{FF9E}\x{FF9F}\x{1F3FB}-\x{1F3FF}\x{E0020}-\x{E007F}]"
# Scripts written without spaces, and the sign that makes a kana long.
_UNSPACED = (
    r"\p{Han}|\p{Hiragana}|\p{Katakana}|\p{Thai}|\p{Lao}|\p{Khmer}|\p{Myanmar}"
    r"|[\x{30FC}\x{FF70}]"
)
# Letters of Hangul that melt into syllables, each with those that it follows. In NFKC and NFKD
# more of them do.
_JAMO = (
    (r"[\x{1161}-\x{1175}]", r"[\x{1100}-\x{1112}]"),
    (r"[\x{11A8}-\x{11C2}]", r"[\x{1161}-\x{1175}\x{AC00}-\x{D7A3}]"),
)
_COMPATIBLE = r"[\x{1100}-\x{11FF}\x{3131}-\x{318E}\x{FFA0}-\x{FFDC}]"
_COMPATIBLE_JAMO = ((_COMPATIBLE, rf"{_COMPATIBLE}|[\x{{AC00}}-\x{{D7A3}}]"),)


@dataclass(frozen=True)
class Characters:
    """The code points of a batch, one after the other; a space is put behind each text.

    Args:
        rows: int32 [batch + 1], where each text begins in the list.
        codes: int32 [known], the code points that the batch has.
        known: string [known], the same as texts.
        index: int32 [places], which of them stands where.
    """

    rows: Any
    codes: Any
    known: Any
    index: Any

    def each(self, values: Any) -> Any:
        """Values of the known code points, spread over all places."""
        return tf.gather(values, self.index)

    def matching(self, pattern: str) -> Any:
        """Which places hold a character that a regular expression matches: bool [places]."""
        return self.each(tf.strings.regex_full_match(self.known, pattern))

    def rest_of_clusters(self, white: Any, form: str) -> Any:
        """Places whose character can melt with the one before, in a Unicode normal form."""
        rest = self.matching(_EXTENDS) & ~_one_on(white)
        for letter, before in _COMPATIBLE_JAMO if form.startswith("NFK") else _JAMO:
            rest |= self.matching(letter) & _one_on(self.matching(before))
        return rest


def read_characters(texts: Any) -> Characters:
    """Take texts apart; what is no UTF-8 counts as U+FFFD."""
    codes = tf.strings.unicode_decode(tf.strings.join([texts, " "]), "UTF-8")
    known, index = tf.unique(codes.flat_values)
    rows = tf.cast(codes.row_splits, tf.int32)
    return Characters(rows, known, tf.strings.unicode_encode(known[:, None], "UTF-8"), index)


@dataclass(frozen=True)
class Words:
    """The words of a batch, in the list of its characters.

    Args:
        rows: int32 [batch + 1], where each text begins.
        before: int32 [places], how many places of words lie before each.
        upto: int32 [places], the same with the place itself.
        number: int32 [places of words + 1], the word of each; a last 0, to be looked up in vain.
        start: int32 [words + 1], the first place of each word.
        end: int32 [words + 1], one after the last.
    """

    rows: Any
    before: Any
    upto: Any
    number: Any
    start: Any
    end: Any

    def spans(self, row: Any, first: Any, last: Any, blank: Any, late: Any = None) -> tuple:
        """The words that pieces lie in, counted in each text.

        Args:
            row: int32 [pieces], whose text a piece is of.
            first: int32 [pieces], its first place.
            last: int32 [pieces], its last place.
            blank: bool [pieces], pieces that stand for white space.
            late: bool [pieces], pieces that may begin at white space and have their signs after
                `last`.

        Returns:
            (start, end, word), each int32 [pieces]; word is -1 where there is none.
        """
        begin, stop = tf.gather(self.rows, row), tf.gather(self.rows, row + 1) - 1
        one = tf.gather(self.before, first)
        other = tf.gather(self.upto, last) - 1
        inside = one <= other if late is None else (one <= other) | late
        more = one < tf.gather(self.before, stop)
        found = more & inside & ~blank
        head = tf.gather(self.number, one)
        tail = tf.gather(self.number, tf.where(found, tf.maximum(one, other), one))
        start = tf.where(more, tf.gather(self.start, head), stop)
        end = tf.where(found, tf.gather(self.end, tail), start)
        # The number of the text's first word, where it has one.
        skipped = tf.gather(self.number, tf.gather(self.before, begin))
        return start - begin, end - begin, tf.where(found, head - skipped, -1)


def find_words(chars: Characters, white: Any, gone: Any, alone: Any, cut: Any = None) -> Words:
    """Cut texts into words.

    A word begins after white space or a cut, and at each character that is a word by itself, which
    those of unspaced scripts are; marks, joiners and what is joined stay with what is before.

    Args:
        chars: the characters.
        white: bool [places], white space.
        gone: bool [places], characters that the tokenizer takes away.
        alone: bool [places], characters that are words by themselves.
        cut: bool [places], where else a word begins; the first place of every text too.

    Returns:
        The words.
    """
    joiner = chars.each(chars.codes == _JOINER)
    gone = gone & ~white
    unspaced = chars.matching(_UNSPACED)
    extends = chars.matching(_EXTENDS) | _one_on(joiner)
    glued = extends & ~white & _last(~gone, ~white, False)
    head = ~white & ~gone & ~glued
    part = tf.cumsum(tf.cast(white if cut is None else cut, tf.int32))
    # What is glued to the word before may still be the end of one for the tokenizer.
    after = _last(head, alone | unspaced, False) | _last(~gone, alone, False)
    begins = head & ((part != _last(head, part, -1)) | alone | unspaced | after)
    inside = tf.cast(head | glued, tf.int32)
    upto = tf.cumsum(inside)
    places = tf.range(tf.size(inside))
    held = tf.boolean_mask(places, inside == 1)
    number = tf.gather(tf.cumsum(tf.cast(begins, tf.int32)) - 1, held)
    return Words(
        rows=chars.rows,
        before=upto - inside,
        upto=upto,
        number=tf.concat([number, [0]], 0),
        start=tf.concat([tf.boolean_mask(places, begins), [0]], 0),
        end=tf.concat([tf.math.segment_max(held, number) + 1, [0]], 0),
    )


def _one_on(mask: Any) -> Any:
    """The place after each one where `mask` is true."""
    return tf.concat([[False], mask[:-1]], 0)


def _last(mask: Any, values: Any, default: Any) -> Any:
    """For each place the value at the last place before it where `mask` is true."""
    count = tf.cumsum(tf.cast(mask, tf.int32), exclusive=True)
    return tf.gather(tf.concat([[default], tf.boolean_mask(values, mask)], 0), count)
