"""What frozen blocks give is computed once: the same answers, the same steps, fewer of them run."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft import train
from kerasft.backbones import FAMILIES, sites
from kerasft.backbones.cut import cut, frozen_blocks
from kerasft.data import encoded as stored
from kerasft.methods import adapt
from kerasft.tasks import TextClassification, TextSimilarity, TokenClassification
from kerasft.testing import _rig, tiny
from kerasft.training import kept as module
from kerasft.training.kept import kept_of

CUT = [f.name for f in FAMILIES if f.kind != "encoder-decoder" and f.maskable]
UPPER_LORA = {"name": "lora", "blocks": [1], "rank": 2, "dropout": 0.0}


def given(backbone):
    return {n: tf.constant(v) for n, v in tiny.features(backbone).items()}


@pytest.mark.parametrize("family", CUT)
def test_two_parts_are_the_backbone(family):
    backbone = tiny.backbone(family)
    x = given(backbone)
    inputs = [x[i.name] for i in backbone.inputs]
    whole = _rig.answers(backbone, x)
    for count in range(1, len(sites(backbone).blocks) + 1):
        lower, upper = cut(backbone, count)
        parts = upper([lower(inputs), *inputs])
        parts = parts if isinstance(parts, dict) else {"output": parts}
        for name, value in whole.items():
            np.testing.assert_array_equal(np.asarray(parts[name]), value, err_msg=name)


@pytest.mark.parametrize(
    ("method", "blocks"),
    [
        ("head-only", 2),
        ({"name": "freeze", "train_top_blocks": 1}, 1),
        (UPPER_LORA, 1),
        ({"name": "bitfit", "blocks": [1]}, 1),
        ("lora", 0),
        ("full", 0),
        ("prompt-tuning", 0),
        ("layer-norm", 0),
        ("gradual-unfreezing", 0),
    ],
    ids=str,
)
def test_what_stands_still(method, blocks):
    assert frozen_blocks(adapt(tiny.backbone("bert"), method).backbone) == blocks


TASKS = {
    "texts": TextClassification(labels=("a", "b"), max_length=16, head_dropout=0.0),
    "tokens": TokenClassification(labels=("PER",), max_length=16, overlap=0, head_dropout=0.0),
    "pairs": TextSimilarity(max_length=16),
}


def ready(method, task):
    """A pipeline with the same weights each time; a fresh A of LoRA is random."""
    pipe = _rig.pipeline("bert", method, TASKS[task])
    tiny.randomize(pipe.model, seed=2, scale=0.15)
    return pipe


def learned(pipe, kept):
    """The losses of some steps, the same batches each time, and the weights after them."""
    feed = _rig.feed(pipe)
    model = pipe.model
    if kept is not None:
        model = kept.model
        names = tuple(i.name for i in model.inputs)
        feed = type(feed)(kept.rows(feed.rows), feed.plan, names, feed.length, feed.draw)
    import keras

    from kerasft.training.fitted import compiled

    fitted = compiled(model, pipe.task, keras.optimizers.SGD(0.1))
    fitted.run_eagerly = True
    losses = []
    for epoch in range(2):
        for batch in feed.batches(epoch):
            losses.append(float(fitted.train_on_batch(*batch, return_dict=True)["loss"]))
    return losses, _rig.values(pipe.model.weights)


@pytest.mark.parametrize(
    ("task", "method"),
    [("texts", "head-only"), *((task, UPPER_LORA) for task in TASKS)],  # pairs have no head
    ids=str,
)
def test_the_steps_are_those_of_the_whole_model(task, method):
    losses, after = learned(ready(method, task), None)
    pipe = ready(method, task)
    found, weights = learned(pipe, kept_of(pipe.model))
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    assert weights.keys() == after.keys()
    for path, value in after.items():
        np.testing.assert_allclose(weights[path], value, atol=1e-6, err_msg=path)


def test_states_of_another_row_are_caught(monkeypatch):
    """Mutation: the states in another order."""
    rows = module.Kept.rows

    def wrong(self, given):
        made = rows(self, given)
        made.states[:] = made.states[::-1].copy()
        return made

    monkeypatch.setattr(module.Kept, "rows", wrong)
    with pytest.raises(AssertionError):
        test_the_steps_are_those_of_the_whole_model("texts", "head-only")


def test_a_frozen_part_runs_without_dropout_and_what_learns_with_it():
    pipe = _rig.pipeline("bert", UPPER_LORA, TASKS["texts"], dropout=0.5)
    kept, rows = kept_of(pipe.model), _rig.feed(pipe).rows
    states = kept.rows(rows).states
    np.testing.assert_array_equal(kept.rows(rows).states, states)
    x = kept.rows(rows).batch(np.arange(3))
    given = {i.name: tf.constant(x[i.name]) for i in kept.model.inputs}
    still, drawn = (np.asarray(kept.model(given, training=t)) for t in (False, True))
    np.testing.assert_allclose(still, pipe.outputs({n: x[n] for n in pipe.inputs}), atol=1e-5)
    assert np.abs(drawn - still).max() > 1e-3


def test_states_may_lie_on_disk(monkeypatch):
    pipe = _rig.pipeline("bert", "head-only", TASKS["texts"])
    kept, rows = kept_of(pipe.model), _rig.feed(pipe).rows
    here = kept.rows(rows)
    monkeypatch.setattr(stored, "STATES_IN_MEMORY", 0)
    there = kept.rows(rows)
    assert isinstance(there.states, np.memmap) and not isinstance(here.states, np.memmap)
    np.testing.assert_array_equal(there.states, here.states)


def test_all_weights_are_there_and_in_their_order():
    """A checkpoint, and the best weights, are those of the whole model."""
    pipe = _rig.pipeline("bert", UPPER_LORA, TASKS["texts"])
    kept = kept_of(pipe.model)
    assert [id(v) for v in kept.model.variables] == [id(v) for v in pipe.model.variables]
    trained = [id(v) for v in pipe.model.trainable_variables]
    assert [id(v) for v in kept.model.trainable_variables] == trained


@pytest.mark.parametrize(
    ("strategy", "precision"),
    [("one-device", "float32"), ("one-device", "mixed_bfloat16"), ("mirrored", "float32")],
)
def test_a_run_says_the_same(make_recipe, strategy, precision):
    scores = []
    for reuse in (True, False):
        training = {"reuse_frozen": reuse, "dropout": 0.0, "precision": precision, "epochs": 2}
        pipe = train(
            make_recipe(method="head-only", strategy=strategy, training=training), verbose=0
        )
        scores.append(pipe.report.history[-1]["loss"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-4 if precision == "float32" else 2e-2)
