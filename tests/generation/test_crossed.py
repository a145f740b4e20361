"""Encoder-decoders: what is said step by step is what KerasHub says of the whole, and writes."""

import itertools

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from test_in_the_graph import BAD, ops_of
from toys import rows_of

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES, ROLES, sites
from kerasft.generation import beam_search, detokenizer, generate, step_model, stream
from kerasft.methods import LoRA
from kerasft.testing import tiny

NAMES = [family.name for family in FAMILIES if family.kind == "encoder-decoder"]
NEW = 5


def keras_hubs(backbone):
    """KerasHub's own model that writes, around the backbone."""
    name = type(backbone).__name__.replace("Backbone", "Seq2SeqLM")
    return getattr(keras_hub.models, name)(backbone, preprocessor=None)


def source_of(x):
    return x["encoder_token_ids"], x["encoder_padding_mask"]


def step_by_step(backbone, x, shift=0):
    """Logits of three tokens at once, of one, and of the last two; `shift` moves the place."""
    cached, ids = step_model(backbone), x["decoder_token_ids"]
    cache, found = cached.empty(len(ids), ids.shape[1] + shift, *source_of(x)), []
    for first, last in ((0, 3), (3, 4), (4, 6)):
        place = tf.constant(first + (shift if first else 0))
        logits, _, cache = cached(ids[:, first:last], cache, place)
        found.append(logits)
    return np.concatenate(found, axis=1)


def distance(backbone, expected, shift=0):
    x = tiny.features(backbone)
    got, real = step_by_step(backbone, x, shift), x["decoder_padding_mask"] == 1
    assert got.shape == expected.shape and got.dtype == np.float32
    return np.abs(got - expected)[real].max() / np.abs(expected[real]).max()


@pytest.mark.contract("cached logits of encoder-decoders", of=len(NAMES))
@pytest.mark.parametrize("name", NAMES)
def test_cached_is_uncached(name):
    """Also with LoRA everywhere; at another place, or of another source, it is not."""
    backbone = tiny.backbone(name)
    x = tiny.features(backbone)
    expected = np.asarray(keras_hubs(backbone)(x))
    assert distance(backbone, expected) < 1e-5
    assert distance(backbone, expected, shift=1) > 1e-3
    other = x | {"encoder_token_ids": x["encoder_token_ids"][:, ::-1]}
    assert np.abs(step_by_step(backbone, other) - expected).max() > 1e-3
    there = {role for block in sites(backbone).blocks for role in block.projections}
    LoRA(rank=2, targets=tuple(role for role in ROLES if role in there)).apply(backbone)
    for site in sites(backbone).targets(tuple(there)):
        tiny.randomize(site.layer, seed=1)
    adapted = np.asarray(keras_hubs(backbone)(x))
    assert np.abs(adapted - expected).max() > 1e-2
    assert distance(backbone, adapted) < 1e-5


def kerashub(backbone, x, starts):
    """What KerasHub's own greedy search writes behind the start."""
    model = keras_hubs(backbone)
    model.compile(sampler="greedy", run_eagerly=True)
    room = [(0, 0), (0, NEW)]
    asked = x | {
        "decoder_token_ids": np.pad(starts, room),
        "decoder_padding_mask": np.pad(np.ones_like(starts), room),
    }
    rows = model.generate(asked, stop_token_ids=None)["decoder_token_ids"]
    return rows[:, starts.shape[1] :].tolist()


@pytest.mark.contract("decode loop of encoder-decoders", of=len(NAMES))
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "t5" else ()) for n in NAMES]
)
def test_greedy_is_that_of_keras_hub(name):
    """In a graph of plain ops; alone, as a stream, and with one beam it is the same."""
    backbone, tokenizer = tiny.backbone(name), tiny.tokenizer(name)
    x, cached = tiny.features(backbone), step_model(backbone)
    starts = x["decoder_token_ids"][:, :2]
    mask = np.ones_like(starts)
    wide = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[wide] * 4, autograph=False)
    def call(ids, mask, *source):
        return generate(cached, ids, mask, max_new_tokens=NEW, source=source)

    expected = kerashub(backbone, x, starts)
    assert len({tuple(row) for row in expected}) == 3
    assert rows_of(call(starts, mask, *source_of(x))) == expected
    ops = ops_of(call.get_concrete_function().graph)
    assert any(op.endswith("While") for op in ops)
    assert not any(op.startswith(BAD) for op in ops)

    detokenize = detokenizer(tokenizer)
    for i, row in enumerate(expected):
        size = int(x["encoder_padding_mask"][i].sum())
        alone = tuple(part[i : i + 1, :size] for part in source_of(x))
        one = {"max_new_tokens": NEW, "source": alone}
        begun = starts[i : i + 1], mask[i : i + 1]
        found = beam_search(cached, *begun, beams=1, detokenize=detokenize, **one)
        assert rows_of(found) == [row]
        parts = list(stream(cached, *begun, detokenize=detokenize, **one))
        assert "".join(parts).encode() == found["text"][0]
    assert len(cached.compiled) == 1, "a stream's functions are made once"


def test_beams_find_the_best_of_all():
    """With a beam for every token, two tokens are the likeliest of all pairs."""
    backbone = tiny.backbone("t5")
    x, size = tiny.features(backbone), backbone.vocabulary_size
    pairs = np.array(list(itertools.product(range(size), range(size))), np.int32)
    start = np.zeros((1, 1), np.int32)
    for row in range(2):
        source = tuple(part[row : row + 1] for part in source_of(x))
        found = beam_search(
            step_model(backbone), start, start + 1, max_new_tokens=2, beams=size, source=source
        )
        ids = np.concatenate([np.zeros((len(pairs), 1), np.int32), pairs[:, :1]], axis=1)
        whole = {
            "encoder_token_ids": np.repeat(source[0], len(pairs), 0),
            "encoder_padding_mask": np.repeat(source[1], len(pairs), 0),
            "decoder_token_ids": ids,
            "decoder_padding_mask": np.ones_like(ids),
        }
        logits = tf.nn.log_softmax(keras_hubs(backbone)(whole)).numpy()
        scores = np.take_along_axis(logits, pairs[:, :, None], 2).sum((1, 2))
        assert rows_of(found) == [pairs[scores.argmax()].tolist()]
        np.testing.assert_allclose(found["scores"], [scores.max() / 2], rtol=1e-4)


def test_a_source_is_needed():
    cached = step_model(tiny.backbone("bart"))
    with pytest.raises(InputError, match="BartBackbone writes what follows from a source"):
        generate(cached, [[2, 0]], [[1, 1]], max_new_tokens=2)


def test_learned_positions_have_an_end():
    assert step_model(tiny.backbone("bart")).limit == 64
    assert step_model(tiny.backbone("t5")).limit is None
