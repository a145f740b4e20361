"""VeRA: its formula, the pair that is shared, its file, and PEFT's numbers."""

import numpy as np
import peft_answers
import pytest
from projections import dense, moved, numbers, random_like, said

from kerasft._core.errors import InputError
from kerasft._core.weights import named, read
from kerasft.methods import VeRA, adapter_weights, carried, merge
from kerasft.methods._site_layers import Shared
from kerasft.methods.vera import VeRALayer
from kerasft.testing import _rig, tiny


def wrapped(base, a, b):
    layer = VeRALayer(base, "x", Shared(lambda layer: layer.frozen(a, b)), a.shape[1], 0.1)
    layer.scale_b.assign(random_like(*layer.scale_b.shape, seed=3))
    layer.scale_d.assign(random_like(*layer.scale_d.shape, seed=4))
    return layer


def test_the_formula():
    """f(x W + c + b * ((d * (x A)) B)), with the first rows of A and columns of B."""
    a, b, x = random_like(7, 2), random_like(2, 6, seed=1), random_like(2, 4, 5, seed=2)
    layer = wrapped(dense(5, 3, activation="relu"), a, b)
    kernel, bias, d, scale = numbers(*layer.base.weights, layer.scale_d, layer.scale_b)
    update = scale * ((d * (x @ a[:5])) @ b[:, :3])
    expected = np.maximum(x @ kernel + bias + update, 0)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    merged, shift = layer.merged()
    assert merged.dtype == np.float64 and np.abs(update).max() > 0.1
    np.testing.assert_allclose(np.maximum(x @ merged + shift, 0), expected, rtol=1e-5, atol=1e-5)


def test_a_fresh_one_has_the_paper_s_start():
    backbone = VeRA(rank=4).apply(tiny.backbone("bert"))
    d, b = numbers(*carried(backbone)[0].layer.own)
    np.testing.assert_array_equal(d, np.full(4, 0.1, np.float32))
    np.testing.assert_array_equal(b, np.zeros(16))


def test_the_pair_is_drawn_as_peft_draws_it():
    """Kaiming uniform: within sqrt(6 / inputs) and sqrt(6 / rank), from the seed alone."""
    a, b = VeRA(rank=40).matrices(300, 200)
    for values, fan, shape in ((a, 300, (300, 40)), (b, 40, (40, 200))):
        assert values.shape == shape and values.dtype == np.float32
        bound = np.sqrt(6 / fan)
        assert 0.999 * bound < np.abs(values).max() <= bound
        assert np.var(values) == pytest.approx(bound**2 / 3, rel=0.03)
    again, other = VeRA(rank=40).matrices(300, 200), VeRA(rank=40, seed=1).matrices(300, 200)
    np.testing.assert_array_equal(a, again[0])
    np.testing.assert_array_equal(b, again[1])
    assert np.abs(a - other[0]).max() > 0.1 and np.abs(b - other[1]).max() > 0.1


def test_one_pair_for_all_and_tracked_once():
    """As large as the largest: `down` has 24 inputs and `up` 24 outputs, the others 16."""
    backbone = VeRA(rank=3, targets=("query", "up", "down")).apply(tiny.backbone("bert"))
    found = {p: v for p, v in named(backbone.weights).items() if "vera_" in p.rsplit("/", 1)[-1]}
    assert {p: tuple(v.shape) for p, v in found.items()} == {
        "blocks_0_query_vera/vera_a": (24, 3),
        "blocks_0_query_vera/vera_b": (3, 24),
    }
    assert not any(v.trainable for v in found.values())
    owners = [site.layer.pair.weights(site.layer) for site in carried(backbone)]
    assert len(owners) == 6 and all(pair[0] is owners[0][0] for pair in owners)
    before = said(moved(backbone))
    next(iter(found.values())).assign(np.zeros((24, 3)))
    assert np.abs(said(backbone) - before).max() > 1e-3, "it is A that the layers read"


def test_an_adapter_file_holds_the_vectors_alone(tmp_path):
    """A and B come from the seed; other ones of the same shape are refused by the fingerprint."""
    pipe = _rig.pipeline("bert", VeRA(rank=3))
    moved(pipe.backbone)
    path = str(tmp_path / "adapter.safetensors")
    pipe.save_adapter(path)
    names = {name for name in read(path)[0] if name.startswith("adapter/")}
    assert names == {
        f"adapter/blocks.{i}.{role}.scale_{v}"
        for i in (0, 1)
        for role in ("query", "value")
        for v in "db"
    }
    again = _rig.pipeline("bert", VeRA(rank=3))
    again.load_adapter(path)
    np.testing.assert_array_equal(said(again.backbone), said(pipe.backbone))
    a, _ = carried(again.backbone)[0].layer.pair.made
    a.assign(np.array(a) + 1e-3)
    with pytest.raises(InputError, match="fingerprints"):
        again.load_adapter(path)
    with pytest.raises(InputError, match="another method"):
        _rig.pipeline("bert", VeRA(rank=3, seed=1)).load_adapter(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "`rank` must be a whole number, at least 1"),
        ({"seed": -1}, "`seed` must be a whole number, at least 0"),
        ({"d_initial": 0}, "`d_initial` must be more than 0"),
        ({"targets": None}, "`targets` is a list of projections"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        VeRA(**options)


def test_a_missing_role_is_refused_and_the_backbone_left_alone():
    backbone = tiny.backbone("f_net")
    with pytest.raises(InputError, match="`targets` must be one of: up, down"):
        VeRA().apply(backbone)
    assert not adapter_weights(VeRA(targets=("up",)).apply(backbone)).keys() ^ {
        f"blocks.{i}.up.scale_{v}" for i in (0, 1) for v in "db"
    }


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("bert", ("query", "key", "value", "output", "up", "down")),
        ("llama", ("query", "down")),
    ],
)
def test_vera_is_that_of_peft(family, targets):
    """PEFT's A, B, d and b: same vectors out, before and after a merge."""
    backbone, expected = peft_answers.adapted(VeRA(rank=5, targets=targets), family)
    pair = carried(backbone)[0].layer.pair.made
    assert peft_answers.distance(backbone, expected) > 1e-2, "with our A and B"
    for variable, name in zip(pair, ("vera_a", "vera_b"), strict=True):
        variable.assign(expected[name])
    assert peft_answers.distance(backbone, expected) < 1e-5
    merge(backbone)
    assert peft_answers.distance(backbone, expected) < 1e-5
