"""Texts that are too long: what is read of them, and how windows become one answer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.backbones import template_of
from kerasft.data import batches
from kerasft.methods import adapt
from kerasft.optimizers import adamw
from kerasft.pipeline import Pipeline
from kerasft.pipeline.forward import Forward
from kerasft.preprocessing import by_row
from kerasft.tasks import TextClassification
from kerasft.tasks._long_texts import COMBINED, LONG_TEXTS, Combine, head_tail
from kerasft.testing import _rig, tiny
from kerasft.training.fitted import compiled

LABELS = ("bad", "good")
# Each word of the tiny vocabulary is one id; [CLS] and [SEP] leave 6 of 8 for them.
ROOM = 6
WORDS = list(tiny.WORDS)


def task(long_texts, **options):
    given = {"labels": LABELS, "max_length": ROOM + 2, "overlap": 2, "head_dropout": 0.0}
    return TextClassification(long_texts=long_texts, **(given | options))


def pipeline(long_texts, family="bert", **options):
    """A tiny pipeline whose weights below and above the windows are the same for every option."""
    pipe = _rig.pipeline(family, "full", task(long_texts, **options))
    random = np.random.default_rng(5)
    for variable in sorted(pipe.head_variables, key=lambda v: (v.path.startswith("w"), v.path)):
        variable.assign(random.standard_normal(variable.shape).astype(np.float32))
    return pipe


@pytest.fixture(scope="module")
def made():
    """Pipelines by option, made once."""
    kept = {}
    return lambda option: kept.setdefault(option, pipeline(option))


def encoded(made, texts, family="bert"):
    """Features outside a graph, which is quicker; the contract compares them."""
    found = made.encode(tiny.tokenizer(family), {"text": tf.constant(texts)})
    return {name: value.numpy() for name, value in found.items()}


def ids_of(long_texts, texts, **options):
    features = encoded(task(long_texts, **options), texts)
    real = features["padding_mask"].astype(bool)
    rows = [r[m].tolist() for r, m in zip(features["token_ids"], real, strict=True)]
    return rows, features.get("row")


def given(pipe, texts, family="bert"):
    """What the model is given for texts: at its fixed length, windows side by side."""
    features = encoded(pipe.task, texts, family)
    missing = (pipe.fixed_length or 0) and pipe.fixed_length - features["token_ids"].shape[1]
    found = {}
    for name in pipe.inputs:
        fill = template_of(pipe.tokenizer).pad if name == "token_ids" else 0
        wide = np.pad(features[name], [(0, 0), (0, missing)], constant_values=fill)
        found[name] = by_row(wide, features["row"], fill).numpy() if "row" in features else wide
    return found


def logits(pipe, texts, family="bert"):
    return np.asarray(pipe.model(given(pipe, texts, family), training=False))


def numbers(words):
    tokenizer = tiny.tokenizer("bert")
    return [tokenizer.token_to_id(word) for word in words]


def around(ids):
    template = template_of(tiny.tokenizer("bert"))
    return [*template.start, *ids, *template.end]


# --- what is read ---------------------------------------------------------------------------------


def test_head_is_as_before():
    words = WORDS + WORDS
    assert ids_of("head", [" ".join(words)])[0] == [around(numbers(words)[:ROOM])]
    assert TextClassification().long_texts == "head"


@pytest.mark.parametrize("tail", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_head_and_tail_are_slices(tail):
    texts = [WORDS[:n] for n in (0, 1, ROOM, ROOM + 1, 2 * ROOM)]
    end = round(tail * ROOM)
    expected = [
        ids if len(ids) <= ROOM else ids[: ROOM - end] + ids[len(ids) - end :]
        for ids in map(numbers, texts)
    ]
    found, row = ids_of("head-tail", [" ".join(words) for words in texts], tail=tail)
    assert found == [around(ids) for ids in expected] and row is None
    assert expected[-1] != numbers(texts[-1])[:ROOM] or tail == 0


def test_head_and_tail_as_published():
    """Sun et al. 2019: the first 128 and the last 382 of what 512 hold."""
    ids = list(range(1000))
    kept = head_tail(tf.ragged.constant([ids], dtype=tf.int32), 510, TextClassification().tail)
    assert kept.to_list() == [ids[:128] + ids[-382:]]


def test_windows_are_slices():
    long, short = WORDS + WORDS[:5], WORDS[:4]
    found, row = ids_of("mean", [" ".join(short), " ".join(long), ""], overlap=2)
    ids = numbers(long)
    assert found[1:-1] == [around(ids[i : i + ROOM]) for i in range(0, 13, 4)]
    assert ids[12:] == found[-2][1:-1], "the last window ends with the text"
    assert (found[0], found[-1]) == (around(numbers(short)), around([]))
    assert row.tolist() == [0, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_so_many_windows_are_read(most):
    words = WORDS + WORDS
    found, row = ids_of("max", [" ".join(words), "film"], max_windows=most)
    whole = ids_of("max", [" ".join(words), "film"])[0]
    assert found == whole[:most] + whole[-1:] and row.tolist() == [0] * most + [1]
    some = task("max", max_windows=most)
    read = {i for ids in found[:most] for i in ids[1:-1]}
    held = some.most_ids(tiny.tokenizer("bert")) - 2
    assert read == set(numbers(words)[:held]), "and no id more"
    assert held == ROOM + (most - 1) * (ROOM - 2)


@pytest.mark.parametrize("option", ["head", "head-tail"])
def test_most_ids_of_one_sequence(option):
    assert task(option).most_ids(tiny.tokenizer("bert")) == ROOM + 2


def test_what_does_not_go_together():
    with pytest.raises(InputError, match="Received: pair=true, long_texts='mean'. Set task.long"):
        TextClassification(pair=True, long_texts="mean")
    with pytest.raises(InputError, match="`long_texts`.*head-tail"):
        TextClassification(long_texts="tail")
    with pytest.raises(InputError, match="`max_windows`"):
        TextClassification(max_windows=0)
    with pytest.raises(InputError, match="half .* overlap=5, max_length=8. Set task.overlap=4 or"):
        task("mean", overlap=5)
    assert ids_of("head-tail", ["film"], overlap=100)[0] == [around(numbers(["film"]))]


# --- windows to one answer ------------------------------------------------------------------------

SHORT = ["the film was good", "", "free prize", " ".join(WORDS[:ROOM])]


@pytest.mark.parametrize("option", LONG_TEXTS[1:])
def test_a_text_that_fits_is_answered_as_without_windows(made, option):
    plain = logits(made("head"), SHORT)
    np.testing.assert_allclose(logits(made(option), SHORT), plain, atol=1e-6)
    long = [" ".join(WORDS)]
    assert np.abs(logits(made(option), long) - logits(made("head"), long)).max() > 1e-3


@pytest.mark.parametrize("family", ["roberta", "f_net", "gpt2"])
def test_one_window_through_the_own_head_of_a_family(family):
    """A hidden layer, no mask and a fixed length, the last token of a decoder."""
    texts = ["the film", "good"]
    expected = logits(pipeline("head", family), texts, family)
    np.testing.assert_allclose(logits(pipeline("mean", family), texts, family), expected, atol=1e-6)


def test_like_windows_are_one(made):
    """Without overlap a text that is said three times has three windows that are the same."""
    same, other = [" ".join(WORDS[:ROOM] * 3)], [" ".join(WORDS)]
    found = {o: pipeline(o, overlap=0) for o in COMBINED}
    once = logits(made("head"), [" ".join(WORDS[:ROOM])])
    for option in COMBINED:
        assert given(found[option], same)["token_ids"].shape[1] == 3
        np.testing.assert_allclose(logits(found[option], same), once, atol=1e-5)
    unlike = [logits(found[option], other) for option in COMBINED]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(unlike[one] - unlike[two]).max() > 1e-3


@pytest.mark.parametrize(
    ("option", "family"),
    [*((option, "bert") for option in COMBINED), ("max", "f_net"), ("attention", "gpt2")],
)
def test_windows_of_padding_change_nothing(option, family, made):
    pipe = made(option) if family == "bert" else pipeline(option, family)
    both = given(pipe, [" ".join(WORDS), "film"], family)
    together = np.asarray(pipe.model(both))
    alone = pipe.model({n: v[1:, :1] for n, v in both.items()})
    np.testing.assert_allclose(together[1:], alone, atol=1e-6)
    odd = {n: v.copy() for n, v in both.items()}
    odd["token_ids"][1, 1:] = 7
    np.testing.assert_array_equal(pipe.model(odd), together)
    odd["padding_mask"][1, 1:] = 1
    assert np.abs(np.asarray(pipe.model(odd))[1] - together[1]).max() > 1e-4, "now it is a window"


def test_the_attention_is_its_formula():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((3, 4, 5)).astype(np.float32)
    mask = np.zeros((3, 4, 2), np.int32)
    counts = [4, 2, 1]
    for row, count in enumerate(counts):
        mask[row, :count, 0] = 1
    layer = Combine("attention")
    out = layer(vectors.reshape(-1, 5), mask)
    for variable in layer.weights:
        variable.assign(random.standard_normal(variable.shape))
    out = np.asarray(layer(vectors.reshape(-1, 5), mask))
    share = np.asarray(layer.weights_of(vectors, mask.max(-1).astype(np.float32)))
    np.testing.assert_allclose(share.sum(1), 1.0, atol=1e-6)
    kernel, bias, query = (np.asarray(v) for v in layer.weights)
    for row, count in enumerate(counts):
        score = np.exp(np.tanh(vectors[row, :count] @ kernel + bias) @ query)
        np.testing.assert_allclose(share[row, :count], score / score.sum(), atol=1e-5)
        assert (share[row, :count] > 0).all() and not share[row, count:].any()
        np.testing.assert_allclose(out[row], share[row] @ vectors[row], atol=1e-5)
    assert np.ptp(share[0]) > 0.01, "windows weigh unlike"


def test_mean_and_max_are_their_formulas():
    vectors = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32) - 3.0
    mask = np.array([[[1, 1], [1, 0], [1, 1]], [[1, 0], [1, 1], [0, 0]]])
    flat = vectors.reshape(-1, 5)
    mean, most = (np.asarray(Combine(name)(flat, mask)) for name in ("mean", "max"))
    for row, count in ((0, 3), (1, 2)):
        np.testing.assert_allclose(mean[row], vectors[row, :count].mean(0), atol=1e-6)
        np.testing.assert_array_equal(most[row], vectors[row, :count].max(0))


def test_every_window_learns():
    """The mean gives each window of a text the same part of the gradient, padding none."""
    mask = np.array([[[1], [1], [1]], [[1], [1], [0]]])
    vectors = tf.Variable(np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32))
    with tf.GradientTape() as tape:
        out = tf.reduce_sum(Combine("mean")(vectors, mask))
    parts = tape.gradient(out, vectors).numpy()
    third, half = [1 / 3] * 3, [0.5, 0.5, 0]
    np.testing.assert_allclose(parts, np.repeat(np.array([third + half]).T, 4, axis=1), atol=1e-6)


@pytest.mark.parametrize(("option", "learned"), [("head", ROOM), ("mean", 12), ("attention", 12)])
def test_the_gradient_reaches_the_words_of_every_window(made, option, learned):
    pipe = made(option)
    table = pipe.backbone.token_embedding.embeddings
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(pipe.model(given(pipe, [" ".join(WORDS)]))[:, 0])
    moved = tf.convert_to_tensor(tape.gradient(loss, table)).numpy()
    reached = [bool(np.abs(moved[i]).max() > 1e-7) for i in numbers(WORDS)]
    assert reached == [True] * learned + [False] * (12 - learned)


def test_batches_hold_texts_of_like_length(made):
    """And as many windows as the longest text of the batch has, no more."""
    pipe = made("mean")
    texts = [" ".join(WORDS), "film", " ".join(WORDS[:4]), " ".join(WORDS + WORDS), "the film"]
    expected = np.concatenate([logits(pipe, [text]) for text in texts])
    forward = Forward(pipe.model, None, template_of(pipe.tokenizer).pad)
    shapes, run = [], forward.run
    forward.run = lambda batch: shapes.append(batch["token_ids"].shape) or run(batch)
    found = forward(encoded(pipe.task, texts), 2)
    # Other shapes round otherwise: a millionth of the largest number.
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    assert [tuple(s) for s in shapes] == [(2, 6, 8), (2, 1, 6), (1, 1, 3)]


def test_no_hugging_face_head_for_windows(made, tmp_path):
    with pytest.raises(InputError, match="one sequence a text. Received: long_texts='mean'"):
        made("mean").save_hf(tmp_path / "m")
    assert not (tmp_path / "m").exists()
    made("head-tail").save_hf(tmp_path / "m")


# --- a label at the end ---------------------------------------------------------------------------


def ending(rows, seed):
    """Pairs of texts that are the same but for the last word, which is the label."""
    random = np.random.default_rng(seed)
    fill = ("the", "film", "was", "a", "story", "you")
    for _ in range(rows // 2):
        words = random.choice(fill, random.integers(14, 22))
        yield from ({"text": " ".join([*words, label]), "label": label} for label in LABELS)


def accuracy(pipe):
    rows = list(ending(40, seed=1))
    answers = pipe.predict([row["text"] for row in rows])
    return np.mean([a["label"] == r["label"] for a, r in zip(answers, rows, strict=True)])


@pytest.mark.parametrize(
    "option",
    [o if o == "attention" else pytest.param(o, marks=pytest.mark.slow) for o in LONG_TEXTS],
)
def test_a_label_at_the_end_is_learned(option):
    keras.utils.set_random_seed(1)
    made = task(option, max_length=10, pooling="mean")
    tokenizer, rows = tiny.tokenizer("bert"), list(ending(64, seed=0))
    model = made.build(adapt(tiny.backbone("bert", seed=1)))
    fitted = compiled(model, made, adamw(5e-3, model))
    fitted.fit(batches(rows, made, tokenizer, 8), epochs=12, shuffle=False, verbose=0)
    found = accuracy(Pipeline(model, tokenizer, made))
    assert found == 0.5 if option == "head" else found >= 0.95


def test_the_head_alone_cannot_tell(made):
    """Texts that differ at the end get one answer, whatever the weights."""
    assert accuracy(made("head")) == 0.5
    twins = [row["text"] for row in ending(10, seed=1)]
    answers = logits(made("mean"), twins)
    assert np.abs(answers[::2] - answers[1::2]).min(axis=0).max() > 1e-4
