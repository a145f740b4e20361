"""Extractive answers: spans of tokens, windows that compete, no answer, offsets."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from kerasft import InputError
from kerasft.pipeline import Pipeline
from kerasft.tasks import QuestionAnswering
from kerasft.tasks._spans import OnReal, SpanAccuracy, SpanLoss, best_spans, candidates, spans_of
from kerasft.testing import _rig, tiny

CONTEXT = "the film was good. a bad story and a good film"


@pytest.fixture(scope="module")
def pipe():
    task = QuestionAnswering(max_length=48, max_question=6, overlap=8, head_dropout=0.0)
    return _rig.pipeline(tiny.family("bert"), "full", task)


def with_task(pipe, **options):
    return Pipeline(pipe.model, pipe.tokenizer, dataclasses.replace(pipe.task, **options))


def features_of(start, row=(0,)):
    start = np.array(start, np.int32)
    end = np.where(start >= 0, start + 1, -1).astype(np.int32)
    return {"start": start, "end": end, "row": np.array(row, np.int32)}


def test_best_spans_against_all_spans():
    """Every pair of tokens tried one by one, on random logits."""
    generator = np.random.default_rng(0)
    features = features_of([[-1, -1, 0, 2, 4, 6, 8, -1]])
    for _ in range(20):
        logits = generator.normal(size=(1, 8, 2)).astype(np.float32)
        pairs = {
            (i, j): float(logits[0, i, 0] + logits[0, j, 1])
            for i, j in itertools.product(range(2, 7), repeat=2)
            if 0 <= j - i < 3
        }
        order = sorted(pairs, key=pairs.get, reverse=True)
        found = best_spans(*candidates(logits, features, longest=3), features["row"], 1)
        score, start, end = (v.numpy()[0] for v in found)
        expected = [(features["start"][0, i], features["end"][0, j]) for i, j in order[:5]]
        assert list(zip(start[:5], end[:5], strict=True)) == expected
        np.testing.assert_allclose(score[:5], [pairs[p] for p in order[:5]], rtol=1e-5)


def test_a_span_of_two_windows_counts_once():
    logits = np.zeros((2, 4, 2), np.float32)
    logits[0, 2], logits[1, 1] = 3.0, 5.0
    features = features_of([[-1, 0, 2, 4], [-1, 2, 4, 6]], row=(0, 0))
    found = best_spans(*candidates(logits, features, longest=1), features["row"], 1)
    score, start, _ = (v.numpy()[0].tolist() for v in found)
    real = [s for s, value in zip(start, score, strict=True) if value > -1e8]
    assert real[0] == 2 and score[0] == 10.0 and real.count(2) == 1
    assert sorted(real) == [0, 2, 4, 6]


def test_a_context_of_any_length_takes_little_memory(pipe):
    """Its spans are compared pair by pair, so few of them are."""
    context = "good " * 8_000
    found = with_task(pipe, answers=2).predict([("what?", context)])[0]
    assert len(found["answer"]) == 2 and found["start"] != [-1, -1]


def test_targets_are_the_answers_tokens(pipe):
    features = pipe.encode({"question": ["what was good?"], "context": [CONTEXT]})
    at = CONTEXT.index("bad story")
    found = pipe.task.targets({"answers": [((at, "bad story"),)]}, features)
    for window, (first, last) in enumerate(found.tolist()):
        if (first, last) != (0, 0):
            a, b = features["start"][window, first], features["end"][window, last]
            assert CONTEXT[a:b] == "bad story"
    assert (found != 0).any()
    none = pipe.task.targets({"answers": [()]}, features)
    assert (none == 0).all()


def test_an_answer_that_is_cut_by_the_window_is_none():
    features = features_of([[-1, 0, 2, 4], [-1, 4, 6, 8]], row=(0, 0))
    assert spans_of([((2, "abc"),)], features).tolist() == [[2, 3], [0, 0]]
    assert spans_of([((6, "abc"),)], features).tolist() == [[0, 0], [2, 3]]
    assert spans_of([((4, "abcde"),)], features).tolist() == [[0, 0], [1, 3]]


def test_answers_are_parts_of_the_raw_context(pipe):
    context = "caf\u00e9 \U0001f600  the film\u2028was \ufb01ne"
    for extra in (0, 3):
        asked = [("was it good?", " " * extra + context)]
        found = with_task(pipe, answers=4).predict(asked)[0]
        for part, a, b in zip(found["answer"], found["start"], found["end"], strict=True):
            assert asked[0][1][a:b] == part and part.strip() == part != ""
    first, second = (pipe.predict([("was it good?", s + context)])[0] for s in ("", "   "))
    assert second["start"] == [a + 3 for a in first["start"]]
    assert second["answer"] == first["answer"]


def test_long_contexts_are_read_to_the_end(pipe):
    context = "the film was good. " * 30
    features = pipe.encode({"question": ["what?"], "context": [context]})
    assert len(features["row"]) > 3 and features["token_ids"].shape[1] <= 48
    seen = {p for p in features["start"].ravel().tolist() if p >= 0}
    assert max(seen) == len(context) - 2 and 0 in seen


def test_scores_are_a_distribution_over_spans_and_none(pipe):
    asked = [("what was good?", "bad"), ("what?", "")]
    every = with_task(pipe, answers=20, unanswerable=True).predict(asked)
    assert math.isclose(sum(every[0]["score"]), 1.0, rel_tol=1e-5)
    assert "" in every[0]["answer"] and "bad" in every[0]["answer"]
    assert every[1] == {"answer": [""], "start": [-1], "end": [-1], "score": [1.0]}
    assert with_task(pipe, unanswerable=False).predict(asked)[1]["answer"] == []


def test_the_threshold_decides_between_answer_and_none(pipe):
    asked = [("what was good?", CONTEXT)]
    for threshold, said in ((1e6, True), (-1e6, False)):
        task = with_task(pipe, unanswerable=True, threshold=threshold)
        assert (task.predict(asked)[0]["answer"] != [""]) is said
        features = task.encode({"question": ["what was good?"], "context": [CONTEXT]})
        text, _ = task.task.scores(task.outputs(features), features)[0]
        assert (text != "") is said


def test_the_threshold_is_chosen_on_validation_rows():
    task = QuestionAnswering(unanswerable=True)
    assert task.tunable and not QuestionAnswering().tunable
    scores = [("good", 3.0), ("film", 2.0), ("bad", -1.0), ("story", -2.0)]
    tuned = task.tuned([["good"], ["film"], [], []], scores)
    assert -2.0 <= tuned.threshold < 1.0 and not tuned.tunable
    assert task.untuned.threshold == math.inf


def test_it_learns_to_answer():
    task = QuestionAnswering(max_length=48, max_question=8, head_dropout=0.0)
    pipe = _rig.pipeline(tiny.family("bert"), "full", task)
    rows = _rig.sample(task, 3)
    feed = _rig.feed(pipe, rows=3, batch_size=8)
    losses = _rig.stepped(pipe, 30, batch=next(feed.batches()))
    assert losses[-1] < 0.3 * losses[0]
    asked = {n: rows[n] for n in task.inputs}
    features = pipe.encode(asked)
    found = [text for text, _ in task.scores(pipe.outputs(features), features)]
    for text, right in zip(found, task.truth(rows), strict=True):
        assert text in (right or [text])


def test_loss_and_accuracy_by_hand():
    logits = np.random.default_rng(0).normal(size=(1, 5, 2)).astype(np.float32)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    y = np.array([[1, 3]], np.int32)
    by_hand = -(log_p[0, 1, 0] + log_p[0, 3, 1]) / 2
    np.testing.assert_allclose(SpanLoss().call(y, logits), [by_hand], rtol=1e-5)
    metric = SpanAccuracy()
    metric.update_state(logits.argmax(1), logits)
    metric.update_state(logits.argmax(1) + [[0, 1]], logits)
    assert float(metric.result()) == 0.5


def test_padding_has_no_share_of_the_softmax():
    logits = np.ones((1, 3, 2), np.float32)
    mask = np.array([[1, 1, 0]], np.int32)
    lowered = np.asarray(OnReal()(logits, mask))
    loss = SpanLoss().call(np.array([[0, 1]]), lowered)
    np.testing.assert_allclose(loss, [np.log(2.0)], rtol=1e-6)
    assert float(SpanLoss().call(np.array([[0, 1]]), logits)[0]) > 1.0, "unmasked it would have"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": 0}, "answers"),
        ({"language": "de"}, "must be one of: en, zh"),
        ({"overlap": -1}, "overlap"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        QuestionAnswering(**options)
