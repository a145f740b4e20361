"""The loss that is trained on: exact means over rows and exact gradients, by NumPy and a tape."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.optimizers import adamw
from kerasft.tasks import TextClassification
from kerasft.training import fitted as module
from kerasft.training.fitted import Fitted, compiled

ROWS, LENGTH, CLASSES, BATCH = 7, 5, 3, 4
RANDOM = np.random.default_rng(0)
# Few ids, so that every row holds one more than once, as real texts hold [PAD], [CLS] and commas.
IDS = RANDOM.integers(0, 4, (ROWS, LENGTH)).astype(np.int32)
Y = RANDOM.integers(0, CLASSES, ROWS).astype(np.int32)
WEIGHTS = (1.0, 5.0, 0.25)
TASK = TextClassification(labels=("a", "b", "c"), class_weights=WEIGHTS)


def small(unused=False):
    """Embedding, mean, logits: all that the loss and the gradient need of a model."""
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    vector = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(6, 2, name="words")(ids))
    outputs = keras.layers.Dense(CLASSES, name="logits")(vector)
    model = keras.Model({"token_ids": ids}, outputs)
    if unused:
        model.pooler = keras.layers.Dense(2, name="pooler")
        model.pooler.build((None, 2))
    for place, variable in enumerate(model.weights):
        values = np.random.default_rng(place).normal(0, 1, variable.shape)
        variable.assign(values.astype(np.float32))
    return model


def ready(optimizer=None, task=TASK, objectives=(), **options):
    model = small(**options)
    return compiled(model, task, optimizer or keras.optimizers.SGD(0.0), objectives)


def data(*more):
    return tf.data.Dataset.from_tensor_slices(({"token_ids": IDS}, Y, *more)).batch(BATCH)


def row_losses(model):
    """Weighted cross-entropy of every row, in double precision."""
    words, kernel, bias = (np.array(v).astype(np.float64) for v in model.weights)
    logits = words[IDS].mean(1) @ kernel + bias
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -np.array(WEIGHTS)[Y] * log_p[np.arange(ROWS), Y]


# --- the mean over rows ---------------------------------------------------------------------------


def check_mean():
    """Of an epoch with a short last batch, in training and in evaluation."""
    fitted = ready()
    rows = row_losses(fitted.model)
    halves = [rows[:BATCH].mean(), rows[BATCH:].mean()]
    assert abs(np.mean(halves) - rows.mean()) > 0.01, "a mean of batch means would be another"
    trained = fitted.fit(data(), verbose=0, shuffle=False).history["loss"]
    evaluated = fitted.evaluate(data(), verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose([*trained, evaluated], rows.mean(), rtol=1e-5)


def test_the_loss_is_the_mean_over_rows():
    check_mean()


def test_a_mean_of_batch_means_is_caught(monkeypatch):
    def unweighted(self, total, count, x, y, y_pred, sample_weight):
        self.metrics[0].update_state(total / count)
        return self.compute_metrics(x, y, y_pred)

    monkeypatch.setattr(Fitted, "_shown", unweighted)
    with pytest.raises(AssertionError):
        check_mean()


def test_the_accuracy_is_that_of_all_rows():
    fitted = ready()
    predicted = np.argmax(np.asarray(fitted.model({"token_ids": IDS})), axis=1)
    accuracy = fitted.evaluate(data(), verbose=0, return_dict=True)["accuracy"]
    assert accuracy == pytest.approx(np.mean(predicted == Y))
    assert 0 < accuracy < 1


def test_rows_may_have_weights():
    weights = np.array([0.0, 1.0, 2.0, 0.5, 3.0, 0.0, 1.0], np.float32)
    fitted = ready()
    rows = row_losses(fitted.model)
    expected = (rows * weights).sum() / weights.sum()
    trained = fitted.fit(data(weights), verbose=0, shuffle=False).history["loss"]
    evaluated = fitted.evaluate(data(weights), verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose([*trained, evaluated], expected, rtol=1e-5)
    assert abs(expected - rows.mean()) > 0.01


def test_compute_loss_is_the_same_mean():
    fitted = ready()
    y_pred = fitted.model({"token_ids": IDS})
    loss = fitted.compute_loss(y=Y, y_pred=y_pred)
    assert float(loss) == pytest.approx(row_losses(fitted.model).mean(), rel=1e-5)


def test_a_score_has_the_mean_squared_error():
    task = TextClassification(problem="regression")
    fitted = ready(task=dataclasses.replace(task))
    y, y_pred = np.array([[1.0], [-2.0]], np.float32), np.array([[0.0], [1.0]], np.float32)
    assert float(fitted.compute_loss(y=y, y_pred=y_pred)) == pytest.approx((1 + 9) / 2)


# --- the gradient ---------------------------------------------------------------------------------


def gradients(model):
    """What a tape gives for the mean of the rows, dense."""
    with tf.GradientTape() as tape:
        logits = model({"token_ids": IDS})
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits)
        loss = tf.reduce_sum(each * tf.gather(WEIGHTS, Y)) / ROWS
    found = tape.gradient(loss, [v.value for v in model.trainable_variables])
    return [tf.convert_to_tensor(g).numpy() for g in found]


def step(optimizer, **options):
    """Weights before and after one update with all rows, and the gradients there."""
    fitted = ready(optimizer, **options)
    variables = fitted.model.trainable_variables
    before, found = [np.array(v) for v in variables], gradients(fitted.model)
    fitted.train_on_batch({"token_ids": IDS}, Y)
    return before, [np.array(v) for v in variables], found


def check_gradient():
    before, after, found = step(keras.optimizers.SGD(1.0))
    for old, new, gradient in zip(before, after, found, strict=True):
        np.testing.assert_allclose(old - new, gradient, atol=1e-6)
        assert np.abs(gradient).max() > 0.01


def test_the_gradient_is_that_of_the_mean():
    check_gradient()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_another_mean_is_caught(monkeypatch, factor):
    mean = Fitted._mean
    monkeypatch.setattr(Fitted, "_mean", lambda *args: factor * mean(*args))
    with pytest.raises(AssertionError):
        check_gradient()


def check_clipped_norm():
    """A step of length 1e-2, whatever the gradient's length."""
    before, after, _ = step(keras.optimizers.SGD(1.0, global_clipnorm=0.01))
    moved = np.concatenate([(a - b).ravel() for a, b in zip(after, before, strict=True)])
    np.testing.assert_allclose(np.linalg.norm(moved), 0.01, rtol=1e-3)


def check_adam():
    """Adam's first step is lr * g / (|g| + eps), for a token that stands in many places too."""
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    optimizer = adamw(0.1, keras.Model(ids, ids), weight_decay=0.0, clip_norm=None)
    before, after, found = step(optimizer)
    for old, new, gradient in zip(before, after, found, strict=True):
        known = np.abs(gradient) > 1e-4
        np.testing.assert_allclose((old - new)[known], 0.1 * np.sign(gradient[known]), rtol=1e-3)
        np.testing.assert_array_equal((old - new)[gradient == 0], 0)


CHECKS = [check_clipped_norm, check_adam]


@pytest.mark.parametrize("check", CHECKS)
def test_a_token_that_comes_twice_is_one_row(check):
    check()


@pytest.mark.parametrize("check", CHECKS)
def test_trap_keras_squares_before_it_adds(monkeypatch, check):
    """Given one row a position, Keras clips by another norm, and Adam goes too far."""
    monkeypatch.setattr(module, "_dense", lambda gradient, variable: gradient)
    with pytest.raises(AssertionError):
        check()


def test_what_the_head_does_not_read_stays():
    fitted = ready(keras.optimizers.SGD(1.0), unused=True)
    (pooler,) = [v for v in fitted.trainable_weights if v.path == "pooler/kernel"]
    before = np.array(pooler)
    fitted.train_on_batch({"token_ids": IDS}, Y)
    np.testing.assert_array_equal(np.array(pooler), before)


# --- further training signals ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Index:
    """A signal that is the place of a row in its batch."""

    weight: float = 0.5

    def __call__(self, forward, x, y, y_pred):
        return tf.range(tf.shape(y)[0])


def test_a_further_signal_counts_in_training_only():
    fitted = ready(objectives=(Index(),))
    rows = row_losses(fitted.model).mean()
    trained = fitted.fit(data(), verbose=0, shuffle=False).history["loss"][0]
    evaluated = fitted.evaluate(data(), verbose=0, return_dict=True)["loss"]
    signal = 0.5 * (0 + 1 + 2 + 3 + 0 + 1 + 2) / ROWS
    assert trained == pytest.approx(rows + signal, rel=1e-5)
    assert evaluated == pytest.approx(rows, rel=1e-5)


# --- what a checkpoint needs ----------------------------------------------------------------------


def test_every_variable_is_there_before_the_first_step():
    fitted = ready(adamw(1e-3, small()))
    names = [v.path for v in fitted.optimizer.variables]
    assert sum("momentum" in name for name in names) == 3
    assert sum("velocity" in name for name in names) == 3
    assert len(fitted.running) == 4, "total and count of the loss and of the accuracy"
    before = len(fitted.optimizer.variables)
    fitted.fit(data(), verbose=0, shuffle=False)
    assert len(fitted.optimizer.variables) == before


# --- parts of a batch -----------------------------------------------------------------------------


def check_parts(parts, rows=ROWS, weighted=True):
    """A step in parts is the step of the whole batch: weights, loss and metrics."""
    more = (np.linspace(0.5, 2, ROWS).astype(np.float32)[:rows],) if weighted else ()
    batch = ({"token_ids": IDS[:rows]}, Y[:rows], *more)
    whole, split = (compiled(small(), TASK, keras.optimizers.SGD(0.5), parts=n) for n in (1, parts))
    found = [model.train_on_batch(*batch, return_dict=True) for model in (whole, split)]
    np.testing.assert_allclose([*found[1].values()], [*found[0].values()], rtol=1e-6)
    for one, other in zip(whole.weights, split.weights, strict=True):
        np.testing.assert_allclose(np.asarray(other), np.asarray(one), atol=1e-6)
    assert np.abs(np.asarray(whole.weights[0]) - np.asarray(small().weights[0])).max() > 1e-3


@pytest.mark.parametrize("parts", [2, 3, ROWS, ROWS + 2])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_step_in_parts_is_the_step_of_the_batch(parts, weighted):
    check_parts(parts, weighted=weighted)


def test_a_mean_of_each_part_is_caught(monkeypatch):
    """Seven rows in three parts: the mean of the parts' means is another number."""
    plain = Fitted._gradients

    def own_mean(self, x, y, sample_weight, count, first):
        return plain(self, x, y, sample_weight, 3 * module._weight_of(x, sample_weight), first)

    monkeypatch.setattr(Fitted, "_gradients", own_mean)
    with pytest.raises(AssertionError):
        check_parts(3, weighted=False)
