"""Byte-level BPE in the graph, over whole numbers.

KerasHub merges strings and remembers every word it ever saw in a table that grows without end.
Here the merges are of ids, the same words of a batch are merged once, and nothing is remembered:
hundreds of times as fast on new words, and the same answer from every copy of an exported model.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from kerasft._core import ragged

# No vocabulary has a piece that long; a longer word is cut, so that one endless "word" cannot
# take quadratic time.
LONGEST = 256
# Words are merged in groups of like length, for every round looks at all words of a group.
_GROUPS = (0, 12, 40, LONGEST)
_NEVER = np.iinfo("int32").max


def byte_letters() -> dict[str, int]:
    """The letters by which GPT-2's vocabulary writes the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


class ByteMerges(tf.Module):
    """The merges of a byte-level BPE.

    Args:
        vocabulary: piece -> id, the bytes of a piece written by `byte_letters`.
        merges: "left right", the first is done first.
        entire: words that are one id whatever the merges say: word -> id.
        whole: so are all words that are pieces.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[str],
        entire: Mapping[str, int],
        whole: bool = False,
    ):
        super().__init__()
        letters = byte_letters()
        single = {b: vocabulary.get(letter, -1) for letter, b in letters.items()}
        self._of_byte = [single[b] for b in range(256)]
        pairs = [merge.split(" ") for merge in merges]
        self._base = max(vocabulary.values()) + 1
        keys, made = {}, []
        for rank, (left, right) in enumerate(pairs):
            keys.setdefault(vocabulary[left] * self._base + vocabulary[right], rank)
            made.append(vocabulary[left + right])
        self._made = np.asarray(made or [0], "int32")
        self._ranks = _table(list(keys), list(keys.values()), tf.int64, _NEVER)
        known = {w.encode(): i for w, i in entire.items()}
        if whole:
            for piece, index in vocabulary.items():
                if all(letter in letters for letter in piece):
                    known.setdefault(bytes(letters[letter] for letter in piece), index)
        self._entire = _table(list(known), list(known.values()), tf.string, -1)
        self._sizes = self._bytes_of(vocabulary, set(entire.values()))

    def sizes(self, ids: tf.Tensor) -> tf.Tensor:
        """How many bytes of the text each piece stands for, those that the vocabulary has.

        Args:
            ids: int32, any shape.

        Returns:
            int32, the same shape.
        """
        return tf.gather(tf.constant(self._sizes), ids)

    def lengths(self, texts: tf.Tensor) -> tf.Tensor:
        """How many bytes of each text the vocabulary has: int32, by which `sizes` adds up."""
        if min(self._of_byte) >= 0:
            return tf.strings.length(texts)
        data = tf.strings.bytes_split(texts)
        byte = tf.io.decode_raw(data.flat_values, tf.uint8, fixed_length=1)[:, 0]
        known = tf.gather(tf.constant(self._of_byte) >= 0, tf.cast(byte, tf.int32))
        return tf.reduce_sum(data.with_flat_values(tf.cast(known, tf.int32)), 1)

    def _bytes_of(self, vocabulary: Mapping[str, int], specials: set[int]) -> np.ndarray:
        letters = byte_letters()
        sizes = np.zeros(max([*vocabulary.values(), *specials]) + 1, "int32")
        for piece, index in vocabulary.items():
            if index not in specials and all(letter in letters for letter in piece):
                data = bytes(letters[letter] for letter in piece)
            else:
                data = piece.encode()
            sizes[index] = sum(self._of_byte[b] >= 0 for b in data)
        return sizes

    def __call__(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Ids of the pieces of every word.

        A byte that the vocabulary lacks is left out, as Transformers does.

        Args:
            words: string [n].

        Returns:
            Ragged int32 [n, (pieces)].
        """
        found, places = tf.unique(words)
        size = tf.strings.length(found)
        parts, origin = [], []
        for least, most in zip(_GROUPS, _GROUPS[1:]):
            last = most == LONGEST
            rows = tf.where((size > least) & (last | (size <= most)))[:, 0]
            group, owner = _cut(tf.gather(found, rows)) if last else (tf.gather(found, rows), None)
            pieces = self._merge(group)
            parts.append(_joined(pieces, owner, rows) if last else pieces)
            origin.append(rows)
        empty = tf.where(size == 0)[:, 0]
        parts.append(ragged.of_lengths(tf.zeros([0], tf.int32), 0 * empty))
        origin.append(empty)
        order = tf.math.invert_permutation(tf.concat(origin, 0))
        return tf.gather(tf.gather(tf.concat(parts, 0), order), places)

    def _merge(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Merge a group: in every round each word's best pair, the leftmost of equal ones."""
        size = tf.strings.length(words)
        longest = tf.maximum(tf.reduce_max(tf.concat([size, [1]], 0)), 1)
        data = tf.io.decode_raw(words, tf.uint8, fixed_length=longest)
        ids = tf.gather(tf.constant(self._of_byte, tf.int32), tf.cast(data, tf.int32))
        ids = tf.where(tf.range(longest)[None] < size[:, None], ids, -1)
        whole = self._entire.lookup(words)
        ids = tf.where(whole[:, None] >= 0, -1, ids)
        made = tf.constant(self._made)
        place = tf.range(longest)[None]

        def one_round(ids, _):
            after = tf.concat([ids[:, 1:], -tf.ones_like(ids[:, :1])], 1)
            keys = tf.cast(ids, tf.int64) * self._base + tf.cast(after, tf.int64)
            rank = self._ranks.lookup(tf.where((ids >= 0) & (after >= 0), keys, -1))
            best = tf.argmin(rank, axis=1, output_type=tf.int32)[:, None]
            least = tf.reduce_min(rank, axis=1)[:, None]
            found = least < _NEVER
            new = tf.gather(made, tf.where(found, least, 0))
            merged = tf.where(place == best, new, tf.where(place > best, after, ids))
            return tf.where(found, merged, ids), tf.reduce_any(found)

        ids, _ = tf.while_loop(
            lambda _, more: more,
            one_round,
            (ids, tf.size(words) > 0),
            shape_invariants=(tf.TensorShape([None, None]), tf.TensorShape([])),
        )
        ids = tf.where((place == 0) & (whole[:, None] >= 0), whole[:, None], ids)
        return ragged.masked_dense(ids, ids >= 0)


def _cut(words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Words in parts of at most LONGEST bytes, and the number of the word of each part."""
    count = (tf.strings.length(words) + LONGEST - 1) // LONGEST
    owner = tf.repeat(tf.range(tf.size(words)), count)
    first = tf.repeat(tf.cumsum(count, exclusive=True), count)
    start = (tf.range(tf.size(owner)) - first) * LONGEST
    whole = tf.gather(words, owner)
    length = tf.minimum(tf.strings.length(whole) - start, LONGEST)
    return tf.strings.substr(whole, start, length), owner


def _joined(pieces: tf.RaggedTensor, owner: tf.Tensor, rows: tf.Tensor) -> tf.RaggedTensor:
    count = tf.size(rows, out_type=tf.int64)
    lengths = tf.math.unsorted_segment_sum(pieces.row_lengths(), owner, count)
    return ragged.of_lengths(pieces.values, lengths)


def _table(keys: list, values: list, kind: tf.DType, default: int) -> tf.lookup.StaticHashTable:
    empty = "" if kind == tf.string else -1
    keys, values = ([empty], [default]) if not keys else (keys, values)
    pairs = tf.lookup.KeyValueTensorInitializer(keys, values, kind, tf.int32)
    return tf.lookup.StaticHashTable(pairs, default)
