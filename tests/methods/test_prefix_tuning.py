"""Prefix tuning: attention over [P; K] and [P; V] by hand, with and without a cache."""

import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.backbones import sites
from kerasft.backbones._surgery import inside
from kerasft.generation import generate, step_model
from kerasft.methods import Chain, LoRA, PrefixTuning, adapt, adapter_weights
from kerasft.methods.prefix_tuning import PrefixLayer
from kerasft.tasks._models import language_model
from kerasft.testing import _rig, tiny

ABLE = {"bert": {}, "gpt2": {}, "llama": {}, "mistral": {"sliding_window": 3}, "gemma": {}}
ABLE |= {"qwen3": {"sliding_window_size": 3}}
WINDOWED = {"use_sliding_window_attention": True, "sliding_window_size": 3}


def slow(*values):
    return [pytest.param(*v, marks=pytest.mark.slow) for v in values]


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def by_hand(query, keys, values, mask, scale):
    """softmax(q k / scale) v, head by head; query [batch, t, heads, size], mask [batch, t, s]."""
    groups = query.shape[2] // keys.shape[2]
    keys, values = (np.repeat(x, groups, axis=2) for x in (keys, values))
    scores = np.einsum("btnh,bsnh->bnts", query, keys) * scale
    scores = np.where(mask[:, None] > 0, scores, -1e9)
    return np.einsum("bnts,bsnh->btnh", softmax(scores), values)


@pytest.mark.parametrize("family", ["bert", "llama", "gemma"])
def test_the_formula(family):
    """What goes into the output projection is attention over the prefix and the text."""
    backbone = PrefixTuning(3).apply(tiny.backbone(family))
    block, random = sites(backbone).blocks[0], np.random.default_rng(0)
    layer = block.attention.layer
    keys, values = (np.asarray(v) for v in layer.prefix())
    heads, size = keys.shape[1:]
    queries = 2 * heads if family == "llama" else heads * (4 // heads if family == "gemma" else 1)
    q, k, v = (
        random.standard_normal((2, 5, n, size)).astype(np.float32) for n in (queries, heads, heads)
    )
    mask = np.tril(np.ones((2, 5, 5), np.int32))
    repeat = 1 if family != "llama" else 2
    given = (q, np.repeat(k, repeat, 2), np.repeat(v, repeat, 2), mask)
    got = inside(layer)._compute_attention(*given)
    got = np.asarray(got[0] if isinstance(got, tuple) else got)
    both = [np.concatenate([np.stack([p, p]), x], 1) for p, x in ((keys, k), (values, v))]
    wide = np.pad(mask, [(0, 0), (0, 0), (3, 0)], constant_values=1)
    np.testing.assert_allclose(got, by_hand(q, *both, wide, size**-0.5), rtol=1e-4, atol=1e-5)
    wrong = np.pad(mask, [(0, 0), (0, 0), (0, 3)], constant_values=1)
    assert np.abs(got - by_hand(q, *both, wrong, size**-0.5)).max() > 1e-2


def hidden(model, x):
    out = model(x, training=False)
    return np.asarray(out["sequence_output"] if isinstance(out, dict) else out)


@pytest.mark.parametrize("family", ["gpt2", "llama", *slow(["gemma"], ["qwen3"], ["mistral"])])
def test_cached_is_uncached(family):
    """With sliding windows where a family has them: token for token."""
    backbone = tiny.backbone(family, **ABLE[family])
    adapted = adapt(backbone, PrefixTuning(3))
    model, x = language_model(adapted, "lm"), tiny.features(backbone)
    ids = x["token_ids"][:1]
    given = (step_model(backbone), ids, np.ones_like(ids))
    got = generate(*given, max_new_tokens=5)
    for _ in range(5):
        logits = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
        ids = np.concatenate([ids, logits[:, -1:].argmax(-1)], 1).astype(np.int32)
    np.testing.assert_array_equal(got["token_ids"], ids[:, -5:])


@pytest.mark.parametrize(
    ("family", "options"),
    [("qwen3", ABLE["qwen3"]), *slow(("gemma", WINDOWED), ("mistral", ABLE["mistral"]))],
)
def test_a_window_is_of_the_text(family, options):
    """With a window of one block, the last token sees the prefix however far it is."""
    backbone = tiny.backbone(family, num_layers=1, **options)
    adapted = adapt(backbone, PrefixTuning(2))
    x = tiny.features(backbone, rows=1)
    before = hidden(adapted, x)
    layer = sites(backbone).blocks[0].attention.layer
    layer.values.assign(np.asarray(layer.values) + 1.0)
    assert np.abs(hidden(adapted, x) - before)[0, -1].max() > 1e-3, "the prefix is seen"
    far = x | {"token_ids": np.concatenate([[[5]], x["token_ids"][:, 1:]], 1).astype(np.int32)}
    now = hidden(adapted, x)
    np.testing.assert_allclose(hidden(adapted, far)[0, -1], now[0, -1], atol=1e-6)
    assert np.abs(hidden(adapted, far) - now)[0, 0].max() > 1e-3


def test_taken_away():
    backbone, x = tiny.backbone("gpt2"), tiny.features(tiny.backbone("gpt2"))
    before = hidden(backbone, x)
    PrefixTuning(2).apply(backbone)
    assert np.abs(hidden(backbone, x) - before).max() > 1e-3
    for block in sites(backbone).blocks:
        block.attention.put(block.attention.layer.unwrap())
    np.testing.assert_array_equal(hidden(backbone, x), before)


def test_a_fresh_prefix_is_the_block_s_own():
    """Keys and values of n vectors from N(0, 1), which differ from block to block."""
    backbone = PrefixTuning(400).apply(tiny.backbone("bert"))
    for block in sites(backbone).blocks:
        layer, key = block.attention.layer, block.projections["key"].layer
        kernel = np.asarray(key.kernel).reshape(16, -1)
        spread = np.asarray(layer.keys).reshape(400, -1).std(0) / np.sqrt((kernel**2).sum(0))
        assert (abs(spread - 1) < 0.15).all()
        middle = np.asarray(layer.keys).mean(0) - np.asarray(key.bias)
        assert np.abs(middle).max() < 0.5
    first, second = (block.attention.layer for block in sites(backbone).blocks)
    assert np.abs(first.keys.numpy() - second.keys.numpy()).max() > 0.1


def test_with_a_projection():
    backbone = PrefixTuning(4, projection=7, blocks=(1,)).apply(tiny.backbone("llama"))
    state = {k: v.shape for k, v in adapter_weights(backbone).items()}
    assert state == {
        "blocks.1.attention.vectors": (4, 16),
        "blocks.1.attention.projection_0.kernel": (16, 7),
        "blocks.1.attention.projection_0.bias": (7,),
        "blocks.1.attention.projection_1.kernel": (7, 2 * 2 * 4),
        "blocks.1.attention.projection_1.bias": (16,),
    }
    layer = sites(backbone).blocks[1].attention.layer
    assert isinstance(layer, PrefixLayer)
    first, last = layer.dense
    made = np.tanh(layer.vectors.numpy() @ first.kernel.numpy()) @ last.kernel.numpy()
    keys, values = layer.prefix()
    np.testing.assert_allclose(keys, made.reshape(4, 2, 2, 4)[:, 0], atol=1e-5)
    np.testing.assert_allclose(values, made.reshape(4, 2, 2, 4)[:, 1], atol=1e-5)
    assert not isinstance(sites(backbone).blocks[0].attention.layer, PrefixLayer)


def test_beside_low_rank_updates():
    """Projections are found inside an attention that has a prefix, in either order."""
    low_rank = LoRA(rank=2, targets=("query", "value"))
    for methods in ((PrefixTuning(2), low_rank), (low_rank, PrefixTuning(2))):
        adapted = adapt(tiny.backbone("gemma"), Chain(methods))
        names = set(adapter_weights(adapted.backbone))
        assert {"blocks.0.attention.keys", "blocks.1.query.lora_b"} <= names and len(names) == 12


def test_training_lowers_the_loss():
    """The head stands still: what is learned, the prefix learned."""
    pipe = _rig.pipeline("bert", PrefixTuning(4))
    for variable in pipe.head_variables:
        variable.trainable = False
    losses = _rig.stepped(pipe, 8)
    assert (np.diff(losses) < 0).all() and losses[-1] < 0.96 * losses[0], losses


@pytest.mark.parametrize("family", ["f_net", "deberta_v3", "t5", "bart"])
def test_what_cannot_carry_it_says_so(family):
    with pytest.raises(InputError, match="A prefix stands before .* Use lora"):
        PrefixTuning().apply(tiny.backbone(family))


@pytest.mark.parametrize("family", ["bert", "gemma", "bart", "f_net", "deberta_v3", "t5"])
def test_sites_of_attention(family):
    """A block has one where it has a query and plain attention."""
    blocks = sites(tiny.backbone(family)).blocks
    able = [b.attention is not None for b in blocks]
    assert able == [family not in ("f_net", "deberta_v3", "t5")] * len(blocks)
    for block in blocks:
        if block.attention:
            assert block.attention.layer is block.projections["query"].owner


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"virtual_tokens": 0}, "`virtual_tokens` must be a whole number, at least 1"),
        ({"projection": -1}, "`projection` must be a whole number, at least 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        PrefixTuning(**options)
