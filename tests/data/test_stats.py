"""What the doctor counts."""

import numpy as np
import pytest

from kerasft.data import duplicates, open_source, quantiles, summarise

FIELDS = {"text": "text", "label": "label"}


def test_summary_of_labels_and_lengths(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n很好,10\nabcd,9\n"",9\n   ,9\n')
    found = summarise(open_source(path, FIELDS, empty="keep"))
    assert found.rows == 4
    assert list(found.labels.items()) == [("9", 3), ("10", 1)]
    assert found.empty == {"text": 2}
    assert found.characters["text"] == {0: 0, 0.25: 0, 0.5: 0, 0.75: 2, 0.95: 4, 0.99: 4, 1: 4}
    assert (found.unlabelled, found.numbers) == (0, {})


def test_summary_of_several_labels_and_numbers():
    rows = [{"text": "ab", "text_pair": "c", "label": tags} for tags in (["a", "b"], [], ["a"])]
    fields = {"text": "text", "text_pair": "text", "label": "labels"}
    found = summarise(open_source(rows, fields))
    assert (found.labels, found.unlabelled) == ({"a": 2, "b": 1}, 1)
    assert set(found.characters) == {"text", "text_pair"}
    scores = open_source({"text": ["a"] * 3000, "s": range(3000)}, {"text": "text", "s": "number"})
    found = summarise(scores)
    assert found.numbers == {"s": {"min": 0.0, "mean": 1499.5, "max": 2999.0}}
    assert (found.rows, found.labels) == (3000, {})


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_quantiles_are_those_of_the_values(size):
    values = np.random.default_rng(size).integers(0, 30, size)
    shares = (0.0, 0.1, 0.25, 0.5, 0.9, 1.0)
    counts = dict(zip(*(part.tolist() for part in np.unique(values, return_counts=True))))
    expected = np.quantile(values, shares, method="inverted_cdf")
    assert list(quantiles(counts, shares).values()) == expected.tolist()


def test_quantiles_of_nothing():
    assert quantiles({}) == {} == quantiles({3: 0})


def test_duplicates_within_and_across():
    def source(*texts):
        return open_source({"text": list(texts)}, {"text": "text"})

    found = duplicates(
        {
            "train": source("a", "A", "b", "价 格"),
            "validation": source("c", "c ", "c"),
            "test": source("B", "b", "价\u3000格", "d", "C"),
        }
    )
    assert found.within == {"train": 1, "validation": 2, "test": 1}
    assert found.across == {"train": {"validation": 0, "test": 3}, "validation": {"test": 1}}
    assert duplicates({"train": source("a")}).across == {}


def test_summary_of_spans_chats_and_lists():
    data = [{"text": "abcd", "spans": [[0, 1, "B"], [1, 2, "A"], [2, 3, "A"]]}, {"text": "ab"}]
    found = summarise(open_source(data, {"text": "text", "spans": "spans", "words": "words"}))
    assert (found.labels, found.unlabelled, found.rows) == ({"A": 1, "B": 1}, 1, 2)
    rows = [{"chat": ["abc", "de"], "more": ["x", "yz"]}, {"chat": ["a"], "note": "", "more": []}]
    fields = {"chat": "messages", "note": "optional text", "more": "texts"}
    found = summarise(open_source(rows, fields))
    assert found.characters["chat"][0.0] == 1 and found.characters["chat"][1.0] == 5
    assert found.characters["more"][1.0] == 3 and found.characters["note"][1.0] == 0
    assert (found.labels, found.unlabelled, found.empty) == ({}, 0, {}), "a note may be empty"
