"""IA3: its formula, its merge, alone and with LoRA, and PEFT's numbers."""

import keras
import numpy as np
import peft_answers
import pytest
from projections import dense, moved, numbers, random_like, said

from kerasft._core.errors import InputError
from kerasft.methods import (
    IA3,
    BitFit,
    Chain,
    LoRA,
    SiteLayer,
    _site_layers,
    adapter_weights,
    merge,
    registry,
    set_adapter_weights,
)
from kerasft.methods._projection import Projection
from kerasft.methods.ia3 import IA3Layer
from kerasft.testing import tiny

ALL = ("query", "key", "value", "output", "up", "down")


@pytest.mark.parametrize("of_inputs", [False, True])
def test_the_formula(of_inputs):
    """f(l * (x W + b)), or f((l * x) W + b): before the activation, and the bias with it."""
    layer, x = IA3Layer(dense(5, 3, activation="relu"), "x", of_inputs), random_like(2, 4, 5)
    factors = random_like(5 if of_inputs else 3, seed=1)
    layer.ia3_l.assign(factors)
    kernel, bias = numbers(layer.base.kernel, layer.base.bias)
    expected = (x * factors) @ kernel + bias if of_inputs else (x @ kernel + bias) * factors
    np.testing.assert_allclose(layer(x), np.maximum(expected, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("of_inputs", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_changed_is_the_projection_alone(of_inputs, bias):
    layer, x = IA3Layer(dense(5, 3, bias), "x", of_inputs), random_like(2, 4, 5)
    layer.ia3_l.assign(random_like(*layer.ia3_l.shape, seed=1))
    kernel, shift = layer.merged()
    assert (shift is None) is not bias and kernel.dtype == np.float64
    np.testing.assert_allclose(layer(x), x @ kernel + (shift if bias else 0), rtol=1e-5, atol=1e-5)


def test_heads_are_rescaled_one_by_one():
    """A vector lies along heads and their sizes, as the projection's outputs do."""
    layer = keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")
    layer.build((None, None, 4))
    layer.bias.assign(random_like(2, 3))
    wrapped, x = IA3Layer(layer, "x", of_inputs=False), random_like(1, 5, 4, seed=2)
    wrapped.ia3_l.assign(np.arange(6.0))
    plain = np.asarray(layer(x))
    np.testing.assert_allclose(wrapped(x), plain * np.arange(6.0).reshape(2, 3), rtol=1e-6)
    kernel, bias = wrapped.merged()
    np.testing.assert_allclose(bias, np.array(layer.bias) * np.arange(6.0).reshape(2, 3))
    np.testing.assert_allclose(kernel[:, 1, 2], np.array(layer.kernel)[:, 1, 2] * 5.0)
    output = keras.layers.EinsumDense("abcd,cde->abe", (None, 4))
    output.build((None, None, 2, 3))
    wrapped, x = IA3Layer(output, "x", of_inputs=True), random_like(1, 5, 2, 3, seed=2)
    wrapped.ia3_l.assign(np.arange(6.0))
    expected = np.asarray(output(x * np.arange(6.0, dtype=np.float32).reshape(2, 3)))
    np.testing.assert_allclose(wrapped(x), expected, rtol=1e-6)


def test_where_the_vectors_are():
    """Of the feed-forward the inner activations, 24 here, elsewhere the 16 outputs."""
    backbone = IA3().apply(tiny.backbone("bert"))
    found = {name: value.shape for name, value in adapter_weights(backbone).items()}
    sizes = {"key": (16,), "value": (16,), "down": (24,)}
    assert found == {
        f"blocks.{i}.{role}.ia3_l": size for i in (0, 1) for role, size in sizes.items()
    }
    backbone = IA3(targets=("up",), blocks=(1,)).apply(tiny.backbone("bert"))
    assert {k: v.shape for k, v in adapter_weights(backbone).items()} == {
        "blocks.1.up.ia3_l": (24,)
    }


@pytest.mark.parametrize("first", ["lora", "ia3"])
@pytest.mark.parametrize("family", ["bert", "gemma"])
def test_lora_and_ia3_on_one_site_merge(family, first, monkeypatch):
    """In either order: the outer one changes the kernel that the inner one has changed."""
    methods = [LoRA(rank=2, targets=ALL), IA3(targets=ALL)]
    chain = Chain(tuple(methods if first == "lora" else reversed(methods)))
    backbone = moved(chain.apply(tiny.backbone(family)), 0.1)
    before, state = said(backbone), adapter_weights(backbone)
    assert np.abs(before - said(tiny.backbone(family))).max() > 0.1
    merge(backbone)
    assert np.abs(said(backbone) - before).max() < 1e-5
    # A merge that reads the kernel from below both layers, and so knows the outer one alone.
    other = chain.apply(tiny.backbone(family))
    set_adapter_weights(other, state, "the first backbone")
    monkeypatch.setattr(_site_layers, "kernel_and_bias", lowest)
    merge(other)
    assert np.abs(said(other) - before).max() > 1e-2


def lowest(layer):
    while isinstance(layer, SiteLayer):
        layer = layer.base
    bias = None if layer.bias is None else np.asarray(layer.bias, float)
    return np.asarray(layer.kernel, float), bias


def test_a_chain_takes_the_highest_rate_and_trains_both():
    chain = registry.build({"name": "chain", "methods": ["ia3", "bitfit"]})
    assert chain == Chain((IA3(), BitFit())) and chain.learning_rate == 1e-2
    trained = chain.apply(tiny.backbone("bert")).trainable_variables
    assert {v.path.rsplit("/", 1)[-1] for v in trained} == {"ia3_l", "bias", "beta"}


@pytest.mark.parametrize("targets", [None, "key", ("key", "dwon")])
def test_wrong_targets(targets):
    with pytest.raises(InputError, match="`targets` is a list of projections"):
        IA3(targets=targets)


def test_a_missing_role_is_refused():
    with pytest.raises(InputError, match="`targets` must be one of: up, down. Received.*'key'"):
        IA3().apply(tiny.backbone("f_net"))
    IA3(targets=("down",)).apply(tiny.backbone("f_net"))
    with pytest.raises(InputError, match="AlbertBackbone runs one block many times"):
        IA3(blocks=(0,)).apply(tiny.backbone("albert"))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_ia3_is_that_of_peft(family, monkeypatch):
    """Every projection rescaled by PEFT's vectors: same vectors out, before and after a merge."""
    targets = ALL if family == "bert" else (*ALL, "gate")
    backbone, expected = peft_answers.adapted(IA3(targets=targets), family)
    assert peft_answers.distance(backbone, expected) < 1e-5
    right = Projection.beside_y
    with monkeypatch.context() as patch:  # heads and units in another order
        patch.setattr(Projection, "beside_y", lambda self, vector: right(self, vector[::-1]))
        assert peft_answers.distance(backbone, expected) > 1e-2
    merge(backbone)
    assert peft_answers.distance(backbone, expected) < 1e-5
