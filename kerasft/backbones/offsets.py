"""Where in the raw text the pieces of a tokenizer lie, in the graph.

KerasHub's tokenizers give ids alone. Here every piece gets the start and the end of its word,
counted in code points of the text as it was given: what normalisation removes, adds or melts
together shifts nothing.
"""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasft._core import ragged
from kerasft._core.errors import InputError
from kerasft.backbones import _surgery
from kerasft.backbones.characters import Characters, find_words, read_characters
from kerasft.backbones.words import WHITE, bert_alone, bert_plain, bert_words


@dataclass(frozen=True)
class Pieces:
    """The pieces of texts and where their words lie.

    Args:
        ids: ragged int32 [batch, (pieces)], what the tokenizer gives.
        start: ragged int32 [batch, (pieces)], the first code point of the piece's word.
        end: ragged int32 [batch, (pieces)], one after the last.
        word: ragged int32 [batch, (pieces)], the number of the word in its text, from 0; -1 for
            pieces that stand for white space, whose start and end are the start of the next word.
    """

    ids: Any
    start: Any
    end: Any
    word: Any


def pieces(tokenizer: Any, texts: Any) -> Pieces:
    """Tokenise texts and say where the words of the pieces lie in them.

    Words are the tokenizer's own without white space around: those of BERT's basic tokenizer, the
    matches of a byte-level BPE's pattern, and for SentencePiece what white space separates. A
    character of an unspaced script (Han, kana, Thai, Lao, Khmer, Myanmar) is a word of its own;
    marks, joiners and what is joined belong to the character before. A piece of several words goes
    from the first one's start to the last one's end and has the number of the first. Characters
    that the tokenizer takes away are in no word, unless they are inside one.

    k spaces in front of a text add k to every start and end and change nothing else, but for the
    tokenizers that keep spaces (byte-level BPE, and SentencePiece models such as Gemma's): those
    give other ids for them by design.

    Args:
        tokenizer: a tokenizer that `load` gave.
        texts: string [batch], UTF-8.

    Returns:
        The pieces; `ids` are `tokenizer(texts)`.

    Raises:
        InputError: for a tokenizer whose pieces are not made in the graph.

    Example:
        >>> found = pieces(tokenizer, tf.constant(["the film"]))
        >>> found.start.to_list(), found.end.to_list(), found.word.to_list()
        ([[0, 4]], [[3, 8]], [[0, 1]])
    """
    kind, maker = _surgery.piece_maker(tokenizer)
    read = {"wordpiece": _word_pieces, "bytes": _byte_pieces, "sentencepiece": _sentence_pieces}
    if kind not in read:
        raise InputError(
            "Offsets need a WordPiece, byte-level BPE or SentencePiece tokenizer that runs in the "
            f"graph. Received: {type(tokenizer).__name__}."
        )
    with tf.device("cpu"):
        texts = tf.convert_to_tensor(texts)
        ids, words, where = read[kind](tokenizer, maker, texts)
        spans = words.spans(ragged.rows_of(ids), *where)
        return Pieces(ids, *(ids.with_flat_values(values) for values in spans))


def surfaces(texts: Any, start: Any, end: Any) -> Any:
    """The parts of texts that lie between offsets.

    Args:
        texts: string [batch].
        start: int32 [batch, n] or ragged [batch, (n)], the first code point; -1 for none.
        end: the same, one after the last.

    Returns:
        Strings in the shape of `start`, "" where start is -1.

    Example:
        >>> surfaces(tf.constant(["the film"]), [[4, -1]], [[8, -1]])[0].numpy()
        array([b'film', b''], dtype=object)
    """
    if isinstance(start, tf.RaggedTensor):
        whole = tf.gather(texts, ragged.rows_of(start))
        return start.with_flat_values(_part(whole, start.flat_values, end.flat_values))
    start, end = tf.convert_to_tensor(start), tf.convert_to_tensor(end)
    return _part(tf.broadcast_to(tf.expand_dims(texts, -1), tf.shape(start)), start, end)


def _part(texts: Any, start: Any, end: Any) -> Any:
    size = tf.strings.length(texts, unit="UTF8_CHAR")
    first = tf.clip_by_value(tf.cast(start, tf.int32), 0, size)
    length = tf.clip_by_value(tf.cast(end, tf.int32), first, size) - first
    length = tf.where(start < 0, 0, length)
    return tf.strings.substr(texts, first, length, unit="UTF8_CHAR")


# --- the three kinds: ids, words, and (first, last, blank, late) of every piece ------------------


def _word_pieces(tokenizer: Any, maker: Any, texts: Any) -> tuple:
    """WordPiece: the pieces of a word follow each other in it, as BERT writes it."""
    how = (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.split_on_cjk)
    chars = read_characters(texts)
    plain = bert_plain(chars.known, *how)
    white, gone, alone = (chars.each(x) for x in (plain == " ", plain == "", bert_alone(plain)))
    size = chars.each(tf.strings.length(tf.strings.regex_replace(plain, " ", "")))
    words = bert_words(texts, *how)
    found, begin, end = maker.tokenize_with_offsets(words)
    ids = ragged.merged(found)
    before = tf.cumsum(tf.strings.length(words.flat_values), exclusive=True)
    first_of_row = tf.gather(words.row_splits, ragged.rows_of(words))
    before = before - tf.gather(tf.concat([before, [0]], 0), first_of_row)
    shift = tf.gather(before, ragged.rows_of(found.values))
    begin, end = (tf.cast(x.flat_values, tf.int32) + shift for x in (begin, end))
    first, last = _places(chars, size, ragged.rows_of(ids), begin, end)
    return ids, find_words(chars, white, gone, alone), (first, last, tf.zeros_like(first, tf.bool))


def _byte_pieces(tokenizer: Any, maker: Any, texts: Any) -> tuple:
    """Byte-level BPE: pieces are bytes of the text, one after the other."""
    chars = read_characters(texts)
    white = chars.matching(WHITE)
    size = _byte_sizes(chars, white, maker, _surgery.splitting_of(tokenizer).form)
    found = _surgery.byte_pair_words(tokenizer, texts)
    ids = ragged.merged(found)
    row = ragged.rows_of(ids)
    length = maker.sizes(ids.flat_values)
    # A space that was put in front lies at -1, before the text.
    added = tf.strings.length(_surgery.spaced(tokenizer, texts)) - tf.strings.length(texts)
    end = tf.cumsum(length)
    base = tf.gather(tf.concat([[0], end], 0), tf.cast(ids.row_splits[:-1], tf.int32)) + added
    end = end - tf.gather(base, row)
    begin = tf.maximum(end - length, 0)
    first, last = _places(chars, size, row, begin, end)
    # The first piece of every word says where it begins; what no piece is made of is apart.
    heads = tf.boolean_mask(found.values.row_splits[:-1], found.values.row_lengths() > 0)
    rest = tf.reduce_sum(ids.with_flat_values(length), 1) - added
    starts = tf.concat([tf.gather(begin, heads), tf.maximum(rest, 0)], 0)
    cut = _cuts(chars, size, tf.concat([tf.gather(row, heads), tf.range(tf.size(rest))], 0), starts)
    none = tf.zeros_like(white)
    return ids, find_words(chars, white, none, none, cut), (first, last, end <= 0)


def _sentence_pieces(tokenizer: Any, maker: Any, texts: Any) -> tuple:
    """SentencePiece: its offsets are bytes of the raw text, those of a bare `▁` are of no use."""
    chars = read_characters(texts)
    white = chars.matching(WHITE)
    alone = maker.tokenize(chars.known)
    gone = chars.each(tf.reduce_all(alone.with_values(_is_blank(maker, alone.values)), 1))
    found, begin, end = maker.tokenize_with_offsets(texts)
    begin, end = (tf.cast(x.flat_values, tf.int32) for x in (begin, end))
    size = chars.each(tf.strings.length(chars.known))
    first, last = _places(chars, size, ragged.rows_of(found), begin, end)
    blank = _is_blank(maker, found.flat_values)
    # White space that a sign has become looks for the word behind that sign, not for its own.
    behind = tf.minimum(last + 1, tf.gather(chars.rows, ragged.rows_of(found) + 1) - 1)
    first = tf.where(blank & (end > begin), behind, first)
    late = _begins_blank(maker, found.flat_values)
    words = find_words(chars, white, gone, tf.zeros_like(white))
    return _surgery.ragged_ids(tokenizer, texts), words, (first, last, blank, late)


def _is_blank(maker: Any, ids: Any) -> Any:
    return _matches(maker, ids, "▁*")


def _begins_blank(maker: Any, ids: Any) -> Any:
    return _matches(maker, ids, "▁.*")


def _matches(maker: Any, ids: Any, pattern: str) -> Any:
    known, index = tf.unique(ids)
    return tf.gather(tf.strings.regex_full_match(maker.id_to_string(known), pattern), index)


# --- from bytes to places -----------------------------------------------------------------------


def _places(chars: Characters, size: Any, row: Any, begin: Any, end: Any) -> tuple:
    """The first and the last place of pieces that go from byte to byte of their text.

    Args:
        chars: the characters.
        size: int32 [places], the bytes that each character has become.
        row: int32 [pieces], whose text a piece is of.
        begin: int32 [pieces], the byte of that text where it begins.
        end: int32 [pieces], one after its last.
    """
    upto, base = _bytes_upto(chars, size, row)
    first = tf.searchsorted(upto, begin + base, side="right")
    last = tf.searchsorted(upto, tf.maximum(end - 1, begin) + base, side="right")
    # With what has melted into it.
    last = tf.gather(upto, tf.minimum(last, tf.size(size) - 1))
    last = tf.searchsorted(upto, last, side="right") - 1
    stop = tf.gather(chars.rows, row + 1) - 1
    return tf.minimum(first, stop), tf.minimum(last, stop)


def _cuts(chars: Characters, size: Any, row: Any, begin: Any) -> Any:
    """The places of the bytes where words begin, and the first place of every text: bool [places].

    For a byte inside of what a character has become it is the place after that.
    """
    upto, base = _bytes_upto(chars, size, row)
    last = tf.size(size) - 1
    place = tf.minimum(tf.searchsorted(upto, begin + base, side="right"), last)
    after = tf.searchsorted(upto, tf.gather(upto, place), side="right")
    place = tf.where(tf.gather(upto - size, place) < begin + base, after, place)
    place = tf.minimum(place, tf.gather(chars.rows, row + 1) - 1)
    every = tf.concat([place, chars.rows[:-1]], 0)
    return tf.math.unsorted_segment_sum(tf.ones_like(every), every, last + 1) > 0


def _bytes_upto(chars: Characters, size: Any, row: Any) -> tuple:
    upto = tf.cumsum(size)
    return upto, tf.gather(tf.gather(upto - size, chars.rows[:-1]), row)


def _byte_sizes(chars: Characters, white: Any, maker: Any, form: str) -> Any:
    """The bytes that the vocabulary has for each character, after a Unicode normal form.

    Where characters melt together, the first one has all the bytes.
    """
    if not form:
        return chars.each(maker.lengths(chars.known))
    import tensorflow_text as tf_text

    size = chars.each(maker.lengths(tf_text.normalize_utf8(chars.known, form)))
    rest = chars.rest_of_clusters(white, form)
    cluster = tf.cumsum(tf.cast(~rest, tf.int32)) - 1
    count = tf.math.segment_sum(tf.ones_like(cluster), cluster)
    several = tf.gather(count > 1, cluster)
    codes = tf.boolean_mask(chars.each(chars.codes), several)
    codes = ragged.of_lengths(codes, tf.boolean_mask(count, count > 1))
    melted = tf_text.normalize_utf8(tf.strings.unicode_encode(codes, "UTF-8"), form)
    heads = tf.where(several & ~rest)
    size = tf.where(rest, 0, size)
    return tf.tensor_scatter_nd_update(size, heads, maker.lengths(melted))
