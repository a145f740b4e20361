"""Text similarity: losses by NumPy, negatives of the global batch, prefixes, rankings."""

import contextlib
import dataclasses
import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft import InputError, metrics
from kerasft.data import encoder, open_source
from kerasft.evaluation import Collector
from kerasft.tasks import TextClassification, TextSimilarity, _embedding, text_similarity
from kerasft.testing import _rig, tiny
from kerasft.training.fitted import compiled

RANDOM = np.random.default_rng(3)
OUT = RANDOM.normal(size=(6, 3, 5)).astype(np.float32)
# Numbers of the texts: queries 0 and 4 are alike, passages 1 and 2, and a negative of row 3 is
# the passage of row 5.
Y = np.array([[0, 10, 20], [1, 11, 21], [2, 11, 22], [3, 13, 15], [0, 14, 24], [5, 15, 25]])
TEXTS = ["a free prize, call now!", "bad", "the film was good", "不好看", "story", "good film now"]


@functools.lru_cache
def made(task):
    return _rig.pipeline(tiny.family("bert"), "full", task)


def small(task, **options):
    """A pipeline that no test changes."""
    return made(dataclasses.replace(task, **options))


SEARCH = TextSimilarity(max_length=16)


# --- losses -------------------------------------------------------------------------------------


def unit(vectors):
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def by_hand(out, y, scale=20.0, symmetric=False):
    """The loss of each row, candidate by candidate."""
    v, rows = unit(out), range(len(out))

    def row(i, vector, candidates):
        right = scale * v[i, 0] @ v[i, 1]
        return np.log(1 + sum(np.exp(scale * vector @ c - right) for c in candidates))

    losses = []
    for i in rows:
        others = [j for j in rows if y[j, 0] != y[i, 0] and y[j, 1] != y[i, 1]]
        candidates = [v[j, 1] for j in others]
        candidates += [v[j, s] for s in range(2, out.shape[1]) for j in rows if y[j, s] != y[i, 1]]
        loss = row(i, v[i, 0], candidates)
        if symmetric:
            loss = (loss + row(i, v[i, 1], [v[j, 0] for j in others])) / 2
        losses.append(loss)
    return np.array(losses)


@pytest.mark.parametrize(("sides", "symmetric"), list(itertools.product((2, 3), (False, True))))
def test_the_loss_of_negatives_is_a_softmax_over_the_batch(sides, symmetric):
    out, y = OUT[:, :sides], Y[:, :sides]
    loss = _embedding.NegativesLoss(5.0, symmetric)
    found = loss.call(tf.constant(y), tf.constant(out)).numpy()
    np.testing.assert_allclose(found, by_hand(out, y, 5.0, symmetric), rtol=1e-5)
    other = _embedding.NegativesLoss(5.0, not symmetric).call(tf.constant(y), tf.constant(out))
    assert np.abs(found - other).max() > 0.01
    order = [4, 2, 0, 5, 1, 3]
    moved = loss.call(tf.constant(y[order]), tf.constant(out[order])).numpy()
    np.testing.assert_allclose(moved, found[order], rtol=1e-5)
    np.testing.assert_allclose(loss.call(tf.constant(y), 7 * out), found, rtol=1e-4)


def test_the_plain_loss_is_the_cross_entropy_of_scaled_cosines():
    out, y = OUT[:, :2], np.arange(12).reshape(6, 2)
    logits = 20 * unit(out[:, 0]) @ unit(out[:, 1]).T
    plain = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    found = _embedding.NegativesLoss().call(tf.constant(y), tf.constant(out))
    np.testing.assert_allclose(found, plain, rtol=1e-5)


@pytest.mark.parametrize("sides", [2, 3])
def test_a_right_answer_is_no_negative(sides):
    """Where it counts as one, the loss of two equal rows cannot fall below log 2."""
    out = np.stack([OUT[0, :sides], OUT[0, :sides], OUT[1, :sides]])
    out[:, 1] = out[:, 0]
    alike = np.array([[0, 10, 20], [0, 10, 20], [1, 11, 21]])[:, :sides]
    loss = _embedding.NegativesLoss(100.0)
    found = loss.call(tf.constant(alike), tf.constant(out)).numpy()
    unlike = loss.call(tf.constant(np.arange(9).reshape(3, 3)[:, :sides]), tf.constant(out))
    assert found[0] < 0.01 < np.log(2) - 1e-3 <= unlike.numpy()[0]
    alone = loss.call(tf.constant(alike[:1, :2]), tf.constant(out[:1, :2]))
    assert alone.numpy() == pytest.approx([0.0], abs=1e-6)


def test_equal_ids_have_equal_numbers():
    task = TextSimilarity(passage_prefix="free ", max_length=8)
    tokenizer = tiny.tokenizer("bert")
    long = "good film story " * 9
    fields = {
        "text": ["bad", "the film", "bad", "x", "y"],
        "text_pair": ["good", "now", "free good", long + "now", long + "bad"],
    }
    encode = encoder(task, tokenizer, task.reads)
    numbers = task.targets(fields, encode(fields))
    assert numbers.shape == (5, 2) and numbers.dtype == np.int64
    assert numbers[0, 0] == numbers[2, 0] != numbers[1, 0]
    # One with its prefix already, and two that are alike once they are cut.
    assert numbers[0, 1] == numbers[2, 1] != numbers[1, 1] and numbers[3, 1] == numbers[4, 1]
    again = {name: values[2:3] for name, values in fields.items()}
    np.testing.assert_array_equal(task.targets(again, encode(again)), numbers[2:3])


def test_triplets_and_cosines():
    v = unit(OUT)
    near, far = (v[:, 0] * v[:, 1]).sum(1), (v[:, 0] * v[:, 2]).sum(1)
    found = _embedding.TripletLoss(0.3).call(None, tf.constant(OUT))
    np.testing.assert_allclose(found, np.maximum(0, 0.3 + far - near), atol=1e-6)
    assert 0 < (found.numpy() == 0).sum() < 6
    y = np.linspace(-1, 1, 6).astype(np.float32)[:, None]
    pair = tf.constant(OUT[:, :2])
    np.testing.assert_allclose(
        _embedding.CosineLoss().call(tf.constant(y), pair), (near - y[:, 0]) ** 2, atol=1e-6
    )
    shown = {
        "accuracy of triplets": (_embedding.Nearest(triplet=True), None, OUT, (near > far).mean()),
        "mae": (_embedding.CosineError(), y, OUT[:, :2], np.abs(near - y[:, 0]).mean()),
    }
    for metric, truth, out, expected in shown.values():
        metric.update_state(truth, tf.constant(out))
        assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


def test_accuracy_is_the_share_of_queries_whose_passage_is_nearest():
    out, y = np.concatenate([OUT[:, :2], OUT[:1, [0, 0]]]), np.arange(14).reshape(7, 2)
    cosines = unit(out[:, 0]) @ unit(out[:, 1]).T
    best = (cosines.argmax(1) == np.arange(7)).mean()
    assert 0 < best < 1
    metric = _embedding.Nearest()
    metric.update_state(tf.constant(y), tf.constant(out))
    assert float(metric.result()) == pytest.approx(best)
    metric.reset_state()
    metric.update_state(tf.constant(y[:3]), tf.constant(np.repeat(out[:1], 3, 0)))
    assert float(metric.result()) == 0.0, "a constant vector finds nothing"


@pytest.mark.parametrize(
    ("limits", "scores", "expected"),
    [
        ((0, 5), (0, 2.5, 5), (0, 0.5, 1)),
        ((-2, 2), (-2, 0, 1), (-1, 0, 0.5)),
        ((1, 3), (2,), (0.5,)),
    ],
)
def test_scores_are_moved_to_cosines(limits, scores, expected):
    task = TextSimilarity(objective="cosine", score_range=limits)
    np.testing.assert_allclose(task.targets({"score": scores}, {})[:, 0], expected)
    with pytest.raises(InputError, match="score_range.*Received: 5.5. Set task.score_range"):
        task.targets({"score": [2, 5.5]}, {})


# --- the global batch ---------------------------------------------------------------------------


def bag_of_words():
    """All that the loss needs of a model: the mean of the vectors of ids."""
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    words = keras.layers.Embedding(8, 3, name="words")
    model = keras.Model({"token_ids": ids}, keras.layers.GlobalAveragePooling1D()(words(ids)))
    words.set_weights([np.random.default_rng(0).normal(size=(8, 3))])
    return model


def step(strategy, rows):
    """Loss and weights after one step on one batch."""
    task = TextSimilarity(hard_negatives=True, symmetric=True)
    ids = np.random.default_rng(1).integers(0, 8, (rows, 3, 4)).astype(np.int32)
    numbers = np.arange(rows * 3).reshape(rows, 3)
    numbers[-1, 1] = numbers[0, 1]
    with strategy.scope() if strategy else contextlib.nullcontext():
        fitted = compiled(bag_of_words(), task, keras.optimizers.SGD(0.1))
    data = tf.data.Dataset.from_tensor_slices(({"token_ids": ids}, numbers)).batch(rows)
    loss = fitted.fit(data, verbose=0, shuffle=False).history["loss"][0]
    evaluated = fitted.evaluate(data, verbose=0, return_dict=True)
    return loss, evaluated["loss"], np.array(fitted.weights[0])


@pytest.mark.graph  # replicas read each other's rows in graphs alone
@pytest.mark.parametrize("rows", [5, 1])
def test_two_replicas_find_their_negatives_in_both_halves(rows, monkeypatch):
    """Three rows and two; one row and none."""
    loss, after, weights = step(None, rows)
    loss_of_two, after_of_two, weights_of_two = step(_rig.replicas(), rows)
    assert (loss_of_two, after_of_two) == pytest.approx((loss, after), rel=1e-5)
    np.testing.assert_allclose(weights_of_two, weights, atol=1e-6)
    if rows > 1:
        monkeypatch.setattr(_embedding, "gathered", lambda rows: rows)
        halved, _, moved = step(_rig.replicas(), rows)
        assert abs(halved - loss) > 0.1 and np.abs(moved - weights).max() > 1e-3


# --- prefixes and sides -------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_prefixes_are_put_before_the_text(family):
    task = TextSimilarity(
        hard_negatives=True, query_prefix="free: ", passage_prefix="good: ", max_length=32
    )
    tokenizer = tiny.tokenizer(family)
    fields = {
        "text": ["the film", "", "free: the film", "good: the film"],
        "text_pair": ["bad", "不好看", "free: bad", "good: bad"],
        "negative": ["story", "now", "Good: story", "goo"],
    }
    plain = TextSimilarity(max_length=32)
    written = ["free: the film", "good: bad", "good: story", "free: ", "good: 不好看", "good: now"]
    written += ["free: the film", "free: bad", "good: Good: story"]
    written += ["good: the film", "good: bad", "good: goo"]
    given = {name: tf.constant(values) for name, values in fields.items()}
    expected = plain.encode(tokenizer, {"text": tf.constant(written)})
    found = task.encode(tokenizer, given)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    bare = plain.encode(tokenizer, {"text": tf.constant(fields["text"])})["token_ids"]
    alone = task.encode(tokenizer, {"text": given["text"]})["token_ids"]
    assert alone.shape != bare.shape or (alone.numpy() != bare.numpy()).any()


def test_a_history_is_joined_the_latest_first_and_the_oldest_is_cut():
    task = TextSimilarity(history=True, query_prefix="call ", max_length=10)
    tokenizer = tiny.tokenizer("bert")
    items = tf.ragged.constant([["bad story"] * 9 + ["the film", "good"], [], ["now"]])
    found = task.encode(tokenizer, {"text": items})["token_ids"].numpy()
    texts = ["call good; the film; bad story; bad story", "call ", "call now"]
    plain = TextSimilarity(max_length=10)
    np.testing.assert_array_equal(
        found, plain.encode(tokenizer, {"text": tf.constant(texts)})["token_ids"]
    )
    rows = [{"text": ["a", "b"], "text_pair": "c"}, {"text": "a|b", "text_pair": "c"}]
    assert next(open_source(rows, task.fields()).chunks())["text"] == [("a", "b")] * 2


# --- reports and rankings -----------------------------------------------------------------------

ROWS = [
    ("bad", "the film was good"),
    ("story", "不好看"),
    ("bad", "a free prize, call now!"),
    ("good film now", "the film was good"),
    ("不好看", "bad"),
    ("story", "不好看"),
]
QUERIES = ["bad", "story", "good film now", "不好看"]
PASSAGES = ["the film was good", "不好看", "a free prize, call now!", "bad"]
RELEVANT = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("prefixes", [("call ", ""), ("call ", "free ")])
def test_rankings_are_those_of_the_whole_matrix(prefixes, monkeypatch):
    query, passage = prefixes
    pipe = small(SEARCH, query_prefix=query, passage_prefix=passage)
    plain = small(SEARCH)
    one = plain.logits({"text": [query + text for text in QUERIES]})
    other = plain.logits({"text": [passage + text for text in PASSAGES]})
    cosines = unit(one) @ unit(other).T
    rows = [dict(zip(("text", "text_pair"), row, strict=True)) for row in ROWS]
    report = pipe.evaluate(rows)
    expected = metrics.ranking_scores(RELEVANT, cosines)
    assert report.after == pytest.approx(expected) and 0.3 < expected["mrr"] < 1
    assert report.rows == 4 and report.kind == "ranking"
    for example in report.worst:
        place = example["row"] - 1
        assert example["text"] == QUERIES[place]
        assert example["expected"] == np.flatnonzero(RELEVANT[place]).tolist()
        assert example["found"] == PASSAGES[example["predicted"]]
    # In blocks of two queries, and in chunks of one row.
    monkeypatch.setattr(text_similarity, "_BLOCK", 9)
    monkeypatch.setattr(text_similarity, "_CHUNK", 3)
    blocks = list(pipe.task.judged(pipe, ({k: [v] for k, v in row.items()} for row in rows)))
    assert [len(scores) for _, _, scores in blocks] == [2, 1, 1]
    np.testing.assert_allclose(np.concatenate([s for _, _, s in blocks]), cosines, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([r for _, r, _ in blocks]), RELEVANT)


def test_a_report_of_rankings_keeps_no_matrix():
    collector = Collector("t", "ranking")
    scores = RANDOM.normal(size=(8, 20_000))
    relevance = np.zeros_like(scores)
    relevance[np.arange(8), np.arange(8)] = 1
    collector.add({}, relevance, scores)
    kept = [
        array for parts in collector._kept[0] for part in parts for array in np.atleast_1d(part)
    ]
    assert sum(np.size(array) for array in kept) < 100
    assert collector.report().after == metrics.ranking_scores(relevance, scores)


@pytest.mark.graph  # cosines that are almost equal have one order in graphs
def test_likeness_is_judged_by_the_order_of_the_cosines():
    pipe = small(TextSimilarity(objective="cosine", score_range=(0, 5), max_length=16))
    names = ("text", "text_pair", "score")
    rows = [dict(zip(names, (*row, i % 5), strict=True)) for i, row in enumerate(ROWS)]
    report = pipe.evaluate(rows)
    one, other = (unit(pipe.logits({"text": [row[n] for row in rows]})) for n in names[:2])
    cosines, scores = (one * other).sum(1), [row["score"] for row in rows]
    for name, of in (("spearman", metrics.spearman), ("pearson", metrics.pearson)):
        assert report.after[name] == pytest.approx(of(scores, cosines), abs=1e-5)
    assert report.kind == "similarity" and report.rows == 6


@pytest.mark.parametrize("normalize", [True, False])
def test_candidates_are_ranked_by_their_cosine(normalize):
    prefixes = {"query_prefix": "call ", "passage_prefix": "free "}
    pipe = small(SEARCH, **prefixes, normalize=normalize)
    plain = small(SEARCH)
    found = unit(plain.logits({"text": ["free " + text for text in TEXTS]}))
    asked = unit(plain.logits({"text": ["call bad", "call good"]}))
    for query, vector in (("bad", asked[0]), (["bad", "good"], asked.mean(0))):
        expected = found @ unit(vector)
        ranked = pipe.rank(query, TEXTS)
        assert [r["index"] for r in ranked] == np.argsort(-expected).tolist()
        assert [r["text"] for r in ranked] == [TEXTS[r["index"]] for r in ranked]
        assert [r["score"] for r in ranked] == pytest.approx(np.sort(expected)[::-1], abs=1e-5)
        assert pipe.rank(query, tuple(TEXTS), top=2) == ranked[:2]
    vectors = np.array([row["embedding"] for row in pipe.predict(TEXTS)])
    lengths = np.linalg.norm(vectors, axis=1)
    assert (np.abs(lengths - 1) < 1e-5).all() == normalize


def test_a_history_is_one_query():
    pipe, plain = small(SEARCH, history=True), small(SEARCH)
    ranked = pipe.rank(["bad", "good film"], TEXTS)
    assert ranked == plain.rank("good film; bad", TEXTS) != plain.rank(["bad", "good film"], TEXTS)


@pytest.mark.parametrize(
    ("query", "candidates", "top", "said"),
    [
        ("a", [], None, r"`candidates` is a list of strings, at least one. Received: \[\]"),
        ("a", "text", None, "`candidates` is a list of strings.*Received: 'text'"),
        ("a", ["b", None], None, r"Received: \['b', None\]"),
        ([], ["b"], None, "`query` is a string or a list of strings, at least one"),
        (3, ["b"], None, "`query` .*Received: 3"),
        ("a", ["b"], 0, "`top` must be a whole number, at least 1"),
    ],
)
def test_what_cannot_be_ranked_is_refused(query, candidates, top, said):
    with pytest.raises(InputError, match=said):
        SEARCH.rank(None, query, candidates, top)


def test_a_classifier_ranks_nothing():
    pipe = _rig.pipeline(tiny.family("bert"), "full", TextClassification(labels=("a", "b")))
    with pytest.raises(InputError, match="Only a text-similarity model.*'text-classification'"):
        pipe.rank("a", ["b"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "triplets"}, "Did you mean 'triplet'"),
        ({"objective": "cosine", "hard_negatives": True}, "belongs to .* multiple-negatives"),
        ({"objective": "triplet", "symmetric": True}, "belongs to .* multiple-negatives"),
        ({"scale": 0}, "`scale` must be more than 0"),
        ({"margin": -1}, "`margin` must be at least 0"),
        ({"score_range": (5, 0)}, "`score_range` must be more than 5"),
        ({"score_range": 5}, "the lowest and the highest score"),
        ({"pooling": "pooler"}, "`pooling` must be one of"),
        ({"query_prefix": None}, "`query_prefix` is a text"),
        ({"history": "yes"}, "`history` must be one of: True, False"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(InputError, match=said):
        TextSimilarity(**options)


def test_a_decoder_has_no_first_token_to_read():
    with pytest.raises(InputError, match="decoder's first token"):
        _rig.pipeline(tiny.family("gpt2"), "full", dataclasses.replace(SEARCH, pooling="cls"))


def test_pooling_is_of_the_last_hidden_states():
    from kerasft.heads import Pool

    for pooling in ("cls", "last"):
        pipe = small(SEARCH, pooling=pooling, normalize=False)
        features = pipe.encode({"text": TEXTS})
        given = {n: features[n] for n in pipe.inputs}
        sequence = np.asarray(pipe.adapted(given)["sequence_output"])
        expected = np.asarray(Pool(pooling)(sequence, features["padding_mask"]))
        np.testing.assert_allclose(pipe.outputs(features), expected, atol=1e-5)
