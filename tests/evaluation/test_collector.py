"""A stream of answers becomes a report."""

import tracemalloc

import numpy as np
import pytest

from kerasft import metrics
from kerasft._core.errors import InputError
from kerasft.evaluation import Collector

LABELS = ["ham", "spam", "other"]


def problem(rows=300, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, classes, rows)
    probabilities = np.exp(rng.normal(size=(rows, classes)) + np.eye(classes)[y_true])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return y_true, probabilities.astype(np.float32), [f"text {i}" for i in range(rows)]


def collect(chunk, rows=300, worst=5):
    y_true, probabilities, texts = problem(rows)
    collector = Collector("text-classification", "multiclass", LABELS, worst=worst)
    for i in range(0, rows, chunk):
        part = slice(i, i + chunk)
        collector.add({"text": texts[part]}, y_true[part], probabilities[part])
    return collector


def test_scores_are_those_of_the_whole_set():
    y_true, probabilities, _ = problem()
    report = collect(chunk=7).report(split="validation")
    assert report.after == metrics.multiclass(y_true, probabilities, LABELS)
    expected = metrics.text_report(y_true, probabilities.argmax(axis=1), LABELS)
    assert (report.text, report.rows, report.split) == (expected, 300, "validation")


def test_worst_are_the_most_confidently_wrong():
    y_true, probabilities, texts = problem()
    y_pred = probabilities.argmax(axis=1)
    wrong = [i for i in range(300) if y_pred[i] != y_true[i]]
    wrong.sort(key=lambda i: (-probabilities[i].max(), i))
    expected = [
        {
            "row": i + 1,
            "text": texts[i],
            "expected": LABELS[y_true[i]],
            "predicted": LABELS[y_pred[i]],
            "confidence": float(probabilities[i].max()),
        }
        for i in wrong[:5]
    ]
    assert list(collect(chunk=13).report().worst) == expected


@pytest.mark.parametrize("chunk", [1, 7, 300])
def test_chunks_change_nothing(chunk):
    assert collect(chunk).report() == collect(50).report()


def test_equal_confidence_keeps_the_earlier_row():
    collector = Collector("t", "multiclass", ["a", "b"], worst=2)
    for _ in range(3):
        collector.add({}, [0, 0], [[0.25, 0.75], [0.25, 0.75]])
    assert [example["row"] for example in collector.report().worst] == [1, 2]


def test_right_answers_are_never_among_the_worst():
    collector = Collector("t", "multiclass", ["a", "b"])
    collector.add({"text": ["x", "y"]}, [0, 1], [[0.9, 0.1], [0.1, 0.9]])
    assert collector.report().worst == ()


def test_texts_are_not_kept():
    y_true, probabilities, _ = problem(rows=100)
    collector = Collector("t", "multiclass", LABELS, worst=3)
    tracemalloc.start()
    for _ in range(100):
        texts = ["x" * 10_000 for _ in y_true]  # 1 MB a chunk
        collector.add({"text": texts}, y_true, probabilities)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2_000_000
    worst = collector.report().worst
    assert len(worst) == 3 and len(worst[0]["text"]) == 2001


def test_multilabel():
    collector = Collector("t", "multilabel", ["a", "b"], thresholds=[0.3, 0.5])
    y_true, outputs = [[1, 0], [0, 1], [1, 1]], [[0.35, 0.2], [0.1, 0.05], [0.2, 0.9]]
    collector.add({"text": ["right", "b missed", "a missed"]}, y_true, outputs)
    report = collector.report()
    assert report.after["accuracy"] == pytest.approx(1 / 3)
    assert report.after["per_class"]["a"]["threshold"] == 0.3
    assert [(w["text"], w["expected"], w["predicted"]) for w in report.worst] == [
        ("b missed", ["b"], []),
        ("a missed", ["a", "b"], ["b"]),
    ]
    assert [w["confidence"] for w in report.worst] == pytest.approx([0.95, 0.8])
    assert "micro avg" in report.text


def test_regression():
    collector = Collector("t", "regression")
    collector.add({"text": ["x", "y"]}, [1.0, 2.0], [[1.5], [2.0]])
    collector.add({"text": ["z"]}, [3.0], [0.5])
    report = collector.report()
    assert report.after == metrics.scores([1, 2, 3], [1.5, 2, 0.5])
    assert [(w["text"], w["error"]) for w in report.worst] == [("z", 2.5), ("x", 0.5)]
    assert report.text == "" and report.labels == ()


def test_before_history_and_the_rest_arrive():
    before = collect(50).report().after
    report = collect(50).report(
        before=before, history=[{"epoch": 1, "loss": 0.5}], fit_seconds=2.5, extra={"seed": 0}
    )
    assert report.before == before
    assert report.history == ({"epoch": 1, "loss": 0.5},)
    assert (report.fit_seconds, report.extra) == (2.5, {"seed": 0})


def test_nothing_to_score():
    collector = Collector("t", "multiclass", LABELS)
    collector.add({"text": []}, [], np.zeros((0, 3)))
    with pytest.raises(InputError, match="'test' has no rows"):
        collector.report()


@pytest.mark.parametrize(
    "kind, y_true, outputs, message",
    [
        ("multiclass", [3], [[1, 0, 0]], "from 0 to 2"),
        ("multiclass", [0], [[1, 0]], r"shape \[1, 3\]"),
        ("multiclass", [0], [[np.nan, 0, 0]], "Received: .*nan"),
        ("multiclass", [0], [[5.0, -3.0, 0.1]], "not logits"),
        ("multilabel", [[1, 0]], [[1, 0, 0]], r"\[n, 3\]"),
        ("regression", [1.0, 2.0], [1.0], "1 numbers for 2 rows"),
        ("regression", [1.0], [np.nan], "finite"),
    ],
)
def test_wrong_chunk(kind, y_true, outputs, message):
    with pytest.raises(InputError, match=message):
        Collector("t", kind, LABELS).add({}, y_true, outputs)


def test_field_of_another_length():
    with pytest.raises(InputError, match="'text'.*1 values for 2 rows"):
        Collector("t", "regression").add({"text": ["x"]}, [1.0, 2.0], [1.0, 2.0])


def test_unknown_kind_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'multiclass'"):
        Collector("t", "multi-class", LABELS)
