"""QLoRA: what rounding does to a kernel, gradients through it, files, sizes, export."""

import gc
import os
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_lora import random_like
from test_peft_folders import answers, plain_copy

from kerasft._core.errors import InputError
from kerasft.backbones import sites
from kerasft.methods import Chain, LoRA, QLoRA, adapt, carried, merge
from kerasft.methods._projection import Projection
from kerasft.methods._quantised import NF4, Quantised, groups_of
from kerasft.testing import _rig, tiny


def quantised(bits, inputs=128, outputs=5, **options):
    """A projection, and its kernel before it was quantised."""
    dense = keras.layers.Dense(outputs, **options)
    dense.build((None, None, inputs))
    dense.kernel.assign(random_like(inputs, outputs, seed=1))
    if dense.bias is not None:
        dense.bias.assign(random_like(outputs, seed=2))
    kernel = np.asarray(dense.kernel, np.float64)
    return Quantised(dense, "x", bits), kernel


def test_eight_bits_are_the_nearest_of_255_steps():
    layer, kernel = quantised(8)
    got, _ = layer.merged()
    step = np.abs(kernel).max(axis=0) / 127
    np.testing.assert_allclose(got, np.rint(kernel / step) * step, atol=1e-6)
    assert np.abs(got - kernel).max() > 0.1 * step.max(), "something is rounded"


def test_four_bits_are_the_nearest_level_of_each_group():
    """128 inputs are two groups of 64; a swapped nibble or a wrong group is off by far more."""
    layer, kernel = quantised(4)
    assert layer.codes.shape == (64, 5)
    assert layer.codes.dtype == "uint8"
    assert layer.scales.shape == (2, 5)
    got, _ = layer.merged()
    for rows in (slice(0, 64), slice(64, 128)):
        part = kernel[rows]
        scale = np.abs(part).max(axis=0)
        distance = np.abs(part[..., None] / scale[:, None] - NF4.astype(np.float64))
        np.testing.assert_allclose(got[rows], NF4[distance.argmin(-1)] * scale, atol=1e-6)
    assert (np.abs(got) <= np.abs(kernel).max(axis=0)).all()


def test_the_levels_are_quantiles_of_a_normal_distribution():
    """Eight above and seven below zero, as the paper's appendix says, by their distribution."""
    from statistics import NormalDist

    offset = (1 - 1 / 32 + 1 - 1 / 30) / 2
    above = [NormalDist().inv_cdf(p) for p in np.linspace(offset, 0.5, 9)[:-1]]
    below = [-NormalDist().inv_cdf(p) for p in np.linspace(offset, 0.5, 8)[:-1]]
    levels = np.array(sorted([*above, 0.0, *below])) / above[0]
    np.testing.assert_allclose(NF4, levels, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", ["bert", "gemma", "t5"])
def test_a_quantised_projection_is_one_with_the_decoded_kernel(family, bits):
    """Outputs and gradients are those of the layer itself with Q(W) as its kernel."""
    for role, site in sites(tiny.backbone(family)).blocks[0].projections.items():
        base, shape = site.layer, Projection.of(site.layer)
        sizes = dict(shape.sizes)
        dims = [sizes[c] for c in shape.equation[0] if c in sizes]
        x = tf.constant(random_like(2, 3, *dims, seed=3))
        layer = Quantised(base, site.path, bits)

        def slope(projection, x=x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                out = projection(x)
                total = tf.reduce_sum(out * random_like(*out.shape, seed=4))
            return np.asarray(out), np.asarray(tape.gradient(total, x))

        got = slope(layer)
        expected = slope(layer.unwrap())
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=role)
        assert np.abs(expected[1]).max() > 0


def test_the_kernel_is_gone_and_comes_back_first_and_under_its_name():
    dense = keras.layers.Dense(4)
    dense.build((None, 6))
    kernel, names = weakref.ref(dense.kernel), [v.path for v in dense.weights]
    layer = Quantised(dense, "x", 8)
    gc.collect()
    assert kernel() is None
    assert layer.unwrap() is dense
    assert [v.path for v in dense.weights] == names
    assert dense.kernel.shape == (6, 4)


# --- the method -----------------------------------------------------------------------------------

# The largest difference to the base, as a share of the largest output. Measured on the tiny
# families, whose random weights no training has made gentle: 8 bits 0.016 to 0.020, 4 bits 0.24 to
# 0.34. (On bert_tiny, which is trained: 0.008 and 0.10.)
FRESH = {8: 0.04, 4: 0.5}


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", ["bert", "gpt2", "gemma"])
def test_a_fresh_model_differs_by_the_rounding_alone(family, bits):
    backbone = tiny.backbone(family)
    x = {n.removeprefix("encoder_"): v for n, v in tiny.features(backbone).items()}
    want, rounded = answers(backbone, x), plain_copy(backbone)
    adapted = adapt(backbone, QLoRA(bits=bits, rank=4))
    off = np.abs(answers(adapted, x) - want).max() / np.abs(want).max()
    print(f"{family} {bits} bits: {off:.4f}")
    assert 1e-5 < off < FRESH[bits]
    for site in sites(rounded).projections():
        Quantised(site.layer, site.path, bits).unwrap()
    want = answers(rounded, x)
    np.testing.assert_allclose(answers(adapted, x), want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("bits", [8, 4])
def test_every_projection_of_every_block_is_quantised(bits):
    backbone = QLoRA(bits=bits, rank=2, targets=("query",), blocks=(0,)).apply(
        tiny.backbone("bert")
    )
    assert len(carried(backbone)) == len(list(sites(backbone).projections())) == 12
    kinds = {v.dtype for s in carried(backbone) for v in s.layer.weights if "codes" in v.path}
    assert kinds == {"int8" if bits == 8 else "uint8"}
    moving = {v.path.split("/")[0] for v in backbone.trainable_variables}
    assert moving == {"blocks_0_query_lora"}


@pytest.mark.parametrize(("bits", "most"), [(8, 0.28), (4, 0.16)])
def test_the_size_of_the_saved_weights(bits, most, tmp_path):
    """Of a block's kernels: 1/4 and a scale a column, or 1/8 and a scale for 64 inputs (1/16)."""
    sizes = {}
    for name, method in (("full", LoRA(2)), ("small", QLoRA(bits=bits, rank=2))):
        options = {"hidden_dim": 128, "intermediate_dim": 256, "vocabulary_size": 40}
        pipe = _rig.pipeline("bert", method, **options)
        pipe.save(tmp_path / name)
        sizes[name] = os.path.getsize(tmp_path / name / "model.safetensors")
        kernels = 4 * sum(
            s.layer.shape.inputs * s.layer.shape.outputs for s in carried(pipe.backbone)
        )
    saved = kernels - (sizes["full"] - sizes["small"])
    print(f"{bits} bits: {sizes['small']:,} of {sizes['full']:,} bytes, {saved / kernels:.3f}")
    assert saved / kernels < most


def test_merging_gives_a_plain_float_backbone():
    backbone = tiny.backbone("bert")
    x, names = tiny.features(backbone), [v.path for v in backbone.weights]
    shapes = [v.shape for v in backbone.weights]
    adapted = adapt(backbone, QLoRA(rank=2))
    for number, variable in enumerate(adapted.trainable_variables):
        variable.assign_add(0.2 * random_like(*variable.shape, seed=number))
    want = answers(adapted, x)
    merge(backbone)
    np.testing.assert_allclose(answers(adapted, x), want, atol=1e-5 * np.abs(want).max())
    assert [v.path for v in backbone.weights] == names
    assert [v.shape for v in backbone.weights] == shapes
    assert {v.dtype for v in backbone.weights} == {"float32"}


def test_an_adapter_file_holds_the_matrices_alone_and_knows_its_bits(tmp_path):
    from kerasft._core import weights

    pipe = _rig.pipeline("bert", QLoRA(bits=4, rank=2))
    path = str(tmp_path / "a.safetensors")
    pipe.save_adapter(path)
    arrays, _ = weights.read(path)
    names = {name.rsplit(".", 1)[-1] for name in arrays if name.startswith("adapter/")}
    assert names == {"lora_a", "lora_b"}
    with pytest.raises(InputError, match="another method"):
        _rig.pipeline("bert", QLoRA(bits=8, rank=2)).load_adapter(path)


@pytest.mark.parametrize("bits", [pytest.param(8, marks=pytest.mark.slow), 4])
def test_an_export_answers_the_same(bits, tmp_path):
    """`export` itself compares the loaded SavedModel with the pipeline; here once more."""
    pipe = _rig.pipeline("bert", QLoRA(bits=bits, rank=2))
    for number, variable in enumerate(pipe.adapted.trainable_variables):
        variable.assign_add(0.2 * random_like(*variable.shape, seed=number))
    folder = pipe.export(tmp_path / "saved")
    loaded = tf.saved_model.load(folder)
    asked = loaded.signatures["token_ids"]
    kinds = {name: spec.dtype for name, spec in asked.structured_input_signature[1].items()}
    x = tiny.features(pipe.model)
    out = asked(**{name: tf.cast(x[name], kind) for name, kind in kinds.items()})
    want = np.asarray(pipe.model(x))
    found = [np.asarray(v) for v in out.values() if v.shape == want.shape]
    assert min(np.abs(v - want).max() for v in found) < 1e-5
    stored = tf.train.load_checkpoint(f"{folder}/variables/variables")
    shapes, kinds = stored.get_variable_to_shape_map(), stored.get_variable_to_dtype_map()
    codes = [name for name, kind in kinds.items() if kind in (tf.int8, tf.uint8)]
    assert len(codes) == len(carried(pipe.backbone)), "the file holds codes"
    # Of the floats only the embeddings and the pooler are as large as a kernel.
    floats = [n for n, kind in kinds.items() if kind == tf.float32 and np.prod(shapes[n]) >= 256]
    assert len(floats) < len(codes), floats


@pytest.mark.parametrize(("inputs", "groups"), [(16, 1), (64, 1), (128, 2), (312, 6), (2, 1)])
def test_groups_are_equal_and_of_at_most_64(inputs, groups):
    layer = keras.layers.Dense(3)
    layer.build((None, inputs))
    assert groups_of(Projection.of(layer), "x") == groups


@pytest.mark.parametrize("inputs", [7, 134])
def test_a_shape_that_four_bits_forbid(inputs):
    """An odd number does not fill bytes; 134 = 2 * 67 has no group between 16 and 64."""
    layer = keras.layers.Dense(3)
    layer.build((None, inputs))
    with pytest.raises(InputError, match=f"even number of inputs.*x with {inputs} inputs.*bits: 8"):
        groups_of(Projection.of(layer), "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, "`bits` must be one of: 8, 4"),
        ({"rank": 0}, "`rank` must be a whole number"),
        ({"targets": ("querry",)}, "Did you mean 'query'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        QLoRA(**options)


def test_what_it_cannot_be_put_around_leaves_the_backbone_alone():
    backbone = tiny.backbone("bert")
    before = [(w.path, w.trainable) for w in backbone.weights]
    with pytest.raises(InputError, match="at most 16"):
        QLoRA(rank=17).apply(backbone)
    assert [(w.path, w.trainable) for w in backbone.weights] == before
    with pytest.raises(InputError, match="Name `qlora` before it in the chain"):
        adapt(backbone, Chain((LoRA(2, blocks=(0,)), QLoRA(rank=2))))
