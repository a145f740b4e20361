"""Text classification: ids of every family, targets, losses against NumPy, and answers."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES, set_template, template_of
from kerasft.data import encoder
from kerasft.preprocessing import Template
from kerasft.tasks import TextClassification
from kerasft.tasks._losses import SigmoidLoss, SoftmaxLoss
from kerasft.testing import tiny

LABELS = ("bad", "good", "ugly")


def task(**options):
    return TextClassification(**({"labels": LABELS, "max_length": 16} | options))


# --- text to ids ----------------------------------------------------------------------------------

# start, separator, end, whether the second text is another segment: as Transformers packs them.
CLASSIC = (["[CLS]"], ["[SEP]"], ["[SEP]"], 1)
DOUBLE = (["<s>"], ["</s>", "</s>"], ["</s>"], 0)
PACKING = {
    "bert": CLASSIC,
    "distil_bert": CLASSIC,
    "electra": CLASSIC,
    "albert": CLASSIC,
    "deberta_v3": CLASSIC,
    "f_net": CLASSIC,
    "roberta": DOUBLE,
    "xlm_roberta": DOUBLE,
    "bart": DOUBLE,
    "t5": ([], ["</s>"], ["</s>"], 0),
    "gpt2": ([], ["<|endoftext|>"], [], 0),
    "opt": (["</s>"], ["</s>"], [], 0),
    "llama": (["<s>"], ["</s>"], [], 0),
    "llama3": (["<|begin_of_text|>"], ["<|end_of_text|>"], [], 0),
    "mistral": (["<s>"], ["</s>"], [], 0),
    "qwen": ([], ["<|endoftext|>"], [], 0),
    "qwen3": ([], ["<|im_end|>"], [], 0),
    "gemma": (["<bos>"], ["<eos>"], [], 0),
}


@pytest.mark.parametrize("family", [f.name for f in FAMILIES])
def test_packing_of_the_families(family):
    """Golden: the special tokens by name, the words by the tokenizer's own ids."""
    tokenizer = tiny.tokenizer(family)
    start, separator, end, second = PACKING[family]

    def ids(tokens):
        return [tokenizer.token_to_id(token) for token in tokens]

    first, other = ([int(i) for i in tokenizer(text)] for text in ("the film", "a prize"))
    assert first and other and first != other
    fields = {"text": tf.constant(["the film"]), "text_pair": tf.constant(["a prize"])}
    encoded = as_lists(task(max_length=64).encode(tokenizer, fields))
    assert encoded["token_ids"] == [[*ids(start), *first, *ids(end)]]
    assert not any(encoded["segment_ids"][0])
    encoded = as_lists(task(max_length=64, pair=True).encode(tokenizer, fields))
    before = [*ids(start), *first, *ids(separator)]
    assert encoded["token_ids"] == [[*before, *other, *ids(end)]]
    rest = len(encoded["token_ids"][0]) - len(before)
    assert encoded["segment_ids"] == [[0] * len(before) + [second] * rest]


def as_lists(features):
    return {name: value.numpy().tolist() for name, value in features.items()}


def test_trap_a_pair_is_not_read_as_x_and_y():
    """KerasHub's preprocessor reads (a, b) as (x, y): its segment ids are all zero, silently."""
    fields = {"text": ["the film"], "text_pair": ["bad"]}
    encoded = encoder(task(pair=True), tiny.tokenizer("bert"))(fields)
    assert encoded["segment_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]


def test_a_checkpoints_own_template_is_used():
    tokenizer = tiny.tokenizer("gpt2")
    pad = template_of(tokenizer).pad
    set_template(tokenizer, Template(end=(7,), pad=pad))
    encoded = encoder(task(), tokenizer)({"text": ["the", "the film"]})["token_ids"]
    assert encoded[1, -1] == 7


def test_long_texts_are_cut():
    tokenizer, fields = tiny.tokenizer("bert"), {"text": ["film " * 50], "text_pair": ["bad"]}
    one = encoder(task(max_length=8), tokenizer)({"text": fields["text"]})["token_ids"]
    assert one.shape == (1, 8)
    assert one[0, -1] == template_of(tokenizer).end[0]
    two = encoder(task(max_length=8, pair=True), tokenizer)(fields)
    assert two["token_ids"].shape == (1, 8)
    assert two["segment_ids"].sum() == 2, "the short text is whole"


def test_no_room_for_text():
    tight = task(max_length=8, pair=True)
    tokenizer = tiny.tokenizer("bert")
    set_template(tokenizer, Template(start=(2,) * 8, end=(3,)))
    with pytest.raises(InputError, match="`max_length` leaves no room for text. Received: 8"):
        tight.encode(tokenizer, {"text": tf.constant(["a"]), "text_pair": tf.constant(["b"])})


# --- targets --------------------------------------------------------------------------------------


def test_targets():
    single = task().targets({"label": ["good", "bad", "ugly"]})
    assert (single.tolist(), single.dtype) == ([1, 0, 2], np.int32)
    many = task(problem="multi-label").targets({"labels": [("ugly", "bad"), (), ("good",)]})
    assert (many.tolist(), many.dtype) == ([[1, 0, 1], [0, 0, 0], [0, 1, 0]], np.float32)
    score = task(problem="regression").targets({"score": [0.5, -1]})
    assert (score.tolist(), score.dtype) == ([[0.5], [-1.0]], np.float32)


def test_fields():
    assert task().fields() == {"text": "text", "label": "label"}
    pair = task(pair=True, problem="multi-label")
    assert pair.fields() == {"text": "text", "text_pair": "text", "labels": "labels"}
    assert task(problem="regression").fields() == {"text": "text", "score": "number"}


def test_labels_and_balanced_weights_come_from_the_data():
    empty = TextClassification(class_weights="balanced")
    found = empty.with_labels({"ham": 30, "spam": 10})
    assert found.labels == ("ham", "spam")
    np.testing.assert_allclose(found.class_weights, [40 / (2 * 30), 40 / (2 * 10)])
    given = task(class_weights="balanced").with_labels({"good": 3, "bad": 1})
    assert given.labels == LABELS, "labels that are given keep their order"
    np.testing.assert_allclose(given.class_weights, [5 / 3, 5 / 9, 5 / 3])
    assert TextClassification(labels=[1, 2]).labels == ("1", "2")
    score = TextClassification(problem="regression")
    assert score.with_labels({"a": 1}) == score


# --- losses, against NumPy ------------------------------------------------------------------------


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_loss(y, z, smoothing, gamma, weights):
    p, n = softmax(z.astype(np.float64)), z.shape[1]
    q = np.eye(n)[y] * (1 - smoothing) + smoothing / n
    rows = -(q * (1 - p) ** gamma * np.log(p)).sum(1)
    return rows * (np.array(weights)[y] if weights else 1.0)


def sigmoid_loss(y, z, smoothing, gamma, weights):
    p = 1 / (1 + np.exp(-z.astype(np.float64)))
    t = y * (1 - smoothing) + smoothing / 2
    each = -(t * (1 - p) ** gamma * np.log(p) + (1 - t) * p**gamma * np.log(1 - p))
    return (each * (weights or 1.0)).mean(1)


LOGITS = np.random.default_rng(0).normal(0, 2, (6, 3)).astype(np.float32)
CLASSES = np.array([0, 1, 2, 2, 1, 0], np.int32)
SETS = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float32)


@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 0.25)])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_against_numpy(smoothing, gamma, weights):
    for loss, formula, y in (
        (SoftmaxLoss, softmax_loss, CLASSES),
        (SigmoidLoss, sigmoid_loss, SETS),
    ):
        made = loss(smoothing, gamma, weights)
        expected = formula(y, LOGITS, smoothing, gamma, weights)
        np.testing.assert_allclose(made.call(y, LOGITS), expected, rtol=2e-5)
        assert float(made(y, LOGITS)) == pytest.approx(expected.mean(), rel=1e-5)


def test_plain_losses_are_those_of_keras():
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    binary = keras.losses.BinaryCrossentropy(from_logits=True)
    assert float(SoftmaxLoss()(CLASSES, LOGITS)) == pytest.approx(float(sparse(CLASSES, LOGITS)))
    assert float(SigmoidLoss()(SETS, LOGITS)) == pytest.approx(float(binary(SETS, LOGITS)))


def test_the_documents_own_example():
    """y = [1, 0, 1, 0], p = [0.8, 0.2, 0.3, 0.7]: -sum(y log p) is 1.43 and not 0.22.

    The two-class cross-entropy of the four is 2.85.
    """
    y, p = np.array([1, 0, 1, 0]), np.array([0.8, 0.2, 0.3, 0.7])
    logits = np.stack([np.log(1 - p), np.log(p)], 1).astype(np.float32)
    rows = np.asarray(SoftmaxLoss().call(y, logits))
    assert rows[y == 1].sum() == pytest.approx(-(y * np.log(p)).sum(), rel=1e-5)
    assert rows[y == 1].sum() == pytest.approx(1.43, abs=0.005)
    assert rows.sum() == pytest.approx(2.85, abs=0.005)
    one = (np.log(p) - np.log(1 - p)).astype(np.float32)[:, None]
    rows = np.asarray(SigmoidLoss().call(y[:, None].astype(np.float32), one))
    assert rows.sum() == pytest.approx(2.85, abs=0.005)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_sure_answer_has_a_finite_gradient(gamma):
    """(1 - p)^gamma has no derivative at p = 1 where gamma is below 1."""
    for loss, y in ((SoftmaxLoss, np.array([0, 1])), (SigmoidLoss, np.eye(2, dtype=np.float32))):
        logits = tf.Variable([[200.0, -200.0], [200.0, -200.0]])
        with tf.GradientTape() as tape:
            value = loss(gamma=gamma)(y, logits)
        assert np.isfinite(value)
        assert np.isfinite(tape.gradient(value, logits)).all()


def test_the_loss_of_each_problem():
    weighted = task(class_weights=(1, 2, 3), label_smoothing=0.1, focal_gamma=2.0).loss()
    assert isinstance(weighted, SoftmaxLoss)
    assert (weighted.smoothing, weighted.gamma, weighted.class_weights) == (0.1, 2.0, (1, 2, 3))
    assert isinstance(task(problem="multi-label").loss(), SigmoidLoss)
    assert isinstance(task(problem="regression").loss(), keras.losses.MeanSquaredError)


# --- answers --------------------------------------------------------------------------------------


def decoded(made, logits):
    out = made.decode(tf.constant(logits, tf.float32))
    return {name: value.numpy() for name, value in out.items()}


def test_one_label():
    out = decoded(task(), [[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    assert out["label"].tolist() == [b"good", b"bad"]
    np.testing.assert_allclose(out["probabilities"], softmax(out["logits"]), rtol=1e-6)
    np.testing.assert_allclose(task().scores(out["logits"]), out["probabilities"], rtol=1e-6)


def test_several_labels_by_their_thresholds():
    logits = np.log([[0.4, 0.9, 0.1], [0.1, 0.1, 0.1], [0.6, 0.6, 0.3]])
    logits = (logits - np.log(1 - np.exp(logits))).astype(np.float32)
    out = decoded(task(problem="multi-label"), logits)
    assert out["labels"].tolist() == [[b"good", b""], [b"", b""], [b"bad", b"good"]]
    made = task(problem="multi-label", thresholds=(0.3, 0.7, 0.2))
    out = decoded(made, logits)
    assert out["labels"].tolist() == [[b"bad", b"good"], [b"", b""], [b"bad", b"ugly"]]
    np.testing.assert_allclose(made.scores(logits), out["probabilities"], rtol=1e-5)
    assert decoded(made, logits[1:2])["labels"].shape == (1, 0)


def test_a_probability_at_its_threshold_counts():
    out = decoded(task(problem="multi-label", thresholds=(0.5, 0.5, 0.5)), [[0.0, 1.0, -1.0]])
    assert out["labels"].tolist() == [[b"bad", b"good"]]


def test_a_score():
    out = decoded(task(problem="regression"), [[0.5], [-3.0]])
    assert {k: v.tolist() for k, v in out.items()} == {"score": [0.5, -3.0]}


def test_thresholds_are_chosen_once():
    made = task(problem="multi-label", labels=("a", "b"))
    y = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    logits = np.array([[-1.0, -4.0], [-1.2, -5.0], [-3.0, 2.0], [-4.0, 3.0]], np.float32)
    scores = made.scores(logits)
    tuned = made.tuned(list(y), list(scores))
    chosen = decoded(tuned, logits)["labels"]
    assert [[v for v in row if v] for row in chosen.tolist()] == [[b"a"], [b"a"], [b"b"], [b"b"]]
    assert tuned.tuned(list(y), list(1 - scores)) is tuned
    assert task().tuned(list(y), list(scores)) == task()


# --- model and options ----------------------------------------------------------------------------


def test_a_classifier_needs_two_labels():
    for labels in ((), ("one",)):
        with pytest.raises(InputError, match="at least two labels. Received: labels="):
            dataclasses.replace(task(), labels=labels).build(tiny.backbone("bert"))


def test_outputs():
    assert [task().outputs, task(problem="multi-label").outputs] == [3, 3]
    assert task(problem="regression", labels=()).outputs == 1
    model = TextClassification(problem="regression").build(tiny.backbone("gpt2"))
    assert model.output_shape == (None, 1)


def test_metrics():
    names = {p: [m.name for m in task(problem=p).metrics()] for p in ("single-label", "regression")}
    assert names == {"single-label": ["accuracy"], "regression": ["mae"]}
    (accuracy,) = task(problem="multi-label").metrics()
    accuracy.update_state([[1.0, 0.0]], [[0.1, -0.1]])
    assert float(accuracy.result()) == 1.0, "a logit above 0 is a probability above 0.5"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem": "multilabel"}, "Did you mean 'multi-label'"),
        ({"max_length": 4}, "`max_length` must be a whole number, at least 8"),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be at least 0 and at most 0.999"),
        ({"focal_gamma": -1}, "`focal_gamma` must be at least 0"),
        ({"head_dropout": 1}, "`head_dropout` must be at least 0 and at most 0.999"),
        ({"labels": ("a", "b", "a")}, "`labels` holds a label twice"),
        ({"class_weights": "balance"}, "Did you mean 'balanced'"),
        ({"class_weights": (1.0, 2.0)}, "`class_weights` holds one number a class, 3 in all"),
        ({"thresholds": (0.5,)}, "`thresholds` holds one number a class, 3 in all"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        task(**options)
