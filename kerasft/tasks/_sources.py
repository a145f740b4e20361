"""A source and a target as an encoder-decoder reads them, the same in training and export."""

from typing import Any

import tensorflow as tf

from kerasft._core import ragged
from kerasft.backbones import template_of
from kerasft.backbones.describe import decoder_start
from kerasft.data.encoded import DECODER
from kerasft.tasks import _language, _writers


def crossed(
    tokenizer: Any, writing: Any, segments: Any, max_length: int, learn: bool
) -> dict[str, Any]:
    """Segments as features of an encoder-decoder.

        encoder reads   start source end,     decoder reads   starts y_1 ... y_n-1
                                              and learns      y_1 ... y_n = end

    Args:
        tokenizer: its KerasHub tokenizer.
        writing: from `_language.writing_of`.
        segments: ragged string [batch, (segments)]; the learned ones are the target.
        max_length: the most ids of either sequence; each loses its end.
        learn: whether there is a target; without, the decoder reads what it begins with.

    Returns:
        int32 [batch, length]: `token_ids`, `segment_ids`, `padding_mask` of the source,
        `decoder_token_ids` and `decoder_padding_mask`, with a length of their own; to learn from
        also `targets`, -1 where nothing is learned, `row`, and `lost` int32 [batch], the tokens of
        a target that were cut off.
    """
    template, starts = template_of(tokenizer), decoder_start(tokenizer)
    ids, learned = _language.segment_ids(tokenizer, writing, segments)
    rows = ids.nrows(out_type=tf.int32)
    most = max_length - len(template.end)
    source = ragged.masked(ids, ~learned.flat_values)[:, :most]
    if template.end:
        source = ragged.side_by_side([source, ragged.column(template.end, rows)])
    begin = ragged.column(starts, rows)
    if not learn:
        begin = tf.RaggedTensor.from_tensor(begin)
        return _writers.inputs_of(tokenizer, source) | _second(tokenizer, begin)
    target = ragged.masked(ids, learned.flat_values)
    most = max_length - len(starts) + 1
    lost = tf.maximum(tf.cast(target.row_lengths(), tf.int32) - most, 0)
    target = target[:, :most]
    lay = ragged.SideBySide([begin, target])
    nothing = lay([-tf.ones_like(begin), target.values])[:, 1:]
    read = lay([begin, target.values])[:, :-1]
    return (
        _writers.inputs_of(tokenizer, source)
        | _second(tokenizer, read)
        | {"targets": nothing.to_tensor(-1), "row": tf.range(rows), "lost": lost}
    )


def _second(tokenizer: Any, ids: Any) -> dict[str, Any]:
    found = _writers.inputs_of(tokenizer, ids)
    return {DECODER + name: found[name] for name in ("token_ids", "padding_mask")}
