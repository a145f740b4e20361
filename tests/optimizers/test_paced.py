"""Rates of their own: no other numbers where they are 1, AdamW's formula elsewhere, no state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.backbones._surgery import leave_replicas
from kerasft.optimizers import Pace, PacedAdamW, WarmupDecay, adamw
from kerasft.optimizers import paced as module
from kerasft.testing import _rig
from kerasft.training.fitted import _over_replicas

STEPS = 3  # of an epoch
OPTIONS = {"weight_decay": 0.3, "epsilon": 1e-8, "global_clipnorm": 1.0}


def small():
    inputs = keras.Input((4,))
    x = keras.layers.LayerNormalization(name="norm")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="dense")(x))
    for place, variable in enumerate(model.weights):
        values = np.random.default_rng(place).normal(0.5, 1, variable.shape)
        variable.assign(values.astype(np.float32))
    return model


def gradients(model, count):
    random = np.random.default_rng(7)
    shapes = [v.shape for v in model.trainable_variables]
    return [[random.normal(0, 1, s).astype(np.float32) for s in shapes] for _ in range(count)]


def stepped(optimizer, model, count=2 * STEPS, start=0):
    """Values of the weights before each of the steps and after the last, by path."""
    step = tf.function(lambda found: optimizer.apply(found, model.trainable_variables))
    optimizer.build(model.trainable_variables)
    seen = [{v.path: np.array(v) for v in model.trainable_variables}]
    for found in gradients(model, count)[start:]:
        step([tf.constant(g) for g in found])
        seen.append({v.path: np.array(v) for v in model.trainable_variables})
    return seen


def reference(w, given, rates, decay):
    """AdamW in NumPy with a rate for each step; moments follow at a rate of 0 too."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (g, rate) in enumerate(zip(given, rates, strict=True), 1):
        w = w - rate * decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


SCHEDULE = WarmupDecay(0.1, steps=10, warmup=2)


def check_even(paces, only=None):
    plain, paced = small(), small()
    expected = stepped(adamw(SCHEDULE, plain, weight_decay=0.3), plain)[-1]
    optimizer = PacedAdamW(SCHEDULE, paces, STEPS, **OPTIONS)
    found = stepped(optimizer, paced)[-1]
    for path in only or expected:
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)
    return expected, found


def test_a_pace_of_1_is_none():
    check_even({"dense/kernel": Pace(), "norm/gamma": Pace(1.0, 0)})


def test_the_others_move_as_if_one_had_no_pace():
    """The gradients' norm is clipped over all of them, so a pace may not change the gradient."""
    others = ["norm/gamma", "norm/beta", "dense/bias"]
    expected, found = check_even({"dense/kernel": Pace(0.5)}, others)
    assert np.abs(found["dense/kernel"] - expected["dense/kernel"]).min() > 0
    with pytest.raises(AssertionError):
        check_even({"dense/kernel": Pace(0.5)})


def check_formula(path, pace):
    model = small()
    index = [v.path for v in model.trainable_variables].index(path)
    given = [g[index].astype(np.float64) for g in gradients(model, 6)]
    options = {"weight_decay": 0.3, "clip_norm": None}
    optimizer = adamw(SCHEDULE, model, paces={path: pace}, steps_per_epoch=STEPS, **options)
    seen = stepped(optimizer, model)
    begun = [float(step >= pace.from_epoch * STEPS) for step in range(6)]
    rates = [float(SCHEDULE(step)) * pace.multiplier * begun[step] for step in range(6)]
    decay = 0.3 if path.endswith("kernel") else 0.0
    expected = reference(seen[0][path].astype(np.float64), given, rates, decay)
    np.testing.assert_allclose(seen[-1][path], expected, rtol=2e-5, atol=1e-5)
    return [row[path] for row in seen]


@pytest.mark.parametrize("path", ["dense/kernel", "dense/bias", "norm/gamma"])
@pytest.mark.parametrize("pace", [Pace(0.25), Pace(8.0), Pace(0.5, 1), Pace(1.0, 1)])
def test_rate_and_decay_are_scaled(path, pace):
    seen = check_formula(path, pace)
    for step in range(6):
        moved = np.abs(seen[step + 1] - seen[step]).max()
        still = step < pace.from_epoch * STEPS or step == 0  # the first rate of the warm-up is 0
        assert (moved == 0.0) == still, (step, moved)


def test_a_decay_at_the_rate_of_all_is_caught(monkeypatch):
    move = module._move

    def evenly(variable, gradient, rate, decay, own, shared):
        move(variable, gradient, rate, decay / own.pace.multiplier, own, shared)

    monkeypatch.setattr(module, "_move", evenly)
    with pytest.raises(AssertionError):
        check_formula("dense/kernel", Pace(0.25))


def check_no_jump(epochs=40):
    """Under one and the same gradient Adam moves by the rate, also when it has just been let go."""
    model = small()
    path = "dense/kernel"
    optimizer = adamw(
        0.01, model, weight_decay=0.0, paces={path: Pace(1.0, epochs)}, steps_per_epoch=STEPS
    )
    optimizer.build(model.trainable_variables)
    same = [tf.ones(v.shape) for v in model.trainable_variables]
    step = tf.function(lambda: optimizer.apply(same, model.trainable_variables))
    moved = []
    for _ in range(epochs * STEPS + 15):
        before = np.array(model.get_layer("dense").kernel)
        step()
        moved.append(np.abs(np.array(model.get_layer("dense").kernel) - before).max())
    assert max(moved[: epochs * STEPS]) == 0.0
    np.testing.assert_allclose(moved[epochs * STEPS :], 0.01, rtol=1e-3)


def test_a_weight_that_is_let_go_does_not_jump():
    check_no_jump()


def test_moments_that_stood_still_too_would_make_it_jump(monkeypatch):
    move = module._move

    def lazy(variable, gradient, rate, *rest):
        move(variable, gradient * tf.cast(rate > 0, tf.float32), rate, *rest)

    monkeypatch.setattr(module, "_move", lazy)
    with pytest.raises(AssertionError, match="Mismatched elements: 15 / 15"):
        check_no_jump()


PACES = {"dense/kernel": Pace(0.5, 1), "norm/gamma": Pace(2.0)}


def test_its_configuration_makes_it_again():
    """Decay, too, is as it was: Keras' own AdamW forgets what was left out of it."""
    made = adamw(SCHEDULE, small(), weight_decay=0.3, paces=PACES, steps_per_epoch=STEPS)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert isinstance(again, PacedAdamW) and dict(again.paces) == PACES
    one, other = small(), small()
    expected, found = stepped(made, one)[-1], stepped(again, other)[-1]
    for path in expected:
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


def test_it_goes_on_from_its_variables_to_the_bit():
    def fresh():
        model = small()
        return model, adamw(SCHEDULE, model, paces=PACES, steps_per_epoch=STEPS)

    model, optimizer = fresh()
    whole = stepped(optimizer, model)
    half, begun = fresh()
    stepped(begun, half, count=2)  # in the middle of the first epoch
    other, resumed = fresh()
    resumed.build(other.trainable_variables)
    plain = keras.optimizers.AdamW()
    plain.build(small().trainable_variables)
    # But for the learning rate, a variable there and a schedule here: no state of its own.
    assert len(resumed.variables) == len(plain.variables) - 1
    for new, old in zip(other.weights, half.weights, strict=True):
        new.assign(old)
    for new, old in zip(resumed.variables, begun.variables, strict=True):
        new.assign(old)
    for path, value in stepped(resumed, other, start=2)[-1].items():
        np.testing.assert_array_equal(value, whole[-1][path], err_msg=path)


def test_tensorflows_checkpoint_takes_it(tmp_path):
    model = small()
    optimizer = adamw(SCHEDULE, model, paces=PACES, steps_per_epoch=STEPS)
    stepped(optimizer, model, 2)
    path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "x"))
    before = [np.array(v) for v in optimizer.variables]
    stepped(optimizer, model, 2)
    tf.train.Checkpoint(optimizer=optimizer).restore(path).assert_existing_objects_matched()
    for variable, value in zip(optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


@pytest.mark.slow  # alone in its process: beside other strategies its sums met in another order
@pytest.mark.parametrize("scaled", [False, True])
def test_two_replicas_move_as_one(scaled):
    """The two replicas have half of the gradient each, which is summed before, as in training.

    (An optimizer that sums variable by variable itself meets another order of them on the other
    replica now and then.)
    """
    devices = [d.name for d in tf.config.list_logical_devices("CPU")]
    assert len(devices) == 2

    def run(strategy, parts):
        with strategy.scope():
            model = small()
            optimizer = adamw(0.1, model, clip_norm=None, paces=PACES, steps_per_epoch=STEPS)
            if scaled:
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0)
            optimizer.build(model.trainable_variables)
            leave_replicas(optimizer)

        @tf.function
        def step(found):
            factor = (4.0 if scaled else 1.0) / parts

            def on_replica():
                own = _over_replicas([g * factor for g in found])
                optimizer.apply(own, model.trainable_variables)

            strategy.run(on_replica)

        seen = []
        for found in gradients(model, 5):
            step([tf.constant(g) for g in found])
            seen.append({v.path: np.array(v) for v in model.trainable_variables})
        return seen

    one = run(tf.distribute.get_strategy(), 1)
    two = run(_rig.replicas(), 2)
    start = np.array(small().get_layer("dense").kernel)
    for step, (row, other) in enumerate(zip(one, two, strict=True)):
        for path in row:
            np.testing.assert_allclose(other[path], row[path], rtol=1e-6, err_msg=path)
        assert (row["dense/kernel"] == start).all() == (step < STEPS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pace(0), "`multiplier` must be more than 0"),
        (lambda: Pace(1.0, -1), "`from_epoch` must be a whole number"),
        (lambda: PacedAdamW(0.1, {"a": Pace(1.0, 1)}), "needs `steps_per_epoch`"),
        (lambda: PacedAdamW(0.1, {"a": Pace(1.0, 1)}, 0), "`steps_per_epoch` must be a whole"),
        (
            lambda: PacedAdamW(0.1, {"dense/kernl": Pace(2.0)}).build(small().weights),
            "Did you mean 'dense/kernel'",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_two_paces_at_once():
    assert Pace(0.5, 2) * Pace(3.0, 1) == Pace(1.5, 2)
    assert Pace() * Pace() == Pace()
