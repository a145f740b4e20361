"""Reports of entities, answers, texts, likelihoods, rankings and likenesses."""

import json

import numpy as np
import pytest

from kerasft import metrics
from kerasft._core.errors import InputError
from kerasft.evaluation import Collector, Report, _tables
from kerasft.evaluation._kinds import KINDS
from kerasft.metrics.generation import chrf

# kind -> (right answers, outputs, places of the worst, from the worst on)
CASES = {
    "entities": (
        [[("PER", 0, 2)], [("LOC", 1, 2), ("PER", 3, 4)], [], [("LOC", 0, 1)], []],
        [[("PER", 0, 2)], [("PER", 1, 2)], [("LOC", 5, 6)], [("LOC", 0, 1)], []],
        [1, 2],
    ),
    "answers": (
        [["the cat"], ["big dog", "dog house"], [], [""], ["fish"]],
        [("cat", 0.9), ("dog", 0.7), ("bird", 0.6), ("", 0.2), ("bird", 0.4)],
        [2, 4, 1],
    ),
    "generation": (
        ["the cat sat here", "a dog barked", "我喜欢这本书", "same", "other"],
        ["the cat sat there", "", "我喜欢那本书", "same", "brother"],
        None,
    ),
    "perplexity": ([4, 2, 0, 10, 1], [4.0, 6.0, 0.0, 5.0, 0.0], [1, 0, 3]),
    "ranking": (
        [[0, 1], [1, 0, 0], [0, 0], [1, 0, 2], [0, 0, 0, 1]],
        [[0.9, 0.1], [0.9, 0.1, 0.2], [1, 2], [0.1, 0.3, 0.2], [0.5, 0.5, 0.5, 0.5]],
        [4, 0, 3],
    ),
    "similarity": ([5.0, 0.0, 3.0, 1.0, 4.0], [0.9, 0.1, 0.2, 0.3, 0.5], []),
}
EXPECTED = {
    "entities": lambda y, o: metrics.entity_scores(y, o),
    "generation": lambda y, o: metrics.generation_scores(y, o),
    "ranking": lambda y, o: metrics.ranking_scores(y, o),
    "similarity": lambda y, o: {
        "spearman": metrics.spearman(y, o),
        "pearson": metrics.pearson(y, o),
    },
    "perplexity": lambda y, o: {"perplexity": np.exp(15 / 17), "nll": 15 / 17, "tokens": 17},
}
HEADLINES = {
    "entities": "entity_f1",
    "answers": "exact_match f1",
    "generation": "bleu chrf rouge_l",
    "perplexity": "perplexity",
    "ranking": "mrr",
    "similarity": "spearman",
}


def collect(kind, chunk=2, worst=5, **options):
    y_true, outputs, _ = CASES[kind]
    collector = Collector("a-task", kind, worst=worst, **options)
    for i in range(0, len(y_true), chunk):
        part = slice(i, i + chunk)
        texts = [f"text {j}" for j in range(len(y_true))[part]]
        collector.add({"text": texts}, y_true[part], outputs[part])
    return collector


def test_every_kind_is_tested_here_or_with_the_collector():
    assert set(KINDS) == {"multiclass", "multilabel", "regression", *CASES}
    assert set(HEADLINES) == set(CASES)


@pytest.mark.parametrize("kind", EXPECTED)
def test_scores_are_those_of_the_metrics(kind):
    y_true, outputs, _ = CASES[kind]
    report = collect(kind).report()
    expected = EXPECTED[kind](y_true, outputs)
    numbers = {k: v for k, v in expected.items() if not isinstance(v, dict)}
    assert {k: report.after[k] for k in numbers} == pytest.approx(numbers)
    assert set(report.after) == set(expected)


@pytest.mark.parametrize("kind", CASES)
def test_chunks_change_nothing(kind):
    assert collect(kind, 1).report() == collect(kind, 5).report() == collect(kind, 3).report()


@pytest.mark.parametrize("kind", CASES)
def test_headline_keys_are_at_the_top_of_metrics_json(kind):
    found = collect(kind).report().to_json()
    for key in HEADLINES[kind].split():
        assert isinstance(found[key], float)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("kind", CASES)
def test_the_worst_come_first(kind):
    worst = collect(kind).report().worst
    errors = [example["error"] for example in worst]
    assert errors == sorted(errors, reverse=True) and all(error > 0 for error in errors)
    if CASES[kind][2] is not None:
        assert [example["row"] - 1 for example in worst] == CASES[kind][2]
        assert [example["text"] for example in worst] == [f"text {i}" for i in CASES[kind][2]]


@pytest.mark.parametrize("kind", CASES)
def test_report_prints_saves_and_loads(kind, tmp_path):
    report = collect(kind).report(before=collect(kind, worst=0).report().after)
    written = report.save(tmp_path / "run")
    assert Report.load(tmp_path / "run") == report
    assert ("classes.png" in written) == (kind == "entities")
    text = (tmp_path / "run" / "report.txt").read_text(encoding="utf-8")
    assert HEADLINES[kind].split()[0] in text
    assert ("Largest errors" in text) == bool(report.worst)
    assert all(len(line) <= 100 for line in text.splitlines())


def test_what_is_told_of_wrong_rows():
    first = {kind: collect(kind, worst=1).report().worst for kind in CASES}
    assert first["entities"][0] == {
        "row": 2,
        "text": "text 1",
        "expected": [
            {"label": "LOC", "start": 1, "end": 2},
            {"label": "PER", "start": 3, "end": 4},
        ],
        "predicted": [{"label": "PER", "start": 1, "end": 2}],
        "error": 3,
    }
    assert first["answers"][0] == {
        "row": 3,
        "text": "text 2",
        "expected": "",
        "predicted": "bird",
        "error": 1.0,
        "score": 0.6,
    }
    assert first["generation"][0]["predicted"] == ""
    assert first["perplexity"][0] == {"row": 2, "text": "text 1", "tokens": 2, "error": 3.0}
    assert first["ranking"][0]["expected"] == [3] and first["ranking"][0]["error"] == 0.75
    report = Report("t", "entities", {}, worst=first["entities"])
    text = printed(report)
    assert "row 2, error 3: predicted PER 1-2 instead of LOC 1-2 + PER 3-4" in text
    assert "predicted bird instead of nothing" in printed(
        Report("t", "answers", {}, worst=first["answers"])
    )
    unlikely = printed(Report("t", "perplexity", {}, worst=first["perplexity"]))
    assert "row 2, error 3.0000\n  text 1" in unlikely


def printed(report):
    return _tables.as_text(report)


def test_generation_is_wrong_by_chrf():
    y_true, outputs, _ = CASES["generation"]
    worst = collect("generation").report().worst
    for example in worst:
        i = example["row"] - 1
        assert example["error"] == pytest.approx(1 - chrf(y_true[i], outputs[i]) / 100)
    assert [example["row"] for example in worst if example["expected"] == "same"] == []


def test_thresholds_of_answers_are_scores():
    y_true, outputs, _ = CASES["answers"]
    found = collect("answers").report().after
    assert found["exact_match"] == 40.0 and found["no_answer_accuracy"] == 50.0
    threshold = found["best_f1_threshold"]
    assert threshold == 0.7  # the cat and the dog stay, the bird goes
    kept = [text if score >= threshold else "" for text, score in outputs]
    assert metrics.answer_scores(y_true, kept)["f1"] == pytest.approx(found["best_f1"])


@pytest.mark.parametrize("shift", [-7.0, 0.0, 7.0])
def test_saying_nothing_has_a_threshold_too(shift):
    collector = Collector("t", "answers")
    scores = [0.9 + shift, 0.3 + shift]
    collector.add({}, [[], ["cat"]], [("dog", scores[0]), ("cat", scores[1])])
    found = collector.report().after
    assert found["best_f1"] == 50.0 and found["best_f1_threshold"] > max(scores)


def test_options_arrive():
    zh = Collector("t", "answers", options={"language": "zh"})
    zh.add({}, [["北京大学"]], [("北京", 1.0)])
    assert zh.report().after["f1"] == pytest.approx(100 * 2 / 3)
    assert zh.report().worst[0]["error"] == pytest.approx(1 / 3)
    old = Collector("t", "answers", options={"version": "1.1"})
    old.add({}, [["the"]], [("", 1.0)])
    assert old.report().after["f1"] == 0.0
    text = Collector("t", "generation", options={"language": "zh"})
    text.add({}, ["plain"], ["plain"])
    assert text.report().after["settings"]["language"] == "zh"
    ranking = Collector("t", "ranking", options={"k": (3,)})
    ranking.add({}, [[1, 0]], [[1, 0]])
    assert ranking.report().after["ndcg_at_3"] == 1.0


def test_labels_of_entities_are_all_told():
    collector = Collector("t", "entities", ["PER", "ORG"])
    collector.add({}, [[("PER", 0, 1)]], [[]])
    report = collector.report()
    assert list(report.after["per_class"]) == ["PER", "ORG"]
    assert "2 kinds of entities" in printed(report)


def test_what_counts_things_is_neither_better_nor_worse():
    before, after = {"tokens": 5, "nll": 2.0, "bleu": 1.0}, {"tokens": 7, "nll": 1.0, "bleu": 2.0}
    styles = {n: _tables._change(n, before[n], after[n]).style for n in before}
    assert styles == {"tokens": "", "nll": "green", "bleu": "green"}


@pytest.mark.parametrize(
    "kind, y_true, outputs, message",
    [
        ("entities", [[]], [[], []], "2 lists for 1 rows"),
        ("entities", [[("A", 1, 0)]], [[]], "`y_true`"),
        ("answers", [["a"]], ["a"], r"pair \(string, score\). Received: 'a' at index 0"),
        ("answers", [["a"]], [("a", "b")], "`scores`"),
        ("answers", [["a"]], [("a", float("nan"))], "finite"),
        ("answers", ["a"], [("a", 1.0)], "list of strings"),
        ("answers", [["a"], ["b"]], [("a", 1.0)], "2 and 1 rows"),
        ("generation", ["a"], ["a", "b"], "1 and 2 rows"),
        ("generation", ["a"], [None], "must be strings"),
        ("perplexity", [1, 2], [0.5], "2 numbers from 1 on and 1 from"),
        ("perplexity", [1.5], [0.5], "number of tokens"),
        ("perplexity", [1], [-0.5], "at least 0"),
        ("perplexity", [1], [np.inf], "finite"),
        ("ranking", [[1], []], [[1], []], "empty candidate list at index 1"),
        ("ranking", [[1, 0]], [[1]], "2 relevances"),
        ("similarity", [1.0], [0.5, 0.5], "2 numbers for 1 rows"),
        ("similarity", [1.0], [np.nan], "finite"),
    ],
)
def test_wrong_chunk(kind, y_true, outputs, message):
    with pytest.raises(InputError, match=message):
        Collector("t", kind).add({}, y_true, outputs)


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("generation", {"lang": "zh"}, "an option of generation.*Did you mean 'language'"),
        ("generation", {"language": "chinese"}, "`language`"),
        ("answers", {"version": "3.0"}, "`version`"),
        ("multiclass", {"k": 1}, "an option of multiclass"),
        ("entities", {"thresholds": 1}, "an option of entities"),
    ],
)
def test_wrong_options(kind, options, message):
    with pytest.raises(InputError, match=message):
        Collector("t", kind, ["a", "b"], options=options)


def test_label_that_no_entity_has():
    with pytest.raises(InputError, match="labels PER, LOC. Received: 'ORG'"):
        Collector("t", "entities", ["PER", "LOC"]).add({}, [[]], [[("ORG", 0, 1)]])
