"""Tags of words, and the entities that they spell, in the graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.preprocessing import row_begins
from kerasft.preprocessing.tags import SAME

SCHEMES = {"bio": "BI", "iobes": "BIES"}


@dataclass(frozen=True)
class Tags:
    """The tags of a labelling scheme: `O`, and each mark with each label.

    Args:
        labels: names of the entities.
        scheme: `bio` (B- begins, I- goes on) or `iobes` (E- ends, S- is an entity of one word).
    """

    labels: tuple[str, ...]
    scheme: str = "bio"

    @property
    def names(self) -> tuple[str, ...]:
        """`O`, `B-PER`, `I-PER`, ... in the order of the logits."""
        marks = SCHEMES[self.scheme]
        return ("O", *(f"{mark}-{label}" for label in self.labels for mark in marks))

    @property
    def marks(self) -> str:
        """The mark of each tag, one letter each."""
        return "O" + SCHEMES[self.scheme] * len(self.labels)

    @property
    def label_of(self) -> np.ndarray:
        """The number of each tag's label, -1 for `O`, int32 [tags]."""
        marks = len(SCHEMES[self.scheme])
        return np.array([-1, *np.repeat(np.arange(len(self.labels)), marks)], np.int32)

    def allowed(self) -> np.ndarray:
        """Which tag may follow which, bool [tags + 1, tags + 1]; the last is the text's border."""
        marks, label = self.marks + "|", np.append(self.label_of, -1)
        table = np.zeros((len(marks), len(marks)), bool)
        for i, before in enumerate(marks):
            for j, after in enumerate(marks):
                # BIO has no ends: there an entity may stop anywhere.
                open_ = before in "BI" and self.scheme == "iobes"
                goes_on = after in "IE"
                if goes_on:
                    table[i, j] = before in "BI" and label[i] == label[j]
                else:
                    table[i, j] = not open_
        table[-1, -1] = False
        return table

    def spell(self, words: list[tuple[int, int]], spans: Any) -> np.ndarray:
        """The tag of each word, int32 [words], from spans (start, end, label) of the text.

        A word that overlaps a span is part of it; of two, the one that begins first counts.
        """
        tags = np.zeros(len(words), np.int32)
        place = {name: i for i, name in enumerate(self.names)}
        for start, end, label in sorted(spans, reverse=True):
            inside = [i for i, (a, b) in enumerate(words) if a < end and b > start]
            for i in inside:
                first, last = i == inside[0], i == inside[-1]
                mark = "B" if first else "I"
                if self.scheme == "iobes":
                    mark = "S" if first and last else "E" if last else mark
                tags[i] = place[f"{mark}-{label}"]
        return tags


def of_names(names: Sequence[str]) -> tuple[Tags, dict[str, int]] | None:
    """The tags that a checkpoint's names of them mean, and the place of each among the names.

    BILOU and BMES are IOBES in other letters.

    Args:
        names: one a logit, in any order.

    Returns:
        None if the names are not `O` and every mark of a scheme with every label.

    Example:
        >>> of_names(["I-PER", "O", "B-PER"])
        (Tags(labels=('PER',), scheme='bio'), {'I-PER': 0, 'O': 1, 'B-PER': 2})
    """
    split = [name.partition("-") for name in names]
    places = {
        f"{SAME.get(mark, mark)}{dash}{label}": place
        for place, (mark, dash, label) in enumerate(split)
    }
    labels = tuple(dict.fromkeys(label for _, _, label in split if label))
    for scheme in SCHEMES:
        tags = Tags(labels, scheme)
        if sorted(tags.names) == sorted(places) and len(places) == len(names):
            return tags, places
    return None


def of_words(outputs: Any, features: dict[str, Any], rows: Any) -> tuple[Any, Any, Any]:
    """Outputs of the first piece of every word, as a row of words for each text.

    Where windows overlap a word is read in the window that shows most around it.

    Args:
        outputs: float32 [windows, length, tags].
        features: `row` int32 [windows]; `word` (its number on the first piece of a word, else -1),
            `start`, `end`, `padding_mask`, int32 [windows, length].
        rows: the number of texts.

    Returns:
        (outputs, start, end) of words, ragged [rows, (words), ...].
    """
    import tensorflow as tf

    word = tf.convert_to_tensor(features["word"])
    place = tf.where(word >= 0)
    row = tf.cast(tf.gather(features["row"], place[:, 0]), tf.int64)
    number = tf.cast(tf.gather_nd(word, place), tf.int64)
    width = tf.shape(word, tf.int64)[1]
    size = tf.reduce_sum(tf.cast(features["padding_mask"], tf.int64), axis=1)
    shown = tf.minimum(place[:, 1], tf.gather(size, place[:, 0]) - 1 - place[:, 1])
    many = tf.reduce_max(tf.concat([number, [0]], 0)) + 1
    key = row * many + number
    order = tf.argsort(key * width + (width - 1 - shown), stable=True)
    key = tf.gather(key, order)
    new = tf.concat([key[:1] >= 0, key[1:] != key[:-1]], 0)
    chosen = tf.boolean_mask(order, new)
    at, owner = tf.gather(place, chosen), tf.gather(row, chosen)

    def gathered(values):
        found = tf.gather_nd(tf.convert_to_tensor(values), at)
        rows_ = tf.cast(rows, tf.int64)
        return tf.RaggedTensor.from_value_rowids(found, owner, nrows=rows_, validate=False)

    return gathered(outputs), gathered(features["start"]), gathered(features["end"])


def best_tags(logits: Any, tags: Tags, constrained: bool) -> tuple[Any, Any]:
    """The best tags of words and their probabilities, ragged [rows, (words)].

        argmax_y sum_t log p(y_t)

    over all sequences, or, constrained, over those that the scheme allows (Viterbi).
    """
    import tensorflow as tf
    import tensorflow_text as tf_text

    log_p = logits.with_flat_values(tf.nn.log_softmax(logits.flat_values))
    if constrained:
        dense = log_p.to_tensor()
        # The op takes no batch without words.
        missing = tf.maximum(1 - tf.shape(dense)[1], 0)
        dense = tf.pad(dense, [[0, 0], [0, missing], [0, 0]])
        found = tf_text.viterbi_constrained_sequence(
            dense,
            tf.cast(log_p.row_lengths(), tf.int32),
            allowed_transitions=tf.constant(tags.allowed()),
            use_log_space=True,
            use_start_and_end_states=True,
        )
        best = log_p.with_flat_values(tf.reshape(tf.cast(found.flat_values, tf.int32), [-1]))
    else:
        best = log_p.with_flat_values(tf.argmax(log_p.flat_values, -1, output_type=tf.int32))
    p = tf.gather(tf.exp(log_p.flat_values), best.flat_values, batch_dims=1)
    return best, log_p.with_flat_values(p)


def entities(best: Any, p: Any, start: Any, end: Any, tags: Tags) -> dict[str, Any]:
    """The entities that tags spell.

    A tag that goes on where nothing of its label is open begins an entity.

    Args:
        best: tags of words, ragged int32 [rows, (words)].
        p, start, end: probability and offsets of words, ragged alike.

    Returns:
        `label` (its number), `start`, `end`, and `score` (mean probability of its words), ragged
        [rows, (entities)].
    """
    import tensorflow as tf

    tag = best.flat_values
    label = tf.gather(tf.constant(tags.label_of), tag)
    opens = tf.gather(tf.constant([m in "BS" for m in tags.marks]), tag)
    closes = tf.gather(tf.constant([m in "ES" for m in tags.marks]), tag)
    first = row_begins(best)
    before = tf.concat([[-1], label[:-1]], 0)[: tf.size(label)]
    closed = tf.concat([[True], closes[:-1]], 0)[: tf.size(label)]
    new = (label >= 0) & (opens | first | (before != label) | closed)
    inside = label >= 0
    number = tf.boolean_mask(tf.cumsum(tf.cast(new, tf.int32)) - 1, inside)

    def begun(values):
        rows = tf.boolean_mask(best.value_rowids(), new)
        return tf.RaggedTensor.from_value_rowids(values, rows, nrows=best.nrows(), validate=False)

    return {
        "label": begun(tf.boolean_mask(label, new)),
        "start": begun(tf.boolean_mask(start.flat_values, new)),
        "end": begun(tf.math.segment_max(tf.boolean_mask(end.flat_values, inside), number)),
        "score": begun(tf.math.segment_mean(tf.boolean_mask(p.flat_values, inside), number)),
    }
