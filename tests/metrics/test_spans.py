"""Scores of entities, by hand and against seqeval's (tests/golden/spans.json)."""

import json
from pathlib import Path

import pytest

from kerasft._core.errors import InputError
from kerasft.metrics import entity_scores, token_accuracy
from kerasft.preprocessing.tags import spans_of

GOLDEN = Path(__file__).parents[1] / "golden" / "spans.json"


def test_by_hand():
    true = [[("PER", 0, 2), ("LOC", 3, 4)], [("PER", 0, 1)], []]
    # right, one end too far; label wrong; one invented
    pred = [[("PER", 0, 2), ("LOC", 3, 5)], [("LOC", 0, 1)], [("ORG", 2, 3)]]
    found = entity_scores(true, pred)
    assert found["entity_precision"] == pytest.approx(1 / 4)
    assert found["entity_recall"] == pytest.approx(1 / 3)
    assert found["entity_f1"] == pytest.approx(2 / 7)
    assert found["accuracy"] == 0.0
    assert found["per_class"] == {
        "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "ORG": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
        "PER": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2},
    }
    assert found["macro_f1"] == pytest.approx(2 / 9)
    assert found["macro_precision"] == pytest.approx(1 / 3)
    assert found["macro_recall"] == pytest.approx(1 / 6)


def test_right_answers_are_perfect_and_order_and_repeats_change_nothing():
    true = [[("A", 0, 1), ("B", 1, 3)], [("A", 4, 9)]]
    pred = [[("B", 1, 3), ["A", 0, 1], ("A", 0, 1)], [("A", 4, 9)]]
    found = entity_scores(true, pred)
    assert found["entity_f1"] == found["macro_f1"] == found["accuracy"] == 1.0
    shifted = [[(label, start, end + 1) for label, start, end in row] for row in true]
    assert entity_scores(true, shifted)["entity_f1"] == 0.0


def test_an_entity_of_another_row_is_not_the_same():
    assert entity_scores([[("A", 0, 1)], []], [[], [("A", 0, 1)]])["entity_f1"] == 0.0


@pytest.mark.parametrize("scheme", ["BIO", "IOBES"])
def test_equal_to_seqeval(scheme):
    case = json.loads(GOLDEN.read_text(encoding="utf-8"))[scheme]
    rows = [[spans_of(tags, scheme)[0] for tags in case[side]] for side in ("true", "pred")]
    found, scores = entity_scores(*rows), case["scores"]
    for ours, theirs in (("entity", "micro avg"), ("macro", "macro avg")):
        for name, other in (("f1", "f1-score"), ("precision", "precision"), ("recall", "recall")):
            assert found[f"{ours}_{name}"] == pytest.approx(scores[theirs][other], abs=1e-12)
            assert 0.1 < scores[theirs][other] < 0.9  # a score that says something
    assert set(found["per_class"]) == {"PER", "LOC", "MISC-2"}
    for label, values in found["per_class"].items():
        assert values["f1"] == pytest.approx(scores[label]["f1-score"], abs=1e-12)
        assert values["support"] == scores[label]["support"]


def test_undefined_is_none():
    found = entity_scores([[], []], [[], []], labels=["PER"])
    assert found["entity_f1"] is None and found["macro_f1"] is None
    assert found["accuracy"] == 1.0
    assert found["per_class"]["PER"] == {
        "precision": None,
        "recall": None,
        "f1": None,
        "support": 0,
    }


def test_labels_give_the_order_and_the_absent_ones_do_not_count():
    found = entity_scores([[("B", 0, 1)]], [[("B", 0, 1)]], labels=["B", "A"])
    assert list(found["per_class"]) == ["B", "A"]
    assert found["per_class"]["A"]["f1"] is None
    assert found["macro_f1"] == 1.0


@pytest.mark.parametrize(
    "true, pred, labels, message",
    [
        ([[]], [[], []], None, "1 and 2 rows"),
        ([], [], None, "at least 1"),
        ([[("A", 2, 2)]], [[]], None, r"`y_true`.*Received: \('A', 2, 2\) at index 0"),
        ([[], []], [[], [("A", 0)]], None, r"`y_pred`.*at index 1"),
        ([[("A", 0.5, 2)]], [[]], None, "`y_true`"),
        ([[("A", -1, 2)]], [[]], None, "`y_true`"),
        ([[(3, 0, 2)]], [[]], None, "`y_true`"),
        ([[("A", 0, 2)]], [[]], ["B", "C"], "labels B, C. Received: 'A' at index 0"),
    ],
)
def test_wrong_input(true, pred, labels, message):
    with pytest.raises(InputError, match=message):
        entity_scores(true, pred, labels)


def test_token_accuracy():
    true = [["DET", "NOUN"], [], ["VERB", "X", "X"]]
    assert token_accuracy(true, true) == 1.0
    assert token_accuracy(true, [["DET", "VERB"], [], ["VERB", "X", "Y"]]) == pytest.approx(3 / 5)
    assert token_accuracy([[]], [[]]) is None
    with pytest.raises(InputError, match="1 for 2 at index 0"):
        token_accuracy([["A", "B"]], [["A"]])
