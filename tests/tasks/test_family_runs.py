"""Every family, from texts to a trained, stored and exported classifier, on random weights."""

import numpy as np
import pytest
import tensorflow as tf

import kerasft
from kerasft.backbones import FAMILIES
from kerasft.methods import adapt
from kerasft.pipeline import Pipeline
from kerasft.tasks import TextClassification
from kerasft.testing import tiny
from kerasft.training.fitted import compiled

# What an encoder-decoder learns is in test_encoder_decoders.py.
NAMES = tuple(family.name for family in FAMILIES if family.kind != "encoder-decoder")
KINDS = ("full", "freeze", "lora")
TASK = TextClassification(labels=("bad", "good", "so so"), max_length=16)
TEXTS = ["the film was good", "a bad story", "free prize, call now!", *tiny.ODD_TEXTS[1:7]]


def method(name, kind):
    """A method of each kind, of a form that the family carries."""
    top = {} if name == "albert" else {"train_top_blocks": 1}
    targets = ["up", "down"] if name == "f_net" else ["query", "value"]
    options = {"freeze": top, "lora": {"rank": 2, "targets": targets}}
    return {"name": kind} | options.get(kind, {})


def pipeline(name, kind="full"):
    model = TASK.build(adapt(tiny.backbone(name), method(name, kind)))
    pipe = Pipeline(model, tiny.tokenizer(name), TASK)
    random = np.random.default_rng(1)
    for variable in pipe.head_variables:
        variable.assign(0.3 * random.standard_normal(variable.shape).astype(np.float32))
    return pipe


def features_of(pipe):
    """The texts as inputs, outside a graph, which takes longer to make than to run."""
    encoded = TASK.encode(pipe.tokenizer, {"text": tf.constant(TEXTS)})
    width = int(tf.shape(encoded["token_ids"])[1])
    spare = [(0, 0), (0, (pipe.fixed_length or width) - width)]
    return {name: tf.pad(encoded[name], spare) for name in pipe.inputs}


def logits_of(pipe):
    return np.asarray(pipe.model(features_of(pipe), training=False))


def stepped(pipe):
    """One small step of SGD on the texts; the losses before and after it."""
    import keras

    x, y = features_of(pipe), tf.constant(np.arange(len(TEXTS)) % 3)
    fitted = compiled(pipe.model, TASK, keras.optimizers.SGD(1e-3))
    fitted.run_eagerly = True
    losses = [float(TASK.loss()(y, pipe.model(x, training=False)))]
    fitted.train_on_batch(x, y)
    return [*losses, float(TASK.loss()(y, pipe.model(x, training=False)))]


def learn_and_come_back(folder, name, kind):
    """One step lowers the loss and leaves what is frozen; what is stored answers the same."""
    pipe = pipeline(name, kind)
    frozen = [(v, np.array(v)) for v in pipe.model.weights if not v.trainable]
    assert bool(frozen) == (kind != "full")
    logits = logits_of(pipe)
    assert logits.shape == (len(TEXTS), 3) and np.ptp(logits, axis=0).min() > 1e-3
    before, after = stepped(pipe)
    assert after < before
    for variable, value in frozen:
        np.testing.assert_array_equal(np.array(variable), value, err_msg=variable.path)
    moved = logits_of(pipe)
    assert np.abs(moved - logits).max() > 1e-6
    again = kerasft.load(pipe.save(folder / "model"))
    np.testing.assert_array_equal(logits_of(again), moved)
    paths = [v.path for v in pipe.model.trainable_variables]
    assert [v.path for v in again.model.trainable_variables] == paths
    return pipe, again


@pytest.mark.contract("families, learned and stored", of=len(NAMES))
@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_learns_and_comes_back(tmp_path, name):
    """With one of the methods each; all of them with -m slow."""
    learn_and_come_back(tmp_path, name, KINDS[NAMES.index(name) % len(KINDS)])


@pytest.mark.slow
@pytest.mark.contract("families x methods, learned and stored", of=len(NAMES) * len(KINDS))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_learns_and_comes_back(tmp_path, name, kind):
    """And `predict`, the graph, gives what the layers give by themselves."""
    pipe, again = learn_and_come_back(tmp_path, name, kind)
    answers = pipe.predict(TEXTS)
    assert again.predict(TEXTS) == answers
    np.testing.assert_allclose([a["logits"] for a in answers], logits_of(pipe), atol=1e-5)


# BERT, GPT-2 and FNet are exported by the tests of that room, without -m slow.
@pytest.mark.slow
@pytest.mark.contract("families, exported", of=len(NAMES))
@pytest.mark.parametrize("name", NAMES)
def test_every_export_answers_as_the_layers(tmp_path, name):
    """`export` compares answers itself; here they are asked once more."""
    pipe = pipeline(name, "lora")
    path = pipe.export(tmp_path / name)
    serve = tf.saved_model.load(path).signatures["serving_default"]
    got = serve(text=tf.constant(TEXTS))
    np.testing.assert_allclose(got["logits"], logits_of(pipe), atol=1e-5)
    labels = [TASK.labels[i].encode() for i in np.argmax(logits_of(pipe), axis=1)]
    assert got["label"].numpy().tolist() == labels
