"""The kin of LoRA: rsLoRA, PiSSA, DoRA and ranks by site; their formulas, and PEFT's numbers."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from test_lora import about, bert, one_step, peft_names, random_like  # noqa: F401
from test_peft_folders import answers, moved, plain_copy

import kerasft as kf
from kerasft._core.errors import InputError
from kerasft.backbones import sites
from kerasft.methods import (
    BitFit,
    Chain,
    LoRA,
    adapt,
    adapter_weights,
    read_peft,
    registry,
    set_adapter_weights,
    write_peft,
)
from kerasft.methods.lora import LoRALayer
from kerasft.testing import tiny

GOLDEN = Path(__file__).parents[1] / "golden"


def wrapped(inputs=6, outputs=5, rank=2, alpha=6.0, bias=True, **options):
    dense = keras.layers.Dense(outputs, use_bias=bias)
    dense.build((None, None, inputs))
    dense.kernel.assign(random_like(inputs, outputs, seed=7))
    if bias:
        dense.bias.assign(random_like(outputs, seed=8))
    return LoRALayer(dense, "x", rank, alpha, 0.0, **options)


def stirred(layer):
    for number, variable in enumerate(layer.trainable_variables):
        variable.assign_add(random_like(*variable.shape, seed=20 + number))
    return layer


def of(layer):
    """Kernel, bias, A and B in float64."""
    parts = (layer.base.kernel, layer.base.bias, layer.lora_a, layer.lora_b)
    return [np.asarray(v, np.float64) for v in parts]


X = random_like(2, 4, 6, seed=3)


def test_rslora_divides_by_the_root_of_the_rank():
    """The scale alone tells it from LoRA: at rank 4, alpha / 2 and not alpha / 4."""
    layer = stirred(wrapped(rank=4, scaling="rslora"))
    kernel, bias, a, b = of(layer)
    np.testing.assert_allclose(
        layer(X), X @ (kernel + 6.0 / 2.0 * a @ b) + bias, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("sizes", [(6, 5), (5, 9)])
def test_pissa_learns_the_largest_singular_values(sizes):
    """s A0 B0 is the best approximation of W of that rank (Eckart and Young)."""
    layer = wrapped(*sizes, start="pissa", scaling="rslora")
    kernel, _, a, b = of(layer)
    u, s, v = np.linalg.svd(kernel)
    best = (u[:, :2] * s[:2]) @ v[:2]
    np.testing.assert_allclose(layer.scale * a @ b, best, atol=1e-5)
    # Both factors have the same share of it, as the paper has them.
    np.testing.assert_allclose(a.T @ a, np.diag(s[:2]) / layer.scale, atol=1e-5)
    np.testing.assert_allclose(b @ b.T, np.diag(s[:2]) / layer.scale, atol=1e-5)


def test_pissa_of_a_kernel_of_lower_rank_stays_finite():
    dense = keras.layers.Dense(5, kernel_initializer="zeros")
    dense.build((None, None, 6))
    layer = LoRALayer(dense, "x", 2, 6.0, 0.0, start="pissa")
    assert np.isfinite(np.asarray(stirred(layer)(X))).all()


def test_pissa_is_the_residual_base_with_a_plain_update():
    """y = x (W - s A0 B0) + s x A B + b: the form of the paper, in which the base is changed."""
    layer = wrapped(start="pissa")
    a0, b0 = np.asarray(layer.lora_a, np.float64), np.asarray(layer.lora_b, np.float64)
    stirred(layer)
    kernel, bias, a, b = of(layer)
    expected = X @ (kernel - 3.0 * a0 @ b0) + 3.0 * X @ a @ b + bias
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-4)
    assert np.abs(a - a0).max() > 0.1


def dora_kernel(layer):
    kernel, _, a, b = of(layer)
    whole = kernel + layer.scale * a @ b
    return np.asarray(layer.magnitude, np.float64) * whole / np.linalg.norm(whole, axis=0)


@pytest.mark.parametrize("bias", [True, False])
def test_dora_learns_lengths_and_directions_apart(bias):
    layer = wrapped(bias=bias, dora=True)
    np.testing.assert_allclose(
        layer.magnitude, np.linalg.norm(np.asarray(layer.base.kernel), axis=0), rtol=1e-6
    )
    stirred(layer)
    expected = X @ dora_kernel(layer) + (np.asarray(layer.base.bias) if bias else 0.0)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-4)
    lengths = np.linalg.norm(layer.merged()[0], axis=0)
    np.testing.assert_allclose(lengths, np.abs(np.asarray(layer.magnitude)), rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{"dora": True}, {"start": "pissa"}, {"dora": True, "start": "pissa"}]
)
@pytest.mark.parametrize("family", ["bert", "gemma"])
def test_fresh_answers_are_those_of_the_base_bit_for_bit(options, family):
    """Op by op any rounding in A B - A0 B0 or in m / |W| would show; a graph rounds by itself."""
    backbone = tiny.backbone(family)
    x = {n.removeprefix("encoder_"): v for n, v in tiny.features(backbone).items()}
    want = answers(backbone, x)
    adapted = adapt(backbone, LoRA(rank=4, targets=("query", "output", "up"), **options))
    np.testing.assert_array_equal(answers(adapted, x), want)
    import tensorflow as tf

    graph = tf.function(lambda x: adapted(x, training=False))
    np.testing.assert_allclose(answers(lambda x, training: graph(x), x), want, atol=1e-5)


# --- ranks by site --------------------------------------------------------------------------------


def test_a_site_goes_before_a_role_and_a_role_before_the_rank():
    method = LoRA(rank=2, targets=("query", "value"), ranks={"query": 3, "blocks.1.query": 5})
    state = adapter_weights(adapt(tiny.backbone("bert"), method).backbone)
    ranks = {name: v.shape[1] for name, v in state.items() if name.endswith("lora_a")}
    assert ranks == {
        "blocks.0.query.lora_a": 3,
        "blocks.0.value.lora_a": 2,
        "blocks.1.query.lora_a": 5,
        "blocks.1.value.lora_a": 2,
    }


def test_the_scale_follows_the_rank_of_the_site():
    backbone = LoRA(rank=2, alpha=6.0, ranks={"blocks.1.query": 3}).apply(tiny.backbone("bert"))
    found = [b.projections["query"].layer.scale for b in sites(backbone).blocks]
    assert found == [3.0, 2.0]


def test_ranks_survive_json_and_yaml(tmp_path):
    method = LoRA(ranks={"query": 3, "blocks.1.value": 2})
    assert registry.build(json.loads(json.dumps(registry.config(method)))) == method
    hash(method)
    recipe = kf.Recipe(data={"train": "x.csv"}, method=method)
    recipe.save(tmp_path / "recipe.yaml")
    again = kf.Recipe.load(tmp_path / "recipe.yaml")
    assert again.method_value() == method
    assert again.replace("method.ranks={value: 4}").method_value().ranks == {"value": 4}


def test_the_mapping_that_was_given_is_not_held():
    given = {"query": 3}
    method = LoRA(ranks=given)
    given["query"] = 9
    assert method.ranks == {"query": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scaling": "rs"}, "`scaling` must be one of: standard, rslora"),
        ({"start": "svd"}, "`start` must be one of: uniform, pissa"),
        ({"dora": "yes"}, "`dora` must be one of: False, True"),
        ({"ranks": [3]}, "`ranks` is a mapping from projections to ranks"),
        ({"ranks": {"querry": 3}}, "A key of `ranks` is a role or a site.*'querry'"),
        ({"ranks": {"blocks.query": 3}}, "A key of `ranks` is a role or a site"),
        ({"ranks": {"query": 0}}, "`ranks.query` must be a whole number, at least 1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        LoRA(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"ranks": {"key": 3}, "targets": ("query", "value")},
            "`ranks` must be one of: .*blocks.0.query.*Received: ranks='key'",
        ),
        ({"ranks": {"blocks.7.query": 3}}, "`ranks` must be one of"),
        ({"rank": 17}, "blocks.0.query has 16 inputs and 16 outputs, so at most 16.*rank=17"),
        ({"ranks": {"blocks.1.value": 17}}, "blocks.1.value has 16 inputs"),
    ],
)
def test_what_the_sites_cannot_have_leaves_the_backbone_alone(options, message):
    backbone = tiny.backbone("bert")
    before = [(w.path, w.trainable) for w in backbone.weights]
    with pytest.raises(InputError, match=message):
        LoRA(**options).apply(backbone)
    assert [(w.path, w.trainable) for w in backbone.weights] == before


def test_dora_in_a_chain_keeps_the_gradient_of_the_bias():
    """(1 - share) b beside share (x W + b): b moves by the whole of its gradient."""
    method = Chain((LoRA(rank=2, dora=True), BitFit()))
    adapted = moved(adapt(tiny.backbone("bert"), method))
    site = sites(adapted.backbone).blocks[0].projections["query"]
    import tensorflow as tf

    x = tf.constant(random_like(1, 3, 16))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(site.layer(x))
    np.testing.assert_allclose(tape.gradient(total, site.layer.base.bias.value), 3.0, rtol=1e-5)


# --- PEFT -----------------------------------------------------------------------------------------

VARIANTS = {"rslora": {"scaling": "rslora"}, "dora": {"dora": True}, "pissa": {"start": "pissa"}}


def our_names(found):
    """PEFT's names and shapes as ours."""
    vectors = {n: v for n, v in found.items() if "magnitude" in n}
    state = peft_names({n: v for n, v in found.items() if n not in vectors})
    for name, value in vectors.items():
        parts = name.split(".")
        block, role = parts[parts.index("layer") + 1], parts[parts.index("self") + 1]
        state[f"blocks.{block}.{role}.lora_magnitude"] = value.reshape(-1)
    return state


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_variant_is_that_of_peft(kind, about):  # noqa: F811
    """Same adapter, same answers; after a step of SGD the same weights.

    A wrong scale, a gradient through the lengths, or a start beside the singular vectors would
    each move the weights after the step by more than the bound.
    """
    stored = np.load(GOLDEN / "methods" / "lora" / f"{kind}.npz")
    pipe = bert(LoRA(4, 8, 0.0, ("query", "value"), **VARIANTS[kind]))
    for variable in pipe.head_variables:
        variable.trainable = False
    fresh = np.asarray(pipe.logits({"text": about["texts"]}))
    np.testing.assert_allclose(fresh, stored["logits_fresh"], atol=1e-5)
    groups = {
        part: our_names({n.removeprefix(part): stored[n] for n in stored.files if part in n})
        for part in ("before:", "weight:")
    }
    own = adapter_weights(pipe.backbone)
    starts = {n: v for n, v in own.items() if "start" in n}
    if kind == "pissa":  # of singular vectors only the products are determined
        signs = {n: np.sign((own[n] * v).sum(0)) for n, v in groups["before:"].items() if "_a" in n}
        for part in groups.values():
            for name, sign in signs.items():
                part[name] = part[name] * sign
                other = name.replace("_a", "_b")
                part[other] = part[other] * sign[:, None]
        for name, value in groups["before:"].items():
            np.testing.assert_allclose(own[name], value, atol=1e-5, err_msg=name)
    set_adapter_weights(pipe.backbone, groups["before:"] | starts, "PEFT's adapter")
    before, loss, after = one_step(pipe, about)
    np.testing.assert_allclose(before, stored["logits_before"], atol=1e-5)
    assert loss == pytest.approx(float(stored["loss"]), abs=1e-5)
    np.testing.assert_allclose(after, stored["logits_after"], atol=1e-5)
    got = adapter_weights(pipe.backbone)
    assert set(got) - set(starts) == set(groups["weight:"])
    for name, value in groups["weight:"].items():
        np.testing.assert_allclose(got[name], value, atol=1e-5, err_msg=name)
        assert np.abs(value - groups["before:"][name]).max() > 1e-4, "the step moves it"
    for block in sites(pipe.backbone).blocks:
        site = block.projections["query"]
        kernel = site.layer.shape.as_matrix(site.layer.merged()[0])
        name = f"merged:bert.encoder.layer.{block.index}.attention.self.query.weight"
        np.testing.assert_allclose(kernel.T, stored[name], atol=1e-5)


def test_projections_of_one_module_keep_their_own_ranks(tmp_path):
    """GPT-2's module of three has three times the rank, more than a projection is wide."""
    backbone = tiny.backbone("gpt2")
    plain, other = plain_copy(backbone), plain_copy(backbone)
    targets = ("query", "key", "value")
    adapted = moved(adapt(backbone, LoRA(rank=8, targets=targets)), seed=4)
    other.set_weights(plain.get_weights())
    write_peft(str(tmp_path / "peft"), adapted, plain, {})
    method, state, _ = read_peft(tmp_path / "peft", other)
    assert (method.rank, method.alpha, method.targets) == (8, 16.0, targets)
    for name, value in adapter_weights(adapted.backbone).items():
        np.testing.assert_array_equal(state[name], value)


@pytest.mark.parametrize(
    "options",
    [
        {"dora": True},
        {"start": "pissa"},
        {"dora": True, "start": "pissa"},
        {"scaling": "rslora", "ranks": {"query": 4, "blocks.1.value": 1}},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_variant_in_a_folder_of_peft(family, options, tmp_path):
    """Written and read again it answers the same, as a plain LoRA or DoRA of one rank."""
    backbone = moved(tiny.backbone(family))
    plain, other = plain_copy(backbone), plain_copy(backbone)
    adapted = adapt(backbone, LoRA(rank=2, alpha=5.0, **options))
    for number, variable in enumerate(adapted.trainable_variables):
        variable.assign_add(0.15 * random_like(*variable.shape, seed=number))
    write_peft(str(tmp_path / "peft"), adapted, plain, {})
    method, state, _ = read_peft(tmp_path / "peft", other)
    assert (method.dora, method.start) == (options.get("dora", False), "uniform")
    again = adapt(other, method)
    set_adapter_weights(again.backbone, state, "the folder")
    x = tiny.features(backbone)
    want = answers(adapted, x)
    np.testing.assert_allclose(answers(again, x), want, atol=5e-6 * np.abs(want).max())
    assert np.abs(answers(plain, x) - want).max() > 1e-3, "the adapter does something"
