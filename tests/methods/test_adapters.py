"""Adapters: their formula, their places, and the parallel ones as a wider feed-forward."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from projections import dense, moved, numbers, random_like, said

from kerasft._core.errors import InputError
from kerasft.backbones import lm_logits, run_packed, sites
from kerasft.backbones._surgery import apply_fixes, around
from kerasft.generation import step_model
from kerasft.methods import (
    Adapters,
    Chain,
    Compacter,
    LoRA,
    adapter_weights,
    carried,
    set_adapter_weights,
    unmergeable,
)
from kerasft.methods._bottleneck import Bottleneck, BottleneckLayer, Reader
from kerasft.methods.adapters import _matrix
from kerasft.testing import tiny

SIZE = 5


def roles_of(backbone):
    return [site.path.removeprefix("blocks.") for site in carried(backbone)]


def test_the_formula():
    """y + scale * (f(y D + d) U + u), y after the projection's own activation."""
    base = dense(4, 3, activation="tanh")
    layer = BottleneckLayer(base, "x", Bottleneck("adapters", 2, "relu", _matrix, 3.0))
    for seed, variable in enumerate(layer.own):
        variable.assign(random_like(*variable.shape, seed=seed))
    names = [v.path.rsplit("/", 1)[-1] for v in layer.own]
    assert names == ["down", "down_bias", "up", "up_bias"]
    kernel, bias, down, down_bias, up, up_bias = numbers(*base.weights, *layer.own)
    x = random_like(2, 6, 4, seed=9)
    y = np.tanh(x @ kernel + bias)
    expected = y + 3.0 * (np.maximum(y @ down + down_bias, 0) @ up + up_bias)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_a_fresh_one_is_silent_and_can_learn():
    layer = BottleneckLayer(dense(4, 50), "x", Bottleneck("adapters", 9, "relu", _matrix))
    down, down_bias, up, up_bias = numbers(*layer.own)
    assert down.shape == (50, 9) and up.shape == (9, 50)
    bound = 1 / np.sqrt(50)
    assert 0.8 * bound < np.abs(down).max() <= bound
    assert not down_bias.any() and not up.any() and not up_bias.any()


def test_the_places():
    """Behind attention and feed-forward; behind the latter; beside it, where `up` only looks."""
    found = {
        name: roles_of(Adapters(name, size=2).apply(tiny.backbone("bert")))
        for name in ("houlsby", "pfeiffer", "parallel")
    }
    assert found == {
        "houlsby": ["0.output", "0.down", "1.output", "1.down"],
        "pfeiffer": ["0.down", "1.down"],
        "parallel": ["0.up", "0.down", "1.up", "1.down"],
    }
    names = adapter_weights(Adapters("parallel", size=2).apply(tiny.backbone("bert")))
    assert {n.rsplit(".", 1)[0] for n in names} == {"blocks.0.down", "blocks.1.down"}


def test_dropped_blocks_and_chosen_ones():
    blocks = {"num_layers": 4}
    backbone = tiny.backbone("bert", **blocks)
    Adapters("pfeiffer", size=2, drop_first_blocks=2).apply(backbone)
    assert roles_of(backbone) == ["2.down", "3.down"]
    backbone = tiny.backbone("bert", **blocks)
    Adapters("pfeiffer", size=2, drop_first_blocks=1, blocks=(0, -1)).apply(backbone)
    assert roles_of(backbone) == ["3.down"]
    for options in ({"drop_first_blocks": 4}, {"drop_first_blocks": 2, "blocks": (0, 1)}):
        with pytest.raises(InputError, match="leaves no block with an adapter.*4 blocks"):
            Adapters(**options).apply(tiny.backbone("bert", **blocks))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement": "paralel"}, "`placement` must be one of: houlsby, pfeiffer, parallel.*'par"),
        ({"size": 0}, "`size` must be a whole number, at least 1"),
        ({"activation": "rleu"}, "`activation` must be one of: relu, gelu, silu, tanh.*'relu'"),
        ({"scale": 0}, "`scale` must be more than 0"),
        ({"drop_first_blocks": -1}, "`drop_first_blocks` must be a whole number, at least 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        Adapters(**options)


def test_what_has_no_place_is_refused():
    backbone = tiny.backbone("f_net")
    with pytest.raises(InputError, match="FNetBackbone has none.*Use pfeiffer"):
        Adapters().apply(backbone)
    assert not carried(backbone) and backbone.trainable_variables
    Adapters("pfeiffer").apply(backbone)
    with pytest.raises(InputError, match="AlbertBackbone runs one block many times"):
        Adapters(drop_first_blocks=1).apply(tiny.backbone("albert"))
    with pytest.raises(InputError, match="carries a change of this kind already"):
        Chain((Adapters(), Compacter(size=8))).apply(tiny.backbone("bert"))


@pytest.mark.parametrize("placement", ["houlsby", "parallel"])
def test_lora_lies_below_an_adapter_in_either_order(placement):
    """A change of the projection comes first, whichever of the methods was named first."""
    methods = (Adapters(placement, size=2), LoRA(rank=2, targets=("output", "up", "down")))
    plain, state, answers = said(tiny.backbone("bert")), None, []
    for chain in (Chain(methods), Chain(methods[::-1])):
        backbone = moved(chain.apply(tiny.backbone("bert")))
        state = state or adapter_weights(backbone)
        set_adapter_weights(backbone, state, "the first backbone")
        answers.append(said(backbone))
        for site in carried(backbone):
            assert type([*around(site.layer)][-1]).__name__ == "LoRALayer"
        assert unmergeable(backbone) == "an adapter has an activation between its matrices"
    assert np.abs(answers[0] - plain).max() > 0.1
    np.testing.assert_array_equal(answers[0], answers[1])


# --- parallel -----------------------------------------------------------------------------------


def narrow_and_wide(family, scale=2.0):
    """A backbone with parallel adapters of relu, and one with a wider feed-forward of relu.

    relu(h W + b) V + c + scale * (relu(h D + d) U + u) is one feed-forward with W and D side by
    side, V and scale * U on each other, and c + scale * u.
    """
    narrow, wide = tiny.backbone(family), tiny.backbone(family, intermediate_dim=24 + SIZE)
    for backbone in (narrow, wide):
        apply_fixes(backbone, {"activation": "relu"})
    inner = {id(v) for s in sites(wide).targets(("up", "down")) for v in s.layer.variables}
    own = {v.path: v for v in narrow.variables}
    for variable in wide.variables:
        if id(variable) not in inner:
            variable.assign(own[variable.path])
    moved(Adapters("parallel", size=SIZE, scale=scale).apply(narrow), 0.5)
    for one, other in zip(sites(narrow).blocks, sites(wide).blocks, strict=True):
        up, down = (one.projections[role].layer for role in ("up", "down"))
        d, d_bias, u, u_bias = numbers(*down.own)
        kernel, bias = numbers(up.base.kernel, up.base.bias)
        target = other.projections["up"].layer
        target.kernel.assign(np.concatenate([kernel, d], 1))
        target.bias.assign(np.concatenate([bias, d_bias]))
        kernel, bias = numbers(down.base.kernel, down.base.bias)
        target = other.projections["down"].layer
        target.kernel.assign(np.concatenate([kernel, scale * u]))
        target.bias.assign(bias + scale * u_bias)
    return narrow, wide


@pytest.mark.parametrize("family", ["bert", "albert", "f_net"])
def test_a_parallel_adapter_is_a_wider_feed_forward(family):
    """ALBERT runs its block twice, with other inputs each time: both runs have to be right."""
    narrow, wide = narrow_and_wide(family)
    expected = said(wide)
    assert np.abs(said(narrow) - expected).max() < 1e-5
    x = tiny.features(narrow)
    graph = tf.function(lambda **x: narrow(x))
    np.testing.assert_allclose(graph(**x)["sequence_output"], expected, atol=1e-5)
    assert all(not vars(site.layer.read) for site in carried(narrow)), "no tensor is left behind"
    for site in sites(narrow).targets(("down",)):
        site.layer.scale = 1.0  # what makes it fail
    assert np.abs(said(narrow) - expected).max() > 1e-2


def test_what_an_earlier_run_has_read_would_be_seen(monkeypatch):
    """What makes the test above fail for ALBERT: the second run of the block with the first's."""
    narrow, wide = narrow_and_wide("albert")
    kept = []

    def first(self, inputs):
        kept.append(inputs)
        self.read.inputs = kept[0]
        return self.base(inputs)

    monkeypatch.setattr(Reader, "call", first)
    assert np.abs(said(narrow) - said(wide)).max() > 1e-2
    assert len(kept) == 2, "the block runs twice"


def test_parallel_adapters_when_tokens_come_one_by_one():
    """Cached, a decoder says what the wider one says of the whole text."""
    narrow, wide = narrow_and_wide("gpt2")
    x = tiny.features(wide, rows=2)
    x["padding_mask"][:] = 1
    expected = np.asarray(lm_logits(wide, wide(x)))
    cached = step_model(narrow)
    step = tf.function(cached)
    cache, found = cached.empty(2, 8), []
    for first, last in ((0, 5), (5, 6), (6, 8)):
        logits, _, cache = step(x["token_ids"][:, first:last], cache, tf.constant(first))
        found.append(np.asarray(logits))
    found = np.concatenate(found, axis=1)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_adapters_in_packed_rows(family):
    """Two documents in one row answer as each alone; with one number they see each other."""
    backbone = moved(Adapters("parallel", size=SIZE).apply(tiny.backbone(family)))
    ids = np.array([[7, 21, 9, 33, 12, 8, 25, 14]], np.int32)
    numbered = np.array([[1] * 5 + [2] * 3], np.int32)
    ones = np.ones_like(ids)

    def row(ids, **more):
        ones = np.ones_like(ids)
        x = {"token_ids": ids, "padding_mask": ones, "segment_ids": 0 * ones}
        names = [t.name for t in backbone.inputs]
        return {n: v for n, v in x.items() if n in names} | more

    def vectors(out):
        return np.asarray(out["sequence_output"] if isinstance(out, dict) else out)

    alone = [vectors(backbone(row(ids[:, :5]))), vectors(backbone(row(ids[:, 5:])))]
    expected = np.concatenate(alone, axis=1)
    together = vectors(run_packed(backbone, row(ids, document_ids=numbered)))
    assert np.abs(together - expected).max() < 1e-5
    mixed = vectors(run_packed(backbone, row(ids, document_ids=ones)))
    assert np.abs(mixed - expected).max() > 1e-2


def test_two_threads_do_not_mix():
    """Between one thread's `up` and `down` another runs `up` of the same block."""
    backbone = moved(Adapters("parallel", size=SIZE).apply(tiny.backbone("bert")))
    up, down = (sites(backbone).blocks[0].projections[r].layer for r in ("up", "down"))
    h, other = random_like(1, 4, 16), random_like(1, 7, 16, seed=1)
    expected = np.asarray(down(up(h)))
    inner = up(h)
    thread = threading.Thread(target=lambda: up(other))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(np.asarray(down(inner)), expected)
