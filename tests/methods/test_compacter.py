"""Compacter: the sum of Kronecker products by hand, and the part that all adapters share."""

import keras
import numpy as np
import pytest
from projections import moved, numbers, random_like, said

from kerasft._core.errors import InputError
from kerasft._core.weights import named
from kerasft.methods import Compacter, adapt, adapter_weights, carried, set_adapter_weights
from kerasft.methods.compacter import kronecker_sum
from kerasft.testing import tiny


def by_hand(rules, left, right):
    return sum(np.kron(a, s @ t) for a, s, t in zip(rules, left, right, strict=True))


def test_the_sum_of_kronecker_products():
    rules, left, right = random_like(2, 2, 2), random_like(2, 3, 1, seed=1), random_like(2, 1, 5)
    expected = by_hand(rules, left, right)
    assert expected.shape == (6, 10) and np.linalg.matrix_rank(expected) > 1
    np.testing.assert_allclose(kronecker_sum(rules, left, right), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(by_hand(rules.transpose(0, 2, 1), left, right) - expected).max() > 0.1


def test_the_formula():
    """y + gelu(y D + d) U + u, with D and U by hand, at both places of a block."""
    backbone = moved(Compacter(size=8, parts=4, rank=2).apply(tiny.backbone("bert")))
    (rules,) = numbers(*[v for v in backbone.variables if v.path.endswith("/rules")])
    for site in carried(backbone):
        state = {v.path.rsplit("/", 1)[-1]: np.array(v) for v in site.layer.own}
        down = by_hand(rules, state["down_left"], state["down_right"])
        up = by_hand(rules, state["up_left"], state["up_right"])
        assert down.shape == (16, 8) and up.shape == (8, 16)
        x = random_like(1, 4, *((2, 8) if site.role == "output" else (24,)), seed=3)
        y = np.asarray(site.layer.base(x))
        inner = np.asarray(keras.activations.gelu(y @ down + state["down_bias"]))
        expected = y + inner @ up + state["up_bias"]
        np.testing.assert_allclose(site.layer(x), expected, rtol=1e-4, atol=1e-5)
        assert np.abs(expected - y).max() > 0.1


def test_the_rules_are_one_variable():
    """The first adapter owns them; every adapter reads them; each weight has one name."""
    backbone = Compacter(size=8).apply(tiny.backbone("bert"))
    found = [p for p in named(backbone.weights) if "rules" in p]
    assert found == ["blocks_0_output_compacter/rules"]
    assert len(backbone.weights) == len({id(v) for v in backbone.weights})
    state = adapter_weights(backbone)
    assert [n for n in state if "rules" in n] == ["blocks.0.output.rules"]
    factors = {"down_left": (4, 4, 1), "down_right": (4, 1, 2), "down_bias": (8,)}
    factors |= {"up_left": (4, 2, 1), "up_right": (4, 1, 4), "up_bias": (16,)}
    places = [f"blocks.{i}.{role}" for i in (0, 1) for role in ("output", "down")]
    wanted = {f"{p}.{name}": shape for p in places for name, shape in factors.items()}
    wanted["blocks.0.output.rules"] = (4, 4, 4)
    assert {name: value.shape for name, value in state.items()} == wanted
    moved(backbone)
    layer = carried(backbone)[-1].layer
    assert layer.base.name != "" and not [v for v in layer.own if "rules" in v.path]
    x = random_like(1, 3, 24)
    before = np.asarray(layer(x))
    set_adapter_weights(
        backbone,
        adapter_weights(backbone) | {"blocks.0.output.rules": np.zeros((4, 4, 4), np.float32)},
        "x",
    )
    assert np.abs(np.asarray(layer(x)) - before).max() > 1e-2, "the last adapter reads them too"


def test_a_rebuilt_one_shares_its_rules(tmp_path):
    adapted = adapt(tiny.backbone("bert"), Compacter(size=8))
    moved(adapted.backbone)
    inputs = {
        t.name: keras.Input((None,), dtype="int32", name=t.name) for t in adapted.backbone.inputs
    }
    model = keras.Model(inputs, adapted(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").layers[-1].backbone
    assert len([v for v in again.weights if "rules" in v.path]) == 1
    np.testing.assert_array_equal(said(again), said(adapted.backbone))


def test_a_matrix_starts_as_large_as_an_adapter_s():
    """Numbers of D with the variance of U(-1/sqrt(in), 1/sqrt(in)); U is zero."""
    backbone = Compacter(size=64, parts=4, rank=4).apply(
        tiny.backbone("bert", num_layers=8, hidden_dim=128)
    )
    layers = [site.layer for site in carried(backbone)]
    found = np.mean([np.var(np.asarray(layer.down())) for layer in layers])
    assert found == pytest.approx(1 / (3 * 128), rel=0.5)
    assert not any(np.asarray(layer.up()).any() for layer in layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement": "parallel"}, "`placement` must be one of: houlsby, pfeiffer"),
        ({"size": 0}, "`size` must be a whole number, at least 1"),
        ({"parts": 0}, "`parts` must be a whole number, at least 1"),
        ({"rank": 0}, "`rank` must be a whole number, at least 1"),
        ({"size": 10}, "`size` must be a multiple of `parts`. Received: 10 and parts=4"),
        ({"activation": "glu"}, "`activation` must be one of.*'gelu'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        Compacter(**options)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="hidden size of this backbone must be a multiple"):
        Compacter(size=9, parts=3).apply(tiny.backbone("bert"))
    with pytest.raises(InputError, match="FNetBackbone has none"):
        Compacter(size=8).apply(tiny.backbone("f_net"))
    backbone = Compacter("pfeiffer", size=8, blocks=(1,)).apply(tiny.backbone("f_net"))
    assert [site.path for site in carried(backbone)] == ["blocks.1.down"]
