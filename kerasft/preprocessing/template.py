"""How the pieces of one or two texts become one sequence of ids."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Template:
    """The special ids around texts: `start a end`, or `start a separator b end`.

    Args:
        start: ids before the first text, e.g. ([CLS],) or ().
        separator: ids between two texts, e.g. ([SEP],) for BERT, (</s>, </s>) for RoBERTa.
        end: ids after the last text.
        pad: the id that fills short rows.
        second_segment: the segment id of the second text and of what follows it (BERT 1, XLM-R 0).
    """

    start: tuple[int, ...] = ()
    separator: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    pad: int = 0
    second_segment: int = 1

    def added(self, texts: int) -> int:
        """How many special ids a sequence of that many texts holds."""
        return len(self.start) + len(self.end) + len(self.separator) * (texts - 1)


def pack(texts, template: Template, max_length: int, fixed: bool = False) -> dict:
    """Cut, join and pad tokenised texts, in the graph.

    Two texts that are too long together are cut in turns, token by token, so that both keep
    a fair share (round robin).

    Args:
        texts: one or two RaggedTensors of ids, int32 [batch, (tokens)]; lists of lists, as a
            tokenizer gives them outside a graph, will do.
        template: the special ids.
        max_length: the most ids in a row, special ones included.
        fixed: pad every row to `max_length` instead of to the longest row of the batch.

    Returns:
        `token_ids`, `segment_ids` and `padding_mask` (1 on real ids), each int32 [batch, length].

    Example:
        >>> t = Template(start=(2,), separator=(3,), end=(3,))
        >>> pack([tf.ragged.constant([[7, 8]])], t, max_length=8)["token_ids"].numpy()
        array([[2, 7, 8, 3]], dtype=int32)
    """
    import tensorflow_text as tf_text

    budget = max_length - template.added(len(texts))
    texts = [ragged_ids(t) for t in texts]
    if len(texts) == 1:
        kept = [texts[0][:, :budget]]
    else:
        kept = tf_text.RoundRobinTrimmer(budget).trim(texts)
    rows = tf.shape(kept[0].row_splits)[0] - 1

    def column(ids):
        return tf.RaggedTensor.from_tensor(tf.tile(tf.constant([ids], tf.int32), [rows, 1]))

    parts, segments = [], []

    def add(part, segment):
        parts.append(part)
        segments.append(tf.ones_like(part) * segment)

    if template.start:
        add(column(template.start), 0)
    for index, text in enumerate(kept):
        segment = template.second_segment if index else 0
        add(text, segment)
        special = template.end if index == len(kept) - 1 else template.separator
        if special:
            add(column(special), segment)
    if not template.added(len(kept)):
        # A sequence never has length 0: a decoder without a start id would have nothing to read.
        missing = tf.cast(parts[0].row_lengths() == 0, tf.int64)
        filler = tf.fill([tf.reduce_sum(missing)], (*template.separator, template.pad)[0])
        add(tf.RaggedTensor.from_row_lengths(filler, missing), 0)
    ids = tf.concat(parts, axis=1)
    shape = [None, max_length] if fixed else None
    token_ids = ids.to_tensor(template.pad, shape=shape)
    mask = tf.ones_like(ids).to_tensor(0, shape=shape)
    segment_ids = tf.concat(segments, axis=1).to_tensor(0, shape=shape)
    return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask}


def ragged_ids(ids):
    """Ids as a RaggedTensor, int32 [batch, (tokens)]; a tokenizer outside a graph gives lists."""
    if isinstance(ids, tf.RaggedTensor):
        return tf.cast(ids, tf.int32)
    return tf.RaggedTensor.from_row_lengths(
        tf.constant([i for row in ids for i in row], tf.int32), [len(row) for row in ids]
    )
