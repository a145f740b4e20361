"""AdapterDrop by random blocks: what is left out, when it is drawn, and what can be dropped."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from projections import moved

import kerasft as kf
from kerasft._core import weights
from kerasft._core.errors import InputError
from kerasft.methods import Adapters, BitFit, Chain, carried, merge
from kerasft.methods._bottleneck import RandomDepth
from kerasft.optimizers import adamw
from kerasft.testing import _rig, tiny
from kerasft.training.callbacks.checkpoints import Store
from kerasft.training.fitted import compiled

BLOCKS = 3


def pipeline(method, seed=0, family="bert"):
    """A pipeline of three blocks whose adapters say something."""
    keras.utils.set_random_seed(seed)
    pipe = _rig.pipeline(family, method, num_layers=BLOCKS)
    moved(pipe.backbone)
    return pipe


def depth_of(pipe):
    """What draws how many blocks are left out."""
    return _rig.watched(pipe, 10)


def drawing(depth, n):
    """Go on until n is drawn."""
    while int(depth.now()) != n:
        depth.after([])


def silenced(pipe, count):
    """The pipeline with what the adapters of the first blocks add set to 0."""
    for site in carried(pipe.backbone):
        if site.block < count and site.role != "up":
            names = {v.path.rsplit("/", 1)[-1]: v for v in site.layer.own}
            for name in ("up", "up_bias"):
                names[name].assign(np.zeros(names[name].shape))
    return pipe


def trained_answers(pipe):
    """The answers while it trains; the tiny backbones have no dropout."""
    x = tiny.features(pipe.model)
    return np.asarray(pipe.model(x, training=True))


def answers(pipe):
    return np.asarray(pipe.model(tiny.features(pipe.model), training=False))


@pytest.mark.parametrize("placement", ["houlsby", "parallel"])
def test_a_step_of_training_is_without_the_first_adapters(placement):
    pipe = pipeline(Adapters(placement, size=3, drop_random_blocks=2))
    depth, whole, seen = depth_of(pipe), answers(pipe), {}
    for n in (2, 0, 1):
        drawing(depth, n)
        seen[n] = trained_answers(pipe)
    np.testing.assert_array_equal(answers(pipe), whole)  # at n = 1, which nobody else sees
    for n in (0, 1, 2):
        expected = answers(silenced(pipe, n))
        np.testing.assert_allclose(seen[n], expected, atol=1e-6)
        assert np.abs(seen[(n + 1) % 3] - expected).max() > 1e-3, "another number would be seen"


def test_every_number_is_as_likely_and_one_seed_is_one_sequence():
    def drawn(seed):
        keras.utils.set_random_seed(seed)
        depth, found = RandomDepth(1, 3), []
        for _ in range(300):
            found.append(int(depth.now()))
            assert int(depth.now()) == found[-1], "looked at twice, it is the same"
            depth.after([])
        return found

    found = drawn(0)
    shares = np.bincount(found, minlength=4) / len(found)
    assert shares[0] == 0 and np.abs(shares[1:] - 1 / 3).max() < 0.1
    assert drawn(0) == found and drawn(1) != found


def test_adapters_that_are_left_out_have_no_gradient():
    pipe = pipeline(Adapters(size=2, drop_random_blocks=2))
    drawing(depth_of(pipe), 1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(pipe.model(tiny.features(pipe.model), training=True) ** 2)
    own = pipe.adapted.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in own])
    moves = {int(v.path.split("blocks_")[1][0]) for v, g in zip(own, gradients) if np.any(g)}
    assert moves == {1, 2}


def test_nothing_is_drawn_without_the_option():
    pipe = pipeline(Adapters(size=2))
    assert _rig.watched(pipe, 10) is None
    np.testing.assert_array_equal(trained_answers(pipe), answers(pipe))
    assert not [v for v in pipe.model.variables if "seed_generator" in v.path]


# --- training -----------------------------------------------------------------------------------

RANDOM = Adapters("pfeiffer", size=3, drop_random_blocks=2)


def fitted(pipe, parts=1):
    return compiled(
        pipe.model, pipe.task, adamw(1e-2, pipe.model), (), _rig.watched(pipe, 10), parts
    )


def steps(model, pipe, count):
    """Weights of the adapters after so many updates, and the numbers that were drawn for them."""
    x, drawn = tiny.features(pipe.model, rows=2), []
    model.run_eagerly = True
    for _ in range(count):
        drawn.append(int(model.watch.now()))
        model.train_on_batch(x, _rig.targets(pipe.task, 2))
    return _rig.values(pipe.adapted.trainable_variables), drawn


def test_a_checkpoint_holds_what_is_drawn_next(tmp_path):
    store, pipe = Store(str(tmp_path)), pipeline(RANDOM)
    model = fitted(pipe)
    steps(model, pipe, 1)
    path = store.save(model, 1, {})
    wanted, drawn = steps(model, pipe, 4)
    other = pipeline(RANDOM, seed=1)
    again = fitted(other)
    one, another = (np.array(m.watch.generator.state) for m in (model, again))
    assert (one != another).all(), "what is not restored would draw other numbers"
    store.restore(again, path)
    found, drawn_again = steps(again, other, 4)
    assert drawn_again == drawn and len(set(drawn)) > 1
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_replicas_and_parts_of_a_step_leave_the_same_blocks_out():
    """Two replicas, with their rows in two parts each, take the steps of one.

    Where each part, or each replica, drew a number of its own, the weights would differ.
    """
    one, _ = _rig.fitted_with_sgd(None, lambda: pipeline(RANDOM), eager=True)
    two, _ = _rig.fitted_with_sgd(_rig.replicas(), lambda: pipeline(RANDOM), parts=2, eager=True)
    wanted, found = (_rig.values(model.model.trainable_variables) for model in (one, two))
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    assert int(one.watch.now()) == int(two.watch.now())
    depth = depth_of(pipeline(RANDOM))
    drawn = [int(depth.now()) for _ in range(3) if depth.after([]) is None]
    assert any(drawn[:2]), "a block is left out in one of the last two steps"


@pytest.mark.slow
def test_a_graph_draws_as_well():
    """Each step of a graph that was traced once reads the state of its own step."""
    pipe = pipeline(RANDOM)
    depth, graph = depth_of(pipe), tf.function(lambda x: pipe.model(x, training=True))
    for _ in range(8):
        wanted, found = trained_answers(pipe), graph(tiny.features(pipe.model))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        depth.after([])


# --- what is left -------------------------------------------------------------------------------


@pytest.mark.parametrize(("placement", "count"), [("houlsby", 0), ("houlsby", 2), ("parallel", 2)])
def test_blocks_without_their_adapters(placement, count):
    method = Adapters(placement, size=3, drop_random_blocks=2)
    pipe = pipeline(method)
    less = kf.without_first_blocks(pipe, count)
    whole = answers(pipe)
    np.testing.assert_allclose(answers(less), answers(silenced(pipe, count)), atol=1e-6)
    assert (np.abs(answers(less) - whole).max() > 1e-3) == (count > 0)
    assert {site.block for site in carried(less.backbone)} == set(range(count, BLOCKS))
    assert less.adapted.method_config["drop_first_blocks"] == count
    np.testing.assert_array_equal(trained_answers(less), answers(less))
    if count:
        assert len(less.model.weights) < len(pipe.model.weights)


def test_it_is_saved_and_its_adapter_is_a_file(tmp_path):
    pipe = pipeline(RANDOM)
    less = kf.without_first_blocks(pipe, 2)
    again = kf.load(less.save(tmp_path / "model"))
    np.testing.assert_array_equal(answers(again), answers(less))
    less.save_adapter(tmp_path / "a.safetensors")
    arrays, notes = weights.read(str(tmp_path / "a.safetensors"))
    assert notes["method"]["drop_first_blocks"] == 2
    own = [name for name in arrays if name.startswith("adapter/")]
    assert {name.split(".")[1] for name in own} == {"2"}
    with pytest.raises(InputError, match="another method"):
        pipe.load_adapter(tmp_path / "a.safetensors")


def test_an_adapter_file_has_no_random_state(tmp_path):
    pipe, other = pipeline(RANDOM), pipeline(RANDOM, seed=1)
    pipe.save_adapter(tmp_path / "a.safetensors")
    arrays, _ = weights.read(str(tmp_path / "a.safetensors"))
    assert not [name for name in arrays if "seed" in name]
    moved(other.backbone)
    assert np.abs(answers(other) - answers(pipe)).max() > 1e-3
    other.load_adapter(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(answers(other), answers(pipe))


def test_beside_another_method():
    chain = Chain((RANDOM, BitFit()))
    pipe = pipeline(chain)
    (depth,) = _rig.watched(pipe, 10).members
    before = np.array(depth.generator.state)
    fitted(pipe).watch.after([])
    assert (np.array(depth.generator.state) != before).any()
    with pytest.raises(InputError, match="is `adapters`. Received: method='chain'"):
        kf.without_first_blocks(pipe, 1)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_random_blocks": -1}, "`drop_random_blocks` must be a whole number, at least 0"),
        ({"drop_random_blocks": 1.5}, "`drop_random_blocks` must be a whole number"),
        ({"drop_first_blocks": 2, "drop_random_blocks": 2}, "more than `drop_first_blocks`"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        Adapters(**options)


@pytest.mark.parametrize(
    "options", [{"drop_random_blocks": 3}, {"drop_random_blocks": 2, "blocks": (0, 1)}]
)
def test_one_block_keeps_its_adapter_in_every_step(options):
    with pytest.raises(InputError, match="`drop_random_blocks` leaves no block.*3 blocks"):
        Adapters(**options).apply(tiny.backbone("bert", num_layers=BLOCKS))


def test_what_cannot_be_dropped_is_refused():
    with pytest.raises(InputError, match="AlbertBackbone runs one block many times"):
        Adapters(drop_random_blocks=1).apply(tiny.backbone("albert"))
    pipe = pipeline(Adapters(size=2, drop_first_blocks=2))
    with pytest.raises(InputError, match="`count` must be a whole number, at least 2.*count=1"):
        kf.without_first_blocks(pipe, 1)
    with pytest.raises(InputError, match="leaves no block with an adapter"):
        kf.without_first_blocks(pipe, 3)
    with pytest.raises(InputError, match="has an activation between its matrices"):
        merge(pipeline(RANDOM).backbone)
