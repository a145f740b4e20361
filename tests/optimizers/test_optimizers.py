"""AdamW against its formula, which weights decay, and the schedules."""

import keras
import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.optimizers import SCHEDULES, WarmupDecay, adamw
from kerasft.testing import tiny


def small():
    inputs = keras.Input((2,))
    x = keras.layers.LayerNormalization(name="norm")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="dense")(x))


def reference(w, gradients, rate, decay, clip=None):
    """AdamW in NumPy: decay beside the step, bias-corrected moments."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        if clip is not None:
            g = g * min(1.0, clip / np.linalg.norm(g))
        w = w - rate * decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


@pytest.mark.parametrize("clip", [None, 1.0])
def test_steps_against_the_formula(clip):
    model = small()
    kernel = model.get_layer("dense").kernel
    optimizer = adamw(0.1, model, weight_decay=0.3, clip_norm=clip)
    start = np.array(kernel)
    gradients = [np.full((2, 2), 3.0, np.float32), np.array([[1.0, -2.0], [0.5, 0.1]], np.float32)]
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [kernel])
    expected = reference(start.astype(np.float64), gradients, 0.1, 0.3, clip)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=5e-6)


def test_the_norm_of_all_gradients_is_clipped_together():
    model = small()
    kernel, bias = model.get_layer("dense").kernel, model.get_layer("dense").bias
    kernel.assign(np.zeros((2, 2)))
    bias.assign(np.zeros(2))
    optimizer = adamw(1.0, model, weight_decay=0.0, clip_norm=1.0)
    # So that a first step, -h / (h + 1) with h = sqrt(0.001) g in Keras, shows how long g is.
    optimizer.epsilon = 1.0
    big = [np.full((2, 2), 30.0, np.float32), np.full(2, 40.0, np.float32)]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in big], [kernel, bias])
    norm = np.sqrt(4 * 30.0**2 + 2 * 40.0**2)
    for variable, g in ((kernel, 30.0 / norm), (bias, 40.0 / norm)):
        h = np.sqrt(0.001) * g
        np.testing.assert_allclose(variable, np.full(variable.shape, -h / (h + 1)), rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "deberta_v3", "gpt2", "qwen3", "gemma"])
def test_no_decay_on_biases_and_norms(family):
    """Without a gradient to follow, what decays shrinks and the rest stays."""
    backbone = tiny.backbone(family)
    optimizer = adamw(0.1, backbone, weight_decay=0.5, clip_norm=None)
    before = [np.array(v) for v in backbone.trainable_variables]
    zeros = [keras.ops.zeros_like(v) for v in backbone.trainable_variables]
    optimizer.apply(zeros, backbone.trainable_variables)
    for variable, old in zip(backbone.trainable_variables, before, strict=True):
        matrix = old.ndim > 1 and not variable.path.endswith("bias")
        factor = 1 - 0.1 * 0.5 if matrix else 1.0
        np.testing.assert_allclose(variable, old * factor, rtol=1e-6, err_msg=variable.path)


def test_decay_can_be_off():
    model = small()
    optimizer = adamw(0.1, model, weight_decay=0.0)
    before = model.get_weights()
    variables = model.trainable_variables
    optimizer.apply([keras.ops.zeros_like(v) for v in variables], variables)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def rates(shape, steps=10, warmup=4):
    schedule = WarmupDecay(2.0, steps=steps, warmup=warmup, shape=shape)
    return [float(schedule(step)) for step in range(steps + 2)]


def test_linear():
    np.testing.assert_allclose(rates("linear")[:5], [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(
        rates("linear")[4:], [2, 5 / 3, 4 / 3, 1, 2 / 3, 1 / 3, 0, 0], atol=1e-6
    )


def test_cosine():
    u = np.clip((np.arange(4, 12) - 4) / 6, 0, 1)
    np.testing.assert_allclose(rates("cosine")[4:], 1 + np.cos(np.pi * u), atol=1e-6)


def test_constant():
    assert rates("constant") == [0, 0.5, 1, 1.5, *[2.0] * 8]


@pytest.mark.parametrize("shape", SCHEDULES)
def test_without_warmup_it_begins_at_the_peak(shape):
    assert rates(shape, warmup=0)[0] == 2.0


@pytest.mark.parametrize("shape", SCHEDULES)
def test_only_warmup(shape):
    assert np.isfinite(rates(shape, steps=4, warmup=4)).all()


def test_a_schedule_comes_back_from_its_configuration():
    made = WarmupDecay(1e-3, steps=7, warmup=2, shape="cosine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert [float(again(i)) for i in range(8)] == [float(made(i)) for i in range(8)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peak": 0}, "`peak` must be more than 0"),
        ({"peak": float("nan")}, "`peak` must be more than 0"),
        ({"steps": 0}, "`steps` must be a whole number, at least 1"),
        ({"warmup": -1}, "`warmup` must be a whole number, at least 0"),
        ({"shape": "cosin"}, "Did you mean 'cosine'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(InputError, match=message):
        WarmupDecay(**({"peak": 1.0, "steps": 10} | options))
