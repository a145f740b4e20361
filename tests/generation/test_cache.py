"""What a decoder says step by step is what it says of the whole text at once."""

import threading

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from toys import some_slow

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES, ROLES, lm_logits, sites
from kerasft.generation import step_model
from kerasft.generation._plain_ops import plain_ops
from kerasft.methods import LoRA
from kerasft.testing import tiny

DECODERS = [family.name for family in FAMILIES if family.kind == "decoder"]
GEMMA2 = {
    "use_sliding_window_attention": True,
    "sliding_window_size": 3,
    "final_logit_soft_cap": 3.0,
    "attention_logit_soft_cap": 5.0,
    "use_post_ffw_norm": True,
    "use_post_attention_norm": True,
}
VARIANTS = {
    "mistral, window": ("mistral", {"sliding_window": 3}),
    "mistral, head size": ("mistral", {"head_dim": 6}),
    "qwen3, window": ("qwen3", {"sliding_window_size": 3}),
    "gemma2": ("gemma", GEMMA2),
    "llama3, tied": ("llama3", {"tie_word_embeddings": True}),
    "llama, dropout": ("llama", {"dropout": 0.5}),
}


def whole(backbone, x):
    """Logits of KerasHub's own language model around the backbone, without a cache."""
    name = type(backbone).__name__.replace("Backbone", "CausalLM")
    return np.asarray(getattr(keras_hub.models, name)(backbone, preprocessor=None)(x))


def step_by_step(backbone, x, shift=0):
    """Logits of five tokens at once, of one, and of the last two; `shift` moves the place."""
    cached, ids = step_model(backbone), x["token_ids"]
    cache, found = cached.empty(len(ids), ids.shape[1] + shift), []
    for first, last in ((0, 5), (5, 6), (6, 8)):
        place = tf.constant(first + (shift if first else 0))
        logits, _, cache = cached(ids[:, first:last], cache, place)
        found.append(logits)
    return np.concatenate(found, axis=1)


def distance(backbone, expected=None, shift=0):
    """Largest difference on real tokens, relative to the largest logit."""
    x = tiny.features(backbone)
    expected = whole(backbone, x) if expected is None else expected
    got, real = step_by_step(backbone, x, shift), x["padding_mask"] == 1
    assert got.shape == expected.shape and got.dtype == np.float32
    return np.abs(got - expected)[real].max() / np.abs(expected[real]).max()


@pytest.mark.contract("cached logits", of=len(DECODERS))
@pytest.mark.parametrize("name", DECODERS)
def test_cached_is_uncached(name):
    backbone = tiny.backbone(name)
    expected = whole(backbone, tiny.features(backbone))
    assert distance(backbone, expected) < 1e-5
    assert distance(backbone, expected, shift=1) > 1e-3


@pytest.mark.contract("cached logits with LoRA", of=len(DECODERS))
@pytest.mark.parametrize("name", some_slow(DECODERS))
def test_cached_is_uncached_with_lora(name):
    backbone = tiny.backbone(name)
    targets = tuple(r for r in ROLES if r in sites(backbone).blocks[0].projections)
    x = tiny.features(backbone)
    before = step_by_step(backbone, x)
    LoRA(rank=2, targets=targets).apply(backbone)
    for site in sites(backbone).targets(targets):
        tiny.randomize(site.layer, seed=1)
    assert np.abs(step_by_step(backbone, x) - before).max() > 1e-2
    assert distance(backbone) < 1e-5


@pytest.mark.parametrize("name", some_slow(VARIANTS))
def test_cached_is_uncached_with_options(name):
    family, options = VARIANTS[name]
    assert distance(tiny.backbone(family, **options)) < 1e-5


def test_the_cache_is_read():
    backbone = tiny.backbone("llama")
    x = tiny.features(backbone)
    cached, ids = step_model(backbone), x["token_ids"]
    _, _, cache = cached(ids[:, :7], cached.empty(3, 8), 0)
    right = cached(ids[:, 7:], cache, 7)[0]
    blind = cached(ids[:, 7:], tf.nest.map_structure(tf.zeros_like, cache), 7)[0]
    assert np.abs(right - blind).max() > 1e-2


@pytest.mark.parametrize(
    ("family", "options"),
    [("gpt2", {}), ("llama3", {"tie_word_embeddings": False}), VARIANTS["gemma2"]],
)
def test_logits_follow_the_weights(family, options):
    """Tied, untied and capped: KerasHub's logits, also after the weights have moved."""
    backbone = tiny.backbone(family, **options)
    x = tiny.features(backbone)
    logits = tf.function(lambda hidden: lm_logits(backbone, hidden), autograph=False)
    for seed in (0, 1):
        tiny.randomize(backbone, seed)
        hidden = backbone(x)
        np.testing.assert_allclose(logits(hidden), whole(backbone, x), rtol=1e-5, atol=1e-5)
    table = backbone.token_embedding
    kernel = table.embeddings if table.tie_weights else table.reverse_embeddings
    before = np.asarray(logits(hidden))
    kernel.assign(2 * kernel)
    assert np.abs(logits(hidden) - before).max() > 1e-2


def test_mixed_precision():
    """The cache is small; the logits are not rounded with it."""
    backbone = tiny.backbone("llama", dtype="mixed_bfloat16")
    x = tiny.features(backbone)
    cached = step_model(backbone)
    logits, hidden, cache = cached(x["token_ids"], cached.empty(3, 8), 0)
    assert hidden.dtype == cache[0].dtype == tf.bfloat16 and logits.dtype == tf.float32
    kernel = np.asarray(backbone.token_embedding.reverse_embeddings.numpy(), np.float32)
    exact = tf.cast(hidden, tf.float32).numpy() @ kernel
    np.testing.assert_allclose(logits, exact, rtol=1e-5, atol=1e-5)
    rounded = tf.cast(tf.cast(logits, tf.bfloat16), tf.float32)
    assert np.abs(rounded - logits).max() > 1e-3
    assert np.abs(step_by_step(backbone, x) - logits)[x["padding_mask"] == 1].max() < 0.2


def test_only_decoders():
    with pytest.raises(InputError, match="a decoder.*Received: BertBackbone"):
        step_model(tiny.backbone("bert"))
    windowed = tiny.backbone("qwen", use_sliding_window_attention=True, sliding_window_size=3)
    with pytest.raises(InputError, match="cannot be traced"):
        step_model(windowed)


def test_the_op_is_given_back():
    theirs, seen = ops.slice_update, []

    def elsewhere():
        seen.append(np.asarray(ops.slice_update(tf.zeros([4]), [1], tf.ones([2]))))

    with pytest.raises(ZeroDivisionError), plain_ops():
        assert ops.slice_update is not theirs
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        raise ZeroDivisionError
    assert ops.slice_update is theirs
    np.testing.assert_array_equal(seen, [[0, 1, 1, 0]])
