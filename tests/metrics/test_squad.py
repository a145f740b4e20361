"""Answers, by hand after the official scripts of SQuAD 1.1 and 2.0 and of CMRC 2018."""

import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.metrics import answer_scores
from kerasft.metrics.squad import answer_f1


def one(gold, answer, **options):
    found = answer_scores([gold], [answer], **options)
    return found["exact_match"], pytest.approx(found["f1"])


@pytest.mark.parametrize(
    "gold, answer, exact, f1",
    [
        (["Denver Broncos"], "the DENVER  broncos.", 100, 100),
        (["Denver Broncos"], "Broncos", 0, 100 * 2 / 3),  # p 1, r 1/2
        (["Denver Broncos"], "Carolina", 0, 0),
        (["a cat and a dog"], "cat, dog", 0, 80),  # p 1, r 2/3: the articles are gone
        (["cat cat dog"], "cat", 0, 50),  # a word counts as often as it stands in both
        (["cat cat dog"], "cat cat", 0, 80),
        (["the-cat"], "cat", 0, 0),  # punctuation goes before the articles: thecat
        (["June 5", "5 June 1999", "1999"], "1999", 100, 100),  # the best gold
        (["June 5", "5 June 1999"], "June", 0, 100 * 2 / 3),
        (["U.S."], "US", 100, 100),
        (["New-York"], "newyork", 100, 100),
        (["other"], "an other", 100, 100),
        (["theatre"], "atre", 0, 0),  # "the" goes as a word alone
        (["$5"], "5", 100, 100),
        (["5 €"], "5", 0, 100 * 2 / 3),  # punctuation is that of ASCII alone
        (["x"], "", 0, 0),
        (["x"], "the", 0, 0),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_by_hand(gold, answer, exact, f1, version):
    assert one(gold, answer, version=version) == (exact, f1)


@pytest.mark.parametrize(
    "gold, answer, first, second",
    [
        (["the"], "", (100, 0), (100, 100)),  # nothing is left of either
        (["the"], "a", (100, 0), (100, 100)),
        (["the", "cat"], "a", (100, 0), (0, 0)),  # 2.0 drops golds of which nothing is left
        (["the"], "cat", (0, 0), (0, 0)),
        ([], "", (100, 0), (100, 100)),
        ([""], "cat", (0, 0), (0, 0)),
    ],
)
def test_the_versions_differ_where_nothing_is_left(gold, answer, first, second):
    assert one(gold, answer, version="1.1") == first
    assert one(gold, answer, version="2.0") == second


def test_no_answer():
    gold = [["cat"], ["big dog"], [], [""]]
    found = answer_scores(gold, ["cat", "dog", "", "fish"])
    assert found == {
        "exact_match": 50.0,
        "f1": pytest.approx((100 + 200 / 3 + 100 + 0) / 4),
        "has_answer_exact_match": 50.0,
        "has_answer_f1": pytest.approx((100 + 200 / 3) / 2),
        "no_answer_accuracy": 50.0,
    }
    assert list(answer_scores(gold[:2], ["cat", "dog"])) == ["exact_match", "f1"]
    nobody = answer_scores([[], []], ["", "x"])
    assert nobody["has_answer_f1"] is None and nobody["no_answer_accuracy"] == 50.0


def test_best_thresholds():
    gold, answers = [["cat"], ["big dog"], [], []], ["cat", "dog", "fish", "bird"]
    # "" everywhere: 2 right. Answering the first: 3. The first two: 3 (f1: 3 + 2/3). All: 1.
    found = answer_scores(gold, answers, [0.1, 0.3, 0.6, 0.9])
    assert (found["best_exact_match"], found["best_exact_match_threshold"]) == (75.0, 0.1)
    assert found["best_f1"] == pytest.approx(100 * (3 + 2 / 3) / 4)
    assert found["best_f1_threshold"] == 0.3
    # what the threshold says is what one gets by it
    kept = [a if p <= 0.3 else "" for a, p in zip(answers, [0.1, 0.3, 0.6, 0.9], strict=True)]
    assert answer_scores(gold, kept)["f1"] == pytest.approx(found["best_f1"])


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_saying_nothing_may_be_best(shift):
    no_answer = np.array([0.5, 0.2]) + shift
    found = answer_scores([["cat"], []], ["cat", "fish"], no_answer)
    assert found["best_f1"] == 50.0
    assert found["best_f1_threshold"] == (0.0 if shift >= 0 else pytest.approx(-4.8))
    assert (no_answer > found["best_f1_threshold"]).all()


@pytest.mark.parametrize(
    "gold, answer, exact, f1",
    [
        (["北京大学"], "北京大学。", 100, 100),
        (["北京大学"], "《北京》大学", 100, 100),
        (["北京大学"], "北京", 0, 100 * 2 / 3),
        (["北京大学"], "大北学京", 0, 25),  # a run, not a bag: one character in a row
        (["用 GPU 训练"], "gpu", 0, 40),  # 用 gpu 训 练: a word outside Chinese is one piece
        (["1997年", "一九九七年"], "九七年", 0, 75),
        (["是"], "不", 0, 0),
        (["是"], "", 0, 0),
        ([], "", 100, 100),
        ([], "是", 0, 0),
    ],
)
def test_chinese_by_hand(gold, answer, exact, f1):
    assert one(gold, answer, language="zh") == (exact, f1)


def test_one_answer():
    assert answer_f1(["the Thames", "London"], "Thames river") == pytest.approx(2 / 3)
    assert answer_f1([], "") == 1.0 and answer_f1([], "x") == 0.0
    assert answer_f1(["北京大学"], "北京", language="zh") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "gold, answers, options, message",
    [
        ([["a"]], ["a", "b"], {}, "1 and 2 rows"),
        ([], [], {}, "at least 1"),
        (["a"], ["a"], {}, "list of strings.*'a' and 'a' at index 0"),
        ([["a"], [1]], ["a", "b"], {}, "at index 1"),
        ([["a"]], [None], {}, "None at index 0"),
        ([["a"]], ["a"], {"version": "3"}, "`version`"),
        ([["a"]], ["a"], {"language": "de"}, "`language`"),
        ([[]], ["a"], {"no_answer": [0.1, 0.2]}, "2 numbers for 1 rows"),
        ([[]], ["a"], {"no_answer": [float("nan")]}, "finite"),
    ],
)
def test_wrong_input(gold, answers, options, message):
    with pytest.raises(InputError, match=message):
        answer_scores(gold, answers, **options)
