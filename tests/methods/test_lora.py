"""LoRA: the algebra of einsum projections, its formula, its file, and PEFT's numbers."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES, sites
from kerasft.backbones.huggingface import load_folder, read_head
from kerasft.methods import (
    IA3,
    LoRA,
    QLoRA,
    VeRA,
    adapt,
    adapter_weights,
    carried,
    set_adapter_weights,
)
from kerasft.methods._projection import Projection
from kerasft.methods.lora import LoRALayer
from kerasft.pipeline import Pipeline
from kerasft.tasks import TextClassification
from kerasft.testing import tiny
from kerasft.training.fitted import compiled

GOLDEN = Path(__file__).parents[1] / "golden"


def random_like(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("family", [f.name for f in FAMILIES])
def test_a_projection_is_a_matrix(family):
    """x (A B), by the letters of the projection, is what the layer does with A B as kernel."""
    for block in sites(tiny.backbone(family)).blocks:
        for role, site in block.projections.items():
            layer, shape = site.layer, Projection.of(site.layer)
            kernel = np.array(layer.kernel)
            matrix = shape.as_matrix(kernel)
            assert matrix.shape == (shape.inputs, shape.outputs)
            np.testing.assert_array_equal(shape.as_kernel(matrix), kernel)
            a, b = random_like(shape.inputs, 2), random_like(2, shape.outputs, seed=1)
            x = random_like(2, 3, *shape_of_input(shape), seed=2)
            layer.kernel.assign(shape.as_kernel(a @ b))
            if layer.bias is not None:
                layer.bias.assign(np.zeros(layer.bias.shape))
            layer.activation = keras.activations.linear
            expected = np.asarray(layer(x))
            got = np.asarray(shape.low_rank(x, a, b))
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4, err_msg=role)


def shape_of_input(shape):
    """Sizes of what a projection reads of each token."""
    sizes = dict(shape.sizes)
    return tuple(sizes[c] for c in shape.equation[0] if c in sizes)


def test_the_letters_of_gemma():
    projections = sites(tiny.backbone("gemma")).blocks[0].projections
    found = {role: Projection.of(site.layer).equation for role, site in projections.items()}
    assert found["query"] == ("btd", "ndh", "btnh")
    assert found["value"] == ("bsd", "kdh", "bskh")
    assert found["output"] == ("btnh", "nhd", "btd")
    query = Projection.of(projections["query"].layer)
    assert (query.contracted, query.produced, query.inputs, query.outputs) == ("d", "nh", 16, 24)


def test_a_dense_layer_is_a_projection_too():
    dense = keras.layers.Dense(3)
    dense.build((None, None, 5))
    shape = Projection.of(dense)
    assert (shape.inputs, shape.outputs) == (5, 3)
    np.testing.assert_array_equal(shape.as_matrix(np.array(dense.kernel)), np.array(dense.kernel))


def test_a_projection_with_dots_is_refused():
    layer = keras.layers.EinsumDense("...x,xy->...y", output_shape=4)
    layer.build((None, 3))
    with pytest.raises(InputError, match="plain axes"):
        Projection.of(layer)


def wrapped(**options):
    dense = keras.layers.Dense(3, activation="relu")
    dense.build((None, None, 5))
    dense.bias.assign([0.1, -0.2, 0.3])
    layer = LoRALayer(dense, **({"site": "x", "rank": 2, "alpha": 6.0, "dropout": 0.0} | options))
    layer.lora_b.assign(random_like(2, 3))
    return layer


def test_the_formula():
    """y = f(W x + b + (alpha / rank) B A x): the update comes before the activation."""
    layer, x = wrapped(), random_like(1, 4, 5, seed=3)
    kernel, a, b = (np.array(v) for v in (layer.base.kernel, layer.lora_a, layer.lora_b))
    expected = np.maximum(x @ kernel + [0.1, -0.2, 0.3] + (6.0 / 2) * (x @ a @ b), 0.0)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.delta(), 3.0 * a @ b, rtol=1e-6)


def test_a_fresh_update_is_zero_and_can_learn():
    dense = keras.layers.Dense(3)
    dense.build((None, None, 50))
    layer = LoRALayer(dense, "x", 4, 8.0, 0.0)
    a, b = np.array(layer.lora_a), np.array(layer.lora_b)
    assert (b == 0).all()
    bound = 1 / np.sqrt(50)
    assert 0.8 * bound < np.abs(a).max() <= bound, "as PEFT draws it: U(-1/sqrt(in), 1/sqrt(in))"
    assert (layer.delta() == 0).all()


def test_dropout_is_on_the_update_only_and_in_training_only():
    layer, x = wrapped(dropout=0.9), random_like(1, 40, 5, seed=3)
    quiet = np.asarray(layer(x, training=False))
    np.testing.assert_array_equal(quiet, np.asarray(layer(x)))
    layer.activation = keras.activations.linear
    base = np.asarray(layer.base(x))
    noisy = np.asarray(layer(x, training=True))
    untouched = (np.abs(noisy - base).max(-1) < 1e-6).mean()
    assert 0.4 < untouched < 0.8, "0.9^5 of the rows have lost every input of the update"


@pytest.mark.parametrize("method", [LoRA, QLoRA, VeRA, IA3], ids=lambda m: m.name)
def test_without_targets_it_is_all_projections(method):
    """Of a decoder, which has a gate too."""
    every = [site.path for site in sites(tiny.backbone("llama")).projections()]
    adapted = adapt(tiny.backbone("llama"), method(targets=()))
    found = [site.path for site in carried(adapted.backbone)]
    assert sorted(found) == sorted(every) and any(path.endswith("gate") for path in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "`rank` must be a whole number, at least 1"),
        ({"alpha": 0}, "`alpha` must be more than 0"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and at most 0.999"),
        ({"targets": None}, "`targets` is a list of projections"),
        ({"targets": "query"}, "`targets` is a list of projections"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        LoRA(**options)


def test_a_wrong_target_is_named():
    with pytest.raises(InputError, match="`targets` is a list of projections.*'querry'.*'query'"):
        LoRA(targets=("querry",))


def test_a_refused_target_leaves_the_backbone_alone():
    backbone = tiny.backbone("bert")
    before = [(w.path, w.trainable) for w in backbone.weights]
    with pytest.raises(InputError):
        LoRA(targets=("query", "gate")).apply(backbone)
    assert [(w.path, w.trainable) for w in backbone.weights] == before


def test_twice_on_one_backbone_is_refused():
    backbone = tiny.backbone("bert")
    LoRA().apply(backbone)
    with pytest.raises(InputError, match="blocks.0.query carries a change of this kind already"):
        LoRA().apply(backbone)


def test_state_has_a_name_for_each_matrix():
    method = LoRA(rank=2, targets=("output",))
    backbone = method.apply(tiny.backbone("gemma"))
    state = adapter_weights(backbone)
    assert {k: v.shape for k, v in state.items()} == {
        "blocks.0.output.lora_a": (24, 2),
        "blocks.0.output.lora_b": (2, 16),
        "blocks.1.output.lora_a": (24, 2),
        "blocks.1.output.lora_b": (2, 16),
    }
    changed = {k: v + 1 for k, v in state.items()}
    set_adapter_weights(backbone, changed, "x")
    for name, value in adapter_weights(backbone).items():
        np.testing.assert_array_equal(value, changed[name])
    for odd in ({**state, "more": np.zeros(1)}, {k: v for k, v in state.items() if "_a" in k}):
        with pytest.raises(InputError, match="does not fit this method and backbone"):
            set_adapter_weights(backbone, odd, "x")


def test_trap_keras_own_lora_does_not_load_its_weights(tmp_path):
    """Why LoRA is wrapped around a layer here: Keras' own comes back dead from a weights file."""

    def dense():
        layer = keras.layers.Dense(3, name="dense")
        model = keras.Sequential([keras.Input((5,)), layer])
        layer.enable_lora(2)
        return model, layer

    model, layer = dense()
    layer.lora_kernel_b.assign(random_like(2, 3))
    model.save_weights(tmp_path / "a.weights.h5")
    again, other = dense()
    again.load_weights(tmp_path / "a.weights.h5")
    assert (np.array(other.lora_kernel_a) == 0).all()
    assert (np.array(other.lora_kernel_b) == 0).all()


# --- PEFT -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def about():
    return json.loads((GOLDEN / "steps" / "about.json").read_text(encoding="utf-8"))


def bert(method):
    """The golden BERT with its head, and a method on it."""
    folder = str(GOLDEN / "bert")
    backbone, tokenizer = load_folder(folder, dtype="float32", dropout=0.0)
    head = read_head(folder)
    task = TextClassification(labels=head.labels, head_dropout=0.0, max_length=40)
    pipe = Pipeline(task.build(adapt(backbone, method)), tokenizer, task)
    task.load_head(pipe.model, head)
    return pipe


def one_step(pipe, about):
    """Logits, loss and logits again around one full-batch step of plain SGD."""
    fitted = compiled(pipe.model, pipe.task, keras.optimizers.SGD(about["learning_rate"]))
    fitted.run_eagerly = True
    encoded = pipe.encode({"text": about["texts"]})
    x = {name: encoded[name] for name in pipe.inputs}
    before = np.asarray(pipe.model(x))
    loss = fitted.train_on_batch(x, np.array(about["targets"]), return_dict=True)["loss"]
    return before, float(loss), np.asarray(pipe.model(x))


def peft_names(state):
    """Our names for the matrices of PEFT's adapter, which holds them transposed."""
    found = {}
    for name, value in state.items():
        parts = name.removeprefix("weight:").split(".")
        block, role, matrix = parts[parts.index("layer") + 1], parts[-3], parts[-2][-1]
        found[f"blocks.{block}.{role}.lora_{matrix.lower()}"] = value.T
    return found


def test_lora_is_that_of_peft(about):
    """Same adapter, same answers; after a step the same A and B, all else frozen."""
    expected = np.load(GOLDEN / "steps" / "lora.npz")
    config = json.loads((GOLDEN / "steps" / "lora" / "adapter_config.json").read_text())
    method = LoRA(config["r"], config["lora_alpha"], 0.0, tuple(config["target_modules"]))
    pipe = bert(method)
    adapter = load_file(GOLDEN / "steps" / "lora" / "adapter_model.safetensors")
    set_adapter_weights(pipe.backbone, peft_names(adapter), "PEFT's adapter")
    for variable in pipe.head_variables:  # PEFT's adapter was trained alone
        variable.trainable = False
    before, loss, after = one_step(pipe, about)
    np.testing.assert_allclose(before, expected["logits_before"], atol=1e-5)
    assert loss == pytest.approx(float(expected["loss"]), abs=1e-5)
    np.testing.assert_allclose(after, expected["logits_after"], atol=1e-5)
    moved = peft_names({n: expected[n] for n in expected.files if n.startswith("weight:")})
    got = adapter_weights(pipe.backbone)
    assert set(got) == set(moved)
    for name, value in moved.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5, err_msg=name)
    assert max(np.abs(moved[n] - peft_names(adapter)[n]).max() for n in moved) > 1e-3


def test_a_full_step_is_that_of_transformers(about):
    expected = np.load(GOLDEN / "steps" / "sgd.npz")
    pipe = bert("full")
    before, loss, after = one_step(pipe, about)
    np.testing.assert_allclose(before, expected["logits_before"], atol=1e-5)
    assert loss == pytest.approx(float(expected["loss"]), abs=1e-5)
    np.testing.assert_allclose(after, expected["logits_after"], atol=1e-5)
    for block in sites(pipe.backbone).blocks:
        prefix = f"weight:bert.encoder.layer.{block.index}"
        names = {
            "query": "attention.self.query",
            "output": "attention.output.dense",
            "up": "intermediate.dense",
            "down": "output.dense",
        }
        for role, name in names.items():
            layer = block.projections[role].layer
            matrix = Projection.of(layer).as_matrix(np.array(layer.kernel))
            np.testing.assert_allclose(matrix, expected[f"{prefix}.{name}.weight"].T, atol=1e-5)
