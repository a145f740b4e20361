"""All weights at once: they move as by Keras' AdamW and as the formula says, in few nodes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.optimizers import Pace, PacedAdamW, WarmupDecay, adamw
from kerasft.optimizers import paced as module

RATE, DECAY, STEPS = WarmupDecay(1e-2, steps=40, warmup=4), 0.3, 20
# The kernel rounds 1 - beta_2 to float32, and Keras a correction that does not follow from it.
APART = 2e-5


def small(dtype=None, layers=1, **options):
    ids = keras.Input((3,), dtype="int32")
    x = keras.layers.Embedding(6, 4, name="words", dtype=dtype)(ids)
    x = keras.layers.LayerNormalization(name="norm", dtype=dtype)(x)
    for number in range(layers):
        x = keras.layers.Dense(4, name=f"dense_{number}", dtype=dtype, **options)(x)
    model = keras.Model(ids, keras.layers.GlobalAveragePooling1D(dtype=dtype)(x))
    for place, variable in enumerate(model.weights):
        values = np.random.default_rng(place).normal(0.5, 1, variable.shape)
        variable.assign(values.astype(np.float32))
    return model


def gradients(model, count=STEPS):
    random = np.random.default_rng(7)
    shapes = [v.shape for v in model.trainable_variables]
    return [[random.normal(0, 1, s).astype(np.float32) for s in shapes] for _ in range(count)]


def ours(**options):
    return PacedAdamW(RATE, {}, weight_decay=DECAY, epsilon=1e-8, **options)


def keras_own(model, **options):
    made = keras.optimizers.AdamW(RATE, weight_decay=DECAY, epsilon=1e-8, **options)
    plain = ("bias", "gamma", "beta")
    made.exclude_from_weight_decay([v for v in model.trainable_variables if v.name in plain])
    return made


def stepped(optimizer, model, given=None, **compiling):
    """The weights and the optimizer's variables after the steps."""
    optimizer.build(model.trainable_variables)
    apply = tf.function(lambda g: optimizer.apply(g, model.trainable_variables), **compiling)
    for found in given or gradients(model):
        apply([g if isinstance(g, tf.IndexedSlices) else tf.constant(g) for g in found])
    return [np.array(v) for v in model.weights], [np.array(v) for v in optimizer.variables]


def check_like_keras(make=small, given=None, compiling=None, **options):
    one, other = make(), make()
    given = given or gradients(one)
    start = [np.array(v) for v in one.weights]
    expected, theirs = stepped(keras_own(one, **options), one, given)
    found, state = stepped(ours(**options), other, given, **(compiling or {}))
    for old, new, wanted in zip(start, found, expected, strict=True):
        assert np.abs(wanted - old).min() > 1e-4, "the weights moved"
        np.testing.assert_allclose(new, wanted, rtol=1e-6, atol=APART * np.abs(wanted - old).max())
    for new, wanted in zip(state, theirs, strict=True):
        np.testing.assert_allclose(new, wanted, rtol=APART, atol=1e-7)


@pytest.mark.graph
@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 1.0}, {"loss_scale_factor": 4.0}])
def test_the_weights_and_the_moments_are_those_of_keras(options):
    check_like_keras(**options)


def test_so_they_are_outside_a_graph():
    check_like_keras(global_clipnorm=1.0)


@pytest.mark.graph
def test_so_they_are_compiled_by_xla():
    check_like_keras(compiling={"jit_compile": True}, global_clipnorm=1.0)


@pytest.mark.graph
def test_constraints_are_kept():
    check_like_keras(lambda: small(kernel_constraint=keras.constraints.MaxNorm(0.5)))


def power_of_a_step_less(variable, gradient, rate, decay, own, shared):
    earlier = shared["beta2_power"] / shared["beta2"] * 0.999999
    MOVE(variable, gradient, rate, decay, own, shared | {"beta2_power": earlier})


MOVE = module._move


@pytest.mark.graph
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_move", power_of_a_step_less),
        ("_move", lambda v, g, rate, decay, *rest: MOVE(v, g, rate, decay * 1.01, *rest)),
        ("_clipped", lambda gradients, limit: [g * 0.999 for g in gradients]),
        ("decays", lambda variable: True),
    ],
    ids=["correction", "decay", "norm", "what decays"],
)
def test_another_update_is_caught(monkeypatch, name, wrong):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(AssertionError):
        check_like_keras(global_clipnorm=1.0)


def check_formula():
    """Closer than Keras, which corrects the second moment by another number than it used."""
    model = small()
    start = [np.array(v).astype(np.float64) for v in model.trainable_variables]
    given = gradients(model)
    found, _ = stepped(ours(), model, given)
    for place, (w, variable) in enumerate(zip(start, model.trainable_variables, strict=True)):
        m, v, old = 0.0, 0.0, w
        for t, row in enumerate(given, 1):
            g, rate = row[place].astype(np.float64), float(RATE(t - 1))
            w = w - rate * DECAY * w * (w.ndim > 1)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(found[place], w, rtol=1e-6, atol=1e-6, err_msg=variable.path)
        assert np.abs(w - old).max() > 0.02


def test_the_weights_are_those_of_the_formula():
    check_formula()


def test_an_epsilon_elsewhere_is_caught(monkeypatch):
    def large(*args):
        MOVE(*args[:-1], args[-1] | {"epsilon": tf.constant(1e-4)})

    monkeypatch.setattr(module, "_move", large)
    with pytest.raises(AssertionError):
        check_formula()


# --- what does not fit goes the way of Keras ------------------------------------------------------


def sparse(model):
    """The words' gradient as one row a position, a word of it twice."""
    words = tf.IndexedSlices(tf.ones((3, 4)), tf.constant([1, 4, 1]), tf.constant([6, 4]))
    return [words, *gradients(model, 1)[0][1:]]


ALONE = {
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.1},
    "amsgrad": {"amsgrad": True},
    "average": {"use_ema": True, "ema_overwrite_frequency": 3},
    "accumulation": {"gradient_accumulation_steps": 2},
    "sparse": {"global_clipnorm": 1.0},
    "bfloat16": {"global_clipnorm": 1.0},
}


@pytest.mark.parametrize("case", ALONE)
def test_what_does_not_fit_moves_as_by_keras_to_the_bit(case, monkeypatch):
    monkeypatch.setattr(module, "_move", None)  # is not called
    options, dtype = ALONE[case], "bfloat16" if case == "bfloat16" else None
    one, other = small(dtype), small(dtype)
    given = gradients(one, 4)
    if case == "sparse":
        given = [sparse(one)] * 2
    expected, theirs = stepped(keras_own(one, **options), one, given)
    found, state = stepped(ours(**options), other, given)
    for new, wanted in zip([*found, *state], [*expected, *theirs], strict=True):
        np.testing.assert_array_equal(new, wanted)
    for new, old in zip(found, small(dtype).weights, strict=True):
        assert (new != np.array(old)).any() or (case, old.shape) == ("bfloat16", (4,))


def test_a_weight_with_a_pace_of_its_own_keeps_it_there():
    """Half of the rate is half of the way, decay included, by Keras' update as by the kernel."""
    moved = []
    for options in ({}, {"clipvalue": 1e9}):
        model, path = small(), "dense_0/kernel"
        kernel = next(v for v in model.weights if v.path == path)
        made = PacedAdamW(0.1, {path: Pace(0.5)}, weight_decay=DECAY, epsilon=1e-8, **options)
        start = np.array(kernel)
        stepped(made, model, gradients(model, 1))
        moved.append(np.array(kernel) - start)
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-4)
    signs = np.sign(gradients(model, 1)[0][3])
    np.testing.assert_allclose(moved[0], -0.05 * (signs + DECAY * start), rtol=1e-4, atol=1e-6)


# --- gradients that are none ----------------------------------------------------------------------


def test_a_weight_without_a_gradient_stays_and_the_others_move():
    model, other = small(), small()
    given = gradients(model)
    without = [[None, *row[1:]] for row in given]
    start = np.array(model.weights[0])
    optimizer = ours()
    optimizer.build(model.trainable_variables)
    expected, _ = stepped(ours(), other, given)
    for row in without:
        with pytest.warns(UserWarning, match="Gradients do not exist for variables.*words"):
            optimizer.apply([g if g is None else tf.constant(g) for g in row], model.weights)
    np.testing.assert_array_equal(np.array(model.weights[0]), start)
    for new, wanted in zip(model.weights[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(np.array(new), wanted)
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.apply([None] * len(model.weights), model.weights)


# --- state ----------------------------------------------------------------------------------------


def test_the_state_is_that_of_keras_and_goes_on_from_it():
    """A checkpoint of Keras' own AdamW, as earlier versions used it, is read and gone on with."""
    model, other = small(), small()
    given = gradients(model)
    begun = keras_own(model, global_clipnorm=1.0)
    stepped(begun, model, given[:8])
    optimizer = ours(global_clipnorm=1.0)
    optimizer.build(other.trainable_variables)
    kinds = [[v.path.partition("/")[2] for v in o.variables] for o in (begun, optimizer)]
    assert kinds[0] == kinds[1]
    for new, old in zip([*other.weights, *optimizer.variables], [*model.weights, *begun.variables]):
        new.assign(old)
    expected, _ = stepped(begun, model, given[8:])
    found, _ = stepped(optimizer, other, given[8:])
    for new, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(new, wanted, rtol=2e-6, atol=2e-6)


# --- in `fit` -------------------------------------------------------------------------------------

IDS, Y = np.array([[0, 1, 2], [3, 4, 5]], np.int32), np.ones((2, 4), np.float32)


def fitted(optimizer, dtype):
    model = small(dtype)
    # As `kerasft.train` does: the words' gradient is dense.
    model.get_layer("words").trainable = False
    model.compile(optimizer(model), loss="mse")
    history = model.fit(IDS, Y, epochs=4, batch_size=2, verbose=0, shuffle=False).history
    return model, history["loss"]


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.graph)]
)
def test_a_model_of_keras_is_fitted(dtype):
    kept = {"weight_decay": DECAY}
    model, losses = fitted(lambda model: adamw(RATE, model, **kept), dtype)
    other, expected = fitted(lambda model: keras_own(model, global_clipnorm=1.0), dtype)
    np.testing.assert_allclose(losses, expected, rtol=1e-2 if "16" in dtype else 1e-5)
    assert losses[-1] < 0.98 * losses[0]
    for new, wanted, old in zip(model.weights, other.weights, small(dtype).weights, strict=True):
        near = 1e-3 if "16" in dtype else 1e-5
        np.testing.assert_allclose(np.array(new), np.array(wanted), atol=near, err_msg=new.path)
        assert (np.array(new) != np.array(old)).any() == (new.path != "words/embeddings")


# --- size of the graph ----------------------------------------------------------------------------


def nodes_of_a_layer():
    """By how many nodes the graph of an update grows with a further layer: a kernel, a bias."""
    sizes = []
    for layers in (1, 4):
        model = small(layers=layers)
        optimizer = ours(global_clipnorm=1.0)
        optimizer.build(model.trainable_variables)
        apply = tf.function(lambda g, o=optimizer, m=model: o.apply(g, m.trainable_variables))
        made = apply.get_concrete_function([tf.constant(g) for g in gradients(model, 1)[0]])
        sizes.append(len(made.graph.get_operations()))
    return (sizes[1] - sizes[0]) / 3


@pytest.mark.graph
def test_an_update_is_few_nodes():
    assert nodes_of_a_layer() <= 20


@pytest.mark.graph
def test_the_update_of_keras_is_many(monkeypatch):
    monkeypatch.setattr(PacedAdamW, "update_all", lambda *_: False)
    assert nodes_of_a_layer() > 40
