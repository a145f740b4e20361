"""Zero-shot classification: labels asked with the text, three ways to weigh them."""

import numpy as np
import pytest
import tensorflow as tf

import kerasft
from kerasft import InputError
from kerasft.backbones.huggingface import Head
from kerasft.data import encode_rows, encoder, feed_of
from kerasft.tasks import TextClassification, ZeroShotClassification
from kerasft.tasks._candidates import CandidateLoss, chosen, scored
from kerasft.testing import _rig, tiny

LABELS = ("good", "bad", "free")
TEXTS = ["the film was good", "a free prize, call now!", ""]
WAYS = {"entailment": "bert", "similarity": "bert", "likelihood": "gpt2"}


def task_of(through, **options):
    options = {"labels": LABELS, "max_length": 32, "hypothesis": "a {label} film"} | options
    return ZeroShotClassification(through=through, **options)


@pytest.fixture(scope="module")
def pipes():
    return {way: _rig.pipeline(family, "full", task_of(way)) for way, family in WAYS.items()}


def of_pairs(pipe, text, label):
    """Logits of entailment as a classifier of pairs gives them."""
    pairs = TextClassification(
        labels=pipe.task.entailment_labels, pair=True, max_length=pipe.task.max_length
    )
    ids = encoder(pairs, pipe.tokenizer)({"text": [text], "text_pair": [f"a {label} film"]})
    return pipe.outputs(ids)[0][1]


def of_vectors(pipe, text, label):
    single = TextClassification(labels=("a", "b"), max_length=pipe.task.max_length)
    encode = encoder(single, pipe.tokenizer)
    one, other = (pipe.outputs(encode({"text": [t]}))[0] for t in (text, f"a {label} film"))
    return 20.0 * float(one @ other) / np.linalg.norm(one) / np.linalg.norm(other)


def of_tokens(pipe, text, label):
    prompt, hypothesis = (
        pipe.tokenizer([part]).to_list()[0]
        if hasattr(pipe.tokenizer([part]), "to_list")
        else pipe.tokenizer([part])[0]
        for part in (text + "\n", f"a {label} film")
    )
    ids = np.asarray([[*prompt, *hypothesis]], np.int32)
    logits = np.asarray(
        pipe.model({"token_ids": ids, "padding_mask": np.ones_like(ids)}), np.float64
    )[0]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return sum(log_p[len(prompt) + i - 1, token] for i, token in enumerate(hypothesis))


BY_HAND = {"entailment": of_pairs, "similarity": of_vectors, "likelihood": of_tokens}


@pytest.mark.parametrize("way", WAYS)
def test_probabilities_are_the_softmax_of_what_is_worked_out_label_by_label(pipes, way):
    """Whatever is asked of the other rows; with other labels than those of training."""
    pipe = pipes[way]
    asked = [("good", "story"), ("bad", "you", "call", "prize"), ("now",)]
    answers = pipe.predict(list(zip(TEXTS, asked, strict=True)))
    for text, labels, answer in zip(TEXTS, asked, answers, strict=True):
        scores = np.array([BY_HAND[way](pipe, text, label) for label in labels])
        meant = np.exp(scores - scores.max())
        np.testing.assert_allclose(answer["probabilities"], meant / meant.sum(), atol=1e-5)
        assert answer["label"] == labels[int(scores.argmax())]
    again = pipe.predict(TEXTS[:1], given={"labels": asked[0]})
    assert again[0]["label"] == answers[0]["label"]


def test_without_candidates_there_is_no_label():
    labels = tf.ragged.constant([["a", "b"], [], ["c"]], tf.string)
    found = chosen(tf.constant([1.0, 2.0, -200.0]), labels)
    assert found["label"].numpy().tolist() == [b"b", b"", b"c"]
    p = found["probabilities"].numpy()
    assert p[1].tolist() == [0, 0] and p[2].tolist() == [1, 0]
    none = chosen(
        tf.constant([], tf.float32), tf.ragged.constant([[], []], tf.string, ragged_rank=1)
    )
    assert none["label"].numpy().tolist() == [b"", b""]
    # A real candidate is never 0, which is what a list is padded with.
    far = chosen(tf.constant([0.0, -1e4]), tf.ragged.constant([["a", "b"]]))
    assert (far["probabilities"].numpy() > 0).all()


@pytest.mark.parametrize("given", [{"labels": []}, {"labels": "sport"}, {"topics": ["a"]}])
def test_candidates_must_be_a_list(pipes, given):
    with pytest.raises(InputError, match="Received"):
        pipes["entailment"].predict(TEXTS, given=given)


def test_the_loss_is_the_cross_entropy_over_the_candidates():
    random = np.random.default_rng(0)
    out = random.standard_normal((4, 3, 2)).astype(np.float32)
    y = np.array([0, 2, 1, 1])
    loss = CandidateLoss("entailment", index=1).call(y, tf.constant(out)).numpy()
    p = np.exp(out[..., 1]) / np.exp(out[..., 1]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss, -np.log(p[np.arange(4), y]), rtol=1e-5)
    vectors = random.standard_normal((4, 4, 5)).astype(np.float32)
    dots = np.einsum("bw,bcw->bc", vectors[:, 0], vectors[:, 1:])
    np.testing.assert_allclose(scored("similarity", vectors, 0, 3.0), 3 * dots, rtol=1e-5)


@pytest.mark.parametrize(
    "way", ["entailment", *(pytest.param(w, marks=pytest.mark.slow) for w in list(WAYS)[1:])]
)
def test_it_learns_which_label_is_right(way):
    rows = [{"text": "the film", "label": "good"}, {"text": "call now", "label": "free"}]
    pipe = _rig.pipeline(WAYS[way], "full", task_of(way, head_dropout=0.0))
    before = pipe.evaluate(rows).after["log_loss"]
    encode = encoder(pipe.task, pipe.tokenizer, pipe.task.reads)
    fields = {name: [row[name] for row in rows] for name in rows[0]}
    rows_encoded = encode_rows([fields], encode, pipe.task, keep=pipe.inputs)
    _rig.stepped(pipe, 12, batch=next(feed_of(pipe.task, rows_encoded, pipe.inputs, 2).batches()))
    pipe = type(pipe)(pipe.model, pipe.tokenizer, pipe.task)
    report = pipe.evaluate(rows)
    assert report.after["log_loss"] < before and report.after["accuracy"] == 1.0


def test_a_head_that_judges_entailment_is_taken_over():
    """Whatever the order of its classes, and also where the labels are given."""
    names = ("CONTRADICTION", "ENTAILMENT", "neutral")
    random = np.random.default_rng(0)
    kernel = random.standard_normal((16, 3)).astype(np.float32)
    head = Head(names, "single-label", None, None, kernel, np.zeros(3, np.float32))
    task = task_of("entailment").with_head(head)
    assert task.entailment_labels == names and task.labels == LABELS
    backbone = tiny.backbone("bert")
    assert task.fits_head(head, backbone) and not task_of("entailment").fits_head(head, backbone)
    model = task.build(backbone)
    task.load_head(model, head)
    np.testing.assert_array_equal(task.to_head(model).logits_kernel, kernel)
    other = Head(("ham", "spam"), "single-label", None, None, kernel[:, :2], None)
    assert task_of("entailment").with_head(other) == task_of("entailment")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"through": "magic"}, "through"),
        ({"hypothesis": "about sport"}, r"\{label\}"),
        ({"entailment_labels": ("yes", "no")}, "entail"),
        ({"labels": ("a", "a")}, "twice"),
        ({"scale": 0}, "scale"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        ZeroShotClassification(**options)


def test_likelihood_needs_a_decoder():
    with pytest.raises(InputError, match="decoder"):
        task_of("likelihood").build(tiny.backbone("bert"))


def test_a_checkpoint_labels_without_training(tmp_path):
    """As its own classifier of pairs weighs text and hypothesis."""
    names = ("entailment", "neutral", "contradiction")
    pairs = TextClassification(labels=names, pair=True, max_length=32)
    classifier = _rig.pipeline("bert", "full", pairs)
    folder = classifier.save_hf(tmp_path / "nli")
    pipe = kerasft.zero_shot(folder, hypothesis="a {label} film")
    answers = pipe.predict(TEXTS, given={"labels": LABELS})
    asked = [(TEXTS[0], f"a {label} film") for label in LABELS]
    logits = np.array([answer["logits"][0] for answer in classifier.predict(asked)])
    np.testing.assert_allclose(
        answers[0]["probabilities"], np.exp(logits) / np.exp(logits).sum(), atol=1e-5
    )
    with pytest.raises(InputError, match="entailment.*no head"):
        kerasft.zero_shot("bert_tiny")


@pytest.mark.parametrize(
    "way", ["likelihood", *(pytest.param(w, marks=pytest.mark.slow) for w in list(WAYS)[:2])]
)
def test_many_labels_are_weighed_some_at_a_time(pipes, way):
    """With the same answers, and no row of labels at all is no failure."""
    pipe = pipes[way]
    labels = [
        f"{a} {b}" for a in ("good", "bad", "free") for b in ("film", "story", "prize", "call")
    ]
    many = pipe.predict(TEXTS, given={"labels": labels})
    for text, answer in zip(TEXTS, many, strict=True):
        scores = np.array([BY_HAND[way](pipe, text, label) for label in labels])
        meant = np.exp(scores - scores.max())
        np.testing.assert_allclose(answer["probabilities"], meant / meant.sum(), atol=1e-5)
    none = pipe.predict([(text, []) for text in TEXTS])
    assert none == [{"label": "", "probabilities": []}] * len(TEXTS)
