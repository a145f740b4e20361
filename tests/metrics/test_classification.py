"""Scores of classes, against hand-computed values and scikit-learn."""

import itertools
import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from kerasft._core.errors import InputError
from kerasft.metrics import choose_thresholds, multiclass, multilabel, text_report

LABELS = ["ham", "spam"]


def one_hot(y, classes):
    return np.eye(classes)[y]


def random_problem(rows=200, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) + 1.5 * one_hot(y_true, classes)
    probabilities = np.exp(logits)
    return y_true, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_binary_by_hand():
    # right, wrong (spam called ham), right, right: tp 1, fn 1, fp 0, tn 2
    probabilities = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]]
    found = multiclass([0, 1, 1, 0], probabilities, LABELS)
    assert found["accuracy"] == 0.75
    assert found["per_class"]["spam"] == pytest.approx(
        {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
    )
    assert found["per_class"]["ham"]["f1"] == pytest.approx(0.8)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert found["mcc"] == pytest.approx((1 * 2 - 0) / math.sqrt(1 * 2 * 2 * 3))
    assert found["roc_auc"] == 1.0  # 0.8 and 0.4 above 0.3 and 0.1
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean())
    assert found["confusion"] == [[2, 0], [1, 1]]


def test_many_classes_equal_scikit_learn():
    y_true, probabilities = random_problem()
    y_pred = probabilities.argmax(axis=1)
    found = multiclass(y_true, probabilities, list("abcd"))
    for average, name in itertools.product(("macro", "weighted"), ("precision", "recall", "f1")):
        score = getattr(sk, f"{name}_score")
        expected = score(y_true, y_pred, average=average)
        assert found[f"{average}_{name}"] == pytest.approx(expected)
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(y_true, y_pred))
    area = sk.roc_auc_score(y_true, probabilities, multi_class="ovr", average="macro")
    assert found["roc_auc"] == pytest.approx(area)
    assert found["log_loss"] == pytest.approx(sk.log_loss(y_true, probabilities))
    assert found["confusion"] == sk.confusion_matrix(y_true, y_pred).tolist()


@pytest.mark.parametrize("shift, accuracy, mcc, area", [(0, 1.0, 1.0, 1.0), (1, 0.0, -1.0, 0.0)])
def test_perfect_and_worst(shift, accuracy, mcc, area):
    y_true = np.array([0, 1, 1, 0, 1, 0])
    found = multiclass(y_true, one_hot((y_true + shift) % 2, 2), LABELS)
    assert (found["accuracy"], found["macro_f1"]) == (accuracy, accuracy)
    assert found["mcc"] == pytest.approx(mcc)
    assert found["roc_auc"] == area
    assert found["ece"] == 1 - accuracy
    assert math.isfinite(found["log_loss"])


def test_one_class_present_leaves_null_not_nan():
    found = multiclass([1, 1], [[0.2, 0.8, 0], [0.3, 0.7, 0]], ["a", "b", "c"])
    assert found["mcc"] is None and found["roc_auc"] is None
    assert found["macro_f1"] == found["accuracy"] == 1.0
    assert found["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    json.dumps(found, allow_nan=False)


def test_constant_prediction_has_no_correlation():
    assert multiclass([0, 1, 1], [[0.4, 0.6]] * 3, LABELS)["mcc"] == 0.0


def test_absent_class_is_left_out_of_the_mean_area():
    y_true = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.4, 0.3, 0.3], [0.1, 0.8, 0.1]])
    found = multiclass(y_true, probabilities, ["a", "b", "c"])
    areas = [sk.roc_auc_score(y_true == k, probabilities[:, k]) for k in (0, 1)]
    assert found["roc_auc"] == pytest.approx(np.mean(areas))


def test_half_precision_probabilities_are_taken():
    y_true, probabilities = random_problem()
    low = multiclass(y_true, probabilities.astype(np.float16), list("abcd"))
    assert low["log_loss"] == pytest.approx(
        multiclass(y_true, probabilities, list("abcd"))["log_loss"], abs=1e-2
    )


@pytest.mark.parametrize(
    "y_true, probabilities, labels, message",
    [
        ([0, 2], [[1, 0], [1, 0]], LABELS, r"from 0 to 1, .*Received: 2 at index 1"),
        ([0, 0.5], [[1, 0], [1, 0]], LABELS, r"Received: 0.5 at index 1"),
        (["ham"], [[1, 0]], LABELS, r"Received: 'ham' at index 0"),
        ([[0], [1]], [[1, 0], [1, 0]], LABELS, r"shape \[2, 1\]"),
        ([], np.zeros((0, 2)), LABELS, r"n at least 1"),
        ([0], [[1, 0], [1, 0]], LABELS, r"\[1, 2\].*shape \[2, 2\]"),
        ([0], [[1, 0, 0]], LABELS, r"\[1, 2\].*shape \[1, 3\]"),
        ([0], [[3.0, -1.0]], LABELS, r"not logits.*\[3.0, -1.0\] at index 0"),
        ([0], [[float("nan"), 0.5]], LABELS, r"nan.*at index 0"),
        ([0], [[0.4, 0.4]], LABELS, r"sum to 1.*0.8 at index 0"),
        ([0], [[1.0]], ["ham"], r"at least 2 different names"),
        ([0], [[1.0, 0]], ["ham", "ham"], r"different names"),
    ],
)
def test_wrong_input(y_true, probabilities, labels, message):
    with pytest.raises(InputError, match=message):
        multiclass(y_true, probabilities, labels)


def test_multilabel_equals_scikit_learn():
    rng = np.random.default_rng(1)
    y_true, probabilities = rng.integers(0, 2, (60, 3)), rng.random((60, 3))
    thresholds = [0.2, 0.5, 0.8]
    y_pred = (probabilities >= thresholds).astype(int)
    found = multilabel(y_true, probabilities, list("abc"), thresholds)
    for average in ("macro", "micro", "weighted"):
        expected = sk.f1_score(y_true, y_pred, average=average)
        assert found[f"{average}_f1"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y_true, y_pred))
    assert found["hamming_loss"] == pytest.approx(sk.hamming_loss(y_true, y_pred))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y_true, probabilities))
    assert [c["threshold"] for c in found["per_class"].values()] == thresholds
    assert found["per_class"]["b"]["f1"] == pytest.approx(sk.f1_score(y_true[:, 1], y_pred[:, 1]))
    assert found["confusion"] == sk.multilabel_confusion_matrix(y_true, y_pred).tolist()
    json.dumps(found, allow_nan=False)


def test_multilabel_with_one_label_scores_that_label():
    found = multilabel([[1], [0], [1], [0]], [[0.9], [0.8], [0.3], [0.1]], ["a"])
    assert found["macro_f1"] == found["micro_f1"] == found["per_class"]["a"]["f1"] == 0.5
    assert found["confusion"] == [[[1, 1], [1, 1]]]
    assert found["roc_auc"] == 0.75


@pytest.mark.parametrize(
    "y_true, probabilities, thresholds, message",
    [
        ([[2, 0]], [[0.5, 0.5]], None, r"only 0 and 1.*Received: 2"),
        ([1, 0], [[0.5, 0.5]], None, r"shape \[n, 2\]"),
        ([[1, 0]], [[0.5, 1.5]], None, r"not logits"),
        ([[1, 0]], [[0.5, 0.5]], [0.5], r"2 numbers from 0 to 1"),
        ([[1, 0]], [[0.5, 0.5]], [0.5, float("nan")], r"2 numbers from 0 to 1"),
    ],
)
def test_multilabel_wrong_input(y_true, probabilities, thresholds, message):
    with pytest.raises(InputError, match=message):
        multilabel(y_true, probabilities, ["a", "b"], thresholds)


def best_f1_by_force(y_true, probabilities):
    cuts = np.unique(np.concatenate([probabilities, [0.0]]))
    return max(sk.f1_score(y_true, probabilities >= t, zero_division=0) for t in cuts)


@pytest.mark.parametrize("decimals", [1, 2, 9])  # few decimals: many ties
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_thresholds_reach_the_best_f1(decimals, dtype):
    rng = np.random.default_rng(decimals)
    y_true = rng.integers(0, 2, (40, 6))
    probabilities = rng.random((40, 6)).round(decimals).astype(dtype)
    thresholds = choose_thresholds(y_true, probabilities)
    given = probabilities >= thresholds.astype(dtype)
    for k in range(6):
        expected = best_f1_by_force(y_true[:, k], probabilities[:, k])
        assert sk.f1_score(y_true[:, k], given[:, k]) == pytest.approx(expected)


def test_thresholds_beat_one_half_on_rare_labels():
    rng = np.random.default_rng(2)
    y_true = (rng.random((2000, 3)) < 0.05).astype(int)
    probabilities = np.clip(0.1 + 0.2 * y_true + rng.normal(0, 0.05, y_true.shape), 0, 1)
    chosen = multilabel(y_true, probabilities, "abc", choose_thresholds(y_true, probabilities))
    assert multilabel(y_true, probabilities, "abc")["macro_f1"] < 0.1
    assert chosen["macro_f1"] > 0.75


def test_equal_cuts_go_towards_one_half():
    # separable: any cut in (0.1, 0.9] is perfect, and 0.5 is one
    assert choose_thresholds([[1], [0]], [[0.9], [0.1]]) == [0.5]
    # separable away from 0.5: half-way
    assert choose_thresholds([[1], [0]], [[0.4], [0.2]]) == pytest.approx([0.3])
    # the top one and all four both have F1 2/3: under 0.9 there is 0.5, under 0.1 only 0.05
    assert choose_thresholds([[1], [0], [0], [1]], [[0.9], [0.3], [0.2], [0.1]]) == [0.5]


def test_label_without_positives_stays_at_one_half():
    assert choose_thresholds([[0, 1], [0, 0]], [[0.3, 0.3], [0.2, 0.1]])[0] == 0.5


def test_threshold_lies_between_neighbouring_floats():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    threshold = choose_thresholds([[1], [0]], np.array([[high], [low]]))[0]
    assert low < np.float32(threshold) <= high


def test_text_report_is_scikit_learns():
    y_true, probabilities = random_problem()
    y_pred = probabilities.argmax(axis=1)
    expected = sk.classification_report(y_true, y_pred, target_names=list("abcd"), digits=4)
    assert text_report(y_true, y_pred, list("abcd")) == expected


def test_text_report_agrees_with_scores_when_a_class_is_absent():
    y_true, y_pred = [0, 1, 1], [0, 1, 0]
    text = text_report(y_true, y_pred, ["a", "b", "c"])
    found = multiclass(y_true, one_hot(y_pred, 3), ["a", "b", "c"])
    macro = next(line for line in text.splitlines() if "macro avg" in line).split()
    assert float(macro[4]) == pytest.approx(found["macro_f1"], abs=1e-4)
    assert "c" not in {line.split()[0] for line in text.splitlines() if line.strip()}


def test_text_report_wants_equal_lengths():
    with pytest.raises(InputError, match="Received: 2 and 1 rows"):
        text_report([0, 1], [0], LABELS)
