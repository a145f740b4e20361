"""How the pieces of one or two texts become one sequence of ids."""

from dataclasses import dataclass

import tensorflow as tf

from kerasft._core import ragged


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
    budget = max_length - template.added(len(texts))
    texts = [ragged_ids(t) for t in texts]
    kept = [texts[0][:, :budget]] if len(texts) == 1 else _in_turns(*texts, budget)
    rows = kept[0].nrows(tf.int32)
    parts, segments = [], []

    def add(part, segment):
        parts.append(part)
        segments.append(tf.fill(tf.shape(ragged.flat(part)), segment))

    if template.start:
        add(ragged.column(template.start, rows), 0)
    for index, text in enumerate(kept):
        segment = template.second_segment if index else 0
        add(text, segment)
        special = template.end if index == len(kept) - 1 else template.separator
        if special:
            add(ragged.column(special, rows), segment)
    if not template.added(len(kept)):
        # A sequence never has length 0: a decoder without a start id would have nothing to read.
        add(ragged.where_empty(parts[0], (*template.separator, template.pad)[0]), 0)
    lay = ragged.SideBySide(parts)
    ids = lay([ragged.flat(part) for part in parts])
    shape = [None, max_length] if fixed else None
    token_ids = ids.to_tensor(template.pad, shape=shape)
    mask = tf.ones_like(ids).to_tensor(0, shape=shape)
    segment_ids = lay(segments).to_tensor(0, shape=shape)
    return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask}


def _in_turns(first, second, budget: int):
    """As much of two texts as fits when each gives an id in turn, the first one first."""
    sizes = [text.row_lengths() for text in (first, second)]
    halves = (budget + 1) // 2, budget // 2
    return [
        ragged.firsts(text, tf.maximum(budget - other, half))
        for text, half, other in zip((first, second), halves, reversed(sizes))
    ]


def ragged_ids(ids):
    """Ids as a RaggedTensor, int32 [batch, (tokens)]; a tokenizer outside a graph gives lists."""
    if isinstance(ids, tf.RaggedTensor):
        return tf.cast(ids, tf.int32)
    flat = tf.constant([i for row in ids for i in row], tf.int32)
    return ragged.of_lengths(flat, [len(row) for row in ids])
