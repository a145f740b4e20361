"""Devices by name; two replicas make the step of one, on batches that do not split evenly too."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft import InputError, train
from kerasft.optimizers import adamw
from kerasft.tasks import TextClassification
from kerasft.training import fitted as module
from kerasft.training.fitted import Fitted, compiled
from kerasft.training.strategy import STRATEGIES, dtype_for, strategy_for

ROWS, LENGTH, CLASSES, BATCH = 13, 5, 3, 4
RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(0, 4, (ROWS, LENGTH)).astype(np.int32)
Y = RANDOM.integers(0, CLASSES, ROWS).astype(np.int32)
TASK = TextClassification(labels=("a", "b", "c"), class_weights=(1.0, 5.0, 0.25))


# --- names ----------------------------------------------------------------------------------------


def test_one_device():
    for name in ("auto", "one-device"):
        strategy = strategy_for(name)
        assert strategy is tf.distribute.get_strategy()
        assert strategy.num_replicas_in_sync == 1


def test_auto_mirrors_where_there_are_gpus(monkeypatch):
    real, seen = tf.config.list_logical_devices, []

    def devices(kind):
        seen.append(kind)
        return real("CPU")[: len(seen)] if kind == "GPU" else real(kind)

    monkeypatch.setattr(tf.config, "list_logical_devices", devices)
    assert strategy_for("auto").num_replicas_in_sync == 1, "one GPU is one device"
    assert isinstance(strategy_for("auto"), tf.distribute.MirroredStrategy)


def test_mirrored_takes_every_device_and_is_made_once():
    strategy = strategy_for("mirrored")
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU")) == 2
    assert strategy_for("mirrored") is strategy


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tpu", "No TPU was found. Received: strategy='tpu'"),
        ("multi-worker", "not part of this release. Received: strategy='multi-worker'. Use auto"),
        ("mirored", "must be one of: .*Did you mean 'mirrored'"),
        ("", "must be one of: auto, one-device, mirrored, tpu, multi-worker"),
        (None, "Received: strategy=None"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(name, said):
    with pytest.raises(InputError, match=said) as error:
        strategy_for(name)
    assert "\n" not in str(error.value)


def test_a_recipe_takes_the_same_names(make_recipe):
    for name in STRATEGIES:
        assert make_recipe(strategy=name).strategy == name
    with pytest.raises(InputError, match="`strategy` must be one of: .*Did you mean 'mirrored'"):
        make_recipe(strategy="mirored")


def test_a_strategy_that_is_not_there_leaves_no_run(make_recipe, tmp_path):
    with pytest.raises(InputError, match="No TPU"):
        train(make_recipe(strategy="tpu"), out=tmp_path / "run", verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_precision_by_the_device(monkeypatch):
    for name in ("float32", "mixed_bfloat16", "mixed_float16"):
        assert dtype_for(name) == name
    assert dtype_for("auto") == "float32", "on a CPU"
    for kind, dtype in (("GPU", "mixed_float16"), ("TPU", "mixed_bfloat16")):
        listed = lambda wanted, kind=kind: ["one"] if wanted == kind else []  # noqa: E731
        monkeypatch.setattr(tf.config, "list_logical_devices", listed)
        assert dtype_for("auto") == dtype
        assert dtype_for("float32") == "float32"


# --- two replicas and one -------------------------------------------------------------------------


def small():
    """Embedding, mean, logits: all that the loss and the gradient need of a model."""
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    vector = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(6, 2)(ids))
    model = keras.Model({"token_ids": ids}, keras.layers.Dense(CLASSES)(vector))
    for place, variable in enumerate(model.weights):
        values = np.random.default_rng(place).normal(0, 1, variable.shape)
        variable.assign(values.astype(np.float32))
    return model


def steps(strategy, optimizer, rows=ROWS):
    """Weights, and losses of training and evaluation, after an epoch of batches of 4."""
    with strategy_for(strategy).scope():
        model = small()
        fitted = compiled(model, TASK, optimizer(model))
    made = tf.data.Dataset.from_tensor_slices(({"token_ids": IDS[:rows]}, Y[:rows])).batch(BATCH)
    history = fitted.fit(made, validation_data=made, verbose=0, shuffle=False).history
    weights = [np.array(v) for v in model.weights]
    return weights, [history[name][0] for name in ("loss", "val_loss", "accuracy")]


OPTIMIZERS = {
    "sgd": lambda model: keras.optimizers.SGD(0.5),
    "sgd, clipped": lambda model: keras.optimizers.SGD(0.5, global_clipnorm=0.1),
    "adamw, clipped": lambda model: adamw(0.1, model, clip_norm=0.1),
}


def check_replicas(name, rows=ROWS):
    """Batches of 4, 4, 4 and 1: in the last, one replica has a row and the other has none."""
    (one, losses), (two, others) = (
        steps(strategy, OPTIMIZERS[name], rows) for strategy in ("one-device", "mirrored")
    )
    for a, b, start in zip(one, two, small().weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert np.abs(a - np.array(start)).max() > 1e-2, "the weights moved"
    np.testing.assert_allclose(losses, others, rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_replicas_make_the_steps_of_one(name):
    check_replicas(name)


def local_mean(self, total, count):
    return total / tf.maximum(count, 1e-12)


def each_clips_its_own(optimizer):
    """As Keras does it."""


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "optimizer"),
    [
        (Fitted, "_mean", local_mean, "sgd"),
        (module, "leave_replicas", each_clips_its_own, "sgd"),
        (module, "_over_replicas", lambda values: values, "sgd"),
    ],
    ids=["no division by the replicas", "summed twice", "never summed"],
)
def test_wrong_sums_are_caught(monkeypatch, owner, name, wrong, optimizer):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        check_replicas(optimizer, rows=5)


@pytest.fixture
def in_keras_order(monkeypatch):
    """Leave it to Keras to sum the gradients, after it has clipped them and looked for infinity."""
    over = module._over_replicas
    only_counts = lambda values: values if isinstance(values, list) else over(values)  # noqa: E731
    monkeypatch.setattr(module, "leave_replicas", each_clips_its_own)
    monkeypatch.setattr(module, "_over_replicas", only_counts)


def test_trap_keras_clips_before_it_sums(in_keras_order):
    check_replicas("sgd", rows=5)
    with pytest.raises(AssertionError):
        check_replicas("sgd, clipped", rows=5)


# --- loss scaling ---------------------------------------------------------------------------------


def check_skipped():
    """One update in which the gradient of the second replica alone is infinite moves nothing."""
    with strategy_for("mirrored").scope():
        model = small()
        optimizer = keras.optimizers.LossScaleOptimizer(adamw(0.1, model))
        fitted = compiled(model, TASK, optimizer)
    weights = np.array([1, 1, 1, np.inf], np.float32)
    made = tf.data.Dataset.from_tensor_slices(({"token_ids": IDS[:4]}, Y[:4], weights)).batch(4)
    fitted.fit(made, verbose=0, shuffle=False)
    for new, old in zip(model.weights, small().weights, strict=True):
        np.testing.assert_array_equal(np.array(new), np.array(old))
    assert np.array(optimizer.dynamic_scale) == 2.0**14, "halved"


def test_an_infinite_gradient_on_one_replica_skips_the_step():
    check_skipped()


def test_trap_keras_looks_for_infinity_on_one_replica(in_keras_order):
    with pytest.raises(AssertionError):
        check_skipped()


# --- a whole training -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_on_two_replicas_is_that_on_one(make_recipe, tmp_path):
    """Losses, not weights: a key's bias has no gradient but noise, which Adam magnifies."""
    rates = {"dropout": 0.0, "learning_rate": 5e-3, "warmup": 0.0}
    found = []
    for name in ("one-device", "mirrored"):
        train(make_recipe(strategy=name, training=rates), out=tmp_path / name, verbose=0)
        table = np.genfromtxt(tmp_path / name / "history.csv", delimiter=",", names=True)
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        found.append([table["loss"], table["val_loss"], metrics["accuracy"]])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
