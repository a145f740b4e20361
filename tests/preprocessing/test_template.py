"""Packing: golden rows, truncation in turns, padding, and a second opinion in plain Python."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft.preprocessing import Template, pack

BERT = Template(start=(2,), separator=(3,), end=(3,), pad=0)
ROBERTA = Template(start=(0,), separator=(2, 2), end=(2,), pad=1, second_segment=0)
GPT = Template(start=(), separator=(9,), end=(), pad=0, second_segment=0)
LLAMA = Template(start=(1,), separator=(9,), end=(), pad=0, second_segment=0)


def packed(texts, template, max_length=12, **options):
    ragged = [tf.ragged.constant(t, tf.int32, ragged_rank=1) for t in texts]
    out = pack(ragged, template, max_length, **options)
    return {name: value.numpy().tolist() for name, value in out.items()}


def reference(texts, template, max_length):
    """One row, in plain Python: the longest loses its last token until all fit."""
    texts, room = [list(t) for t in texts], max_length - template.added(len(texts))
    if len(texts) == 1:
        texts = [texts[0][:room]]
    else:
        # In turns: each text in order takes one token more as long as there is room.
        kept, left = [0] * len(texts), room
        while left and any(k < len(t) for k, t in zip(kept, texts, strict=True)):
            for i, text in enumerate(texts):
                if left and kept[i] < len(text):
                    kept[i], left = kept[i] + 1, left - 1
        texts = [t[:k] for t, k in zip(texts, kept, strict=True)]
    row, segments = list(template.start), [0] * len(template.start)
    for i, text in enumerate(texts):
        special = template.end if i == len(texts) - 1 else template.separator
        part = [*text, *special]
        row += part
        segments += [template.second_segment if i else 0] * len(part)
    if not row:
        row, segments = [(*template.separator, template.pad)[0]], [0]
    return row, segments


@pytest.mark.parametrize(
    ("template", "texts", "ids", "segments"),
    [
        (BERT, [[[7, 8]]], [2, 7, 8, 3], [0, 0, 0, 0]),
        (BERT, [[[7, 8]], [[5]]], [2, 7, 8, 3, 5, 3], [0, 0, 0, 0, 1, 1]),
        (ROBERTA, [[[7, 8]]], [0, 7, 8, 2], [0, 0, 0, 0]),
        (ROBERTA, [[[7, 8]], [[5]]], [0, 7, 8, 2, 2, 5, 2], [0] * 7),
        (GPT, [[[7, 8]]], [7, 8], [0, 0]),
        (GPT, [[[7, 8]], [[5]]], [7, 8, 9, 5], [0] * 4),
        (LLAMA, [[[7, 8]], [[5]]], [1, 7, 8, 9, 5], [0] * 5),
        (BERT, [[[]]], [2, 3], [0, 0]),
        (BERT, [[[]], [[]]], [2, 3, 3], [0, 0, 1]),
    ],
)
def test_golden_rows(template, texts, ids, segments):
    out = packed(texts, template)
    assert out["token_ids"] == [ids]
    assert out["segment_ids"] == [segments]
    assert out["padding_mask"] == [[1] * len(ids)]


def test_short_rows_are_padded_on_the_right():
    out = packed([[[7, 8, 9], [7], []]], ROBERTA)
    assert out["token_ids"] == [[0, 7, 8, 9, 2], [0, 7, 2, 1, 1], [0, 2, 1, 1, 1]]
    assert out["padding_mask"] == [[1] * 5, [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert out["segment_ids"] == [[0] * 5] * 3


def test_fixed_width():
    out = packed([[[7], [7, 8]]], BERT, max_length=6, fixed=True)
    assert out["token_ids"] == [[2, 7, 3, 0, 0, 0], [2, 7, 8, 3, 0, 0]]
    assert np.shape(out["padding_mask"]) == np.shape(out["segment_ids"]) == (2, 6)


def test_two_long_texts_are_cut_in_turns():
    long, short = list(range(10, 20)), [5, 6]
    assert packed([[long], [short]], BERT, 9)["token_ids"] == [[2, 10, 11, 12, 13, 3, 5, 6, 3]]
    assert packed([[short], [long]], BERT, 9)["token_ids"] == [[2, 5, 6, 3, 10, 11, 12, 13, 3]]
    both = packed([[long], [long]], BERT, 10)["token_ids"]
    assert both == [[2, 10, 11, 12, 13, 3, 10, 11, 12, 3]]


def test_one_long_text_keeps_its_end_token():
    assert packed([[list(range(10, 30))]], BERT, 5)["token_ids"] == [[2, 10, 11, 12, 3]]


@pytest.mark.parametrize("template", [GPT, Template(pad=4)])
def test_an_empty_text_is_one_real_token_where_nothing_else_is(template):
    """A decoder without a start token would have nothing to read, and padding in its place."""
    first = (*template.separator, template.pad)[0]
    out = packed([[[], [7, 8], []]], template)
    assert [row[0] for row in out["token_ids"]] == [first, 7, first]
    assert out["padding_mask"] == [[1, 0], [1, 1], [1, 0]]
    assert packed([[[]]], template)["token_ids"] == [[first]]


@pytest.mark.parametrize("template", [BERT, ROBERTA, GPT, LLAMA])
@pytest.mark.parametrize("count", [1, 2])
def test_random_rows_against_plain_python(template, count):
    random = np.random.default_rng([count, len(template.start)])
    sizes = random.integers(0, 12, (count, 40))
    texts = [[random.integers(10, 99, s).tolist() for s in row] for row in sizes]
    for max_length in (8, 11, 40):
        out = packed(texts, template, max_length)
        mask = np.array(out["padding_mask"])
        assert max(mask.sum(1)) <= max_length
        for row in range(40):
            ids, segments = reference([t[row] for t in texts], template, max_length)
            assert out["token_ids"][row][: mask[row].sum()] == ids
            assert out["segment_ids"][row][: mask[row].sum()] == segments
            assert set(out["token_ids"][row][mask[row].sum() :]) <= {template.pad}


def test_lists_of_lists_will_do():
    assert pack([[[7, 8], [9]]], BERT, 8)["token_ids"].numpy().tolist() == [
        [2, 7, 8, 3],
        [2, 9, 3, 0],
    ]


def test_added():
    assert [BERT.added(1), BERT.added(2), ROBERTA.added(2), GPT.added(1)] == [2, 3, 4, 0]
