"""From shares and files to sources and the record of the split."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.data import DataSpec, make_splits

FIELDS = {"text": "text", "label": "label"}


def rows(count=100, start=0):
    return [
        {"text": f"row {i}", "label": "spam" if i % 4 else "ham"}
        for i in range(start, start + count)
    ]


def texts(source):
    return [text for chunk in source.chunks(16) for text in chunk["text"]]


def csv_file(path, data):
    path.write_text("text,label\n" + "".join(f"{r['text']},{r['label']}\n" for r in data))
    return path


def test_two_shares():
    data = rows()
    sources, split = make_splits(DataSpec(data, 0.2, 0.1), FIELDS, seed=3)
    assert list(sources) == ["train", "validation", "test"] == list(split.names)
    assert split.shares == pytest.approx({"train": 0.7, "validation": 0.2, "test": 0.1})
    assert split.rows == {"train": 70, "validation": 20, "test": 10}
    assert split.counts["validation"] == {"ham": 5, "spam": 15}
    found = [texts(source) for source in sources.values()]
    assert sorted(sum(found, [])) == sorted(row["text"] for row in data)
    for number, part in enumerate(found):
        assert part == [data[i]["text"] for i in np.flatnonzero(split.assignment == number)]


@pytest.mark.parametrize("none", [None, 0, 0.0])
def test_nothing_to_split(none):
    sources, split = make_splits(DataSpec(rows(), none, none), FIELDS)
    assert list(sources) == ["train"] and split.shares == {"train": 1.0}
    assert texts(sources["train"]) == [row["text"] for row in rows()]
    assert split.rows == {"train": 100}


def test_files_and_shares_together(tmp_path):
    train = csv_file(tmp_path / "train.csv", rows(50))
    other = csv_file(tmp_path / "other.csv", rows(10, start=45))
    sources, split = make_splits(DataSpec(train, str(other), 0.2), FIELDS)
    assert list(sources) == ["train", "validation", "test"]
    assert split.names == ("train", "test") and len(split.assignment) == 50
    assert texts(sources["validation"]) == [f"row {i}" for i in range(45, 55)], "nothing is moved"
    assert split.rows == {"train": 40, "validation": 10, "test": 10}
    assert split.sources == {"train": str(train), "validation": str(other), "test": str(train)}
    assert set(split.shares) == {"train", "test"}
    sources, split = make_splits(DataSpec(train, other, other), FIELDS)
    assert split.rows == {"train": 50, "validation": 10, "test": 10}


def test_every_file_is_checked_before_training(tmp_path):
    train = csv_file(tmp_path / "train.csv", rows(50))
    test = csv_file(tmp_path / "test.csv", [*rows(50), {"text": " ", "label": "ham"}])
    with pytest.raises(InputError, match=r"test\.csv, line 52"):
        make_splits(DataSpec(train, 0.1, test), FIELDS)
    sources, _ = make_splits(DataSpec(train, 0.1, test), FIELDS, empty="keep")
    assert texts(sources["test"])[-1] == ""


def test_the_record():
    _, split = make_splits(DataSpec(rows(), 0.1, rows(8)), FIELDS, seed=5)
    record = json.loads(json.dumps(split.to_json()))
    assert record == {
        "names": ["train", "validation"],
        "seed": 5,
        "shares": {"train": 0.9, "validation": 0.1},
        "rows": {"train": 90, "validation": 10, "test": 8},
        "counts": {
            "train": {"ham": 23, "spam": 67},
            "validation": {"ham": 2, "spam": 8},
            "test": {"ham": 2, "spam": 6},
        },
        "sources": dict.fromkeys(("train", "validation", "test"), "the list"),
        "sha256": split.sha256,
    }
    assert len(split.sha256) == 64


def digest(data, seed=0, validation=0.1):
    return make_splits(DataSpec(data, validation), FIELDS, seed)[1].sha256


def test_the_digest_changes_with_whatever_matters():
    data = rows()
    assert digest(data) == digest(list(data))
    edited = [dict(row) for row in data]
    edited[17]["text"] = "another"
    relabelled = [dict(row) for row in data]
    relabelled[17]["label"] = "ham"
    found = {
        digest(data),
        digest(data, seed=1),
        digest(data, validation=0.2),
        digest(edited),
        digest(relabelled),
        digest(data[::-1]),
        digest(data[:-1]),
    }
    assert len(found) == 7
    assert digest(data, validation=None) != digest(relabelled, validation=None)


def test_any_order_of_rows_gives_each_row_its_part():
    data = rows() + rows(30)
    order = np.random.default_rng(0).permutation(len(data))
    _, one = make_splits(DataSpec(data, 0.1, 0.1), FIELDS)
    _, other = make_splits(DataSpec([data[i] for i in order], 0.1, 0.1), FIELDS)
    assert np.array_equal(one.assignment[order], other.assignment)
    part = {}
    for row, number in zip(data, one.assignment):
        assert part.setdefault(row["text"], number) == number


def test_pairs_are_alike_only_if_both_texts_are():
    fields = {"text": "text", "text_pair": "text", "label": "label"}
    data = [{"text": "same", "text_pair": f"t{i}", "label": i % 2} for i in range(40)]
    data += [row | {"text_pair": row["text_pair"].upper()} for row in data]
    _, split = make_splits(DataSpec(data, 0.25), fields)
    assert split.rows == {"train": 60, "validation": 20}
    assert np.array_equal(split.assignment[:40], split.assignment[40:])


def test_several_labels_are_stratified_by_the_rarest():
    data = [{"text": f"t{i}", "label": ["all"] + ["rare"] * (i < 5)} for i in range(95)]
    data += [{"text": f"u{i}", "label": []} for i in range(5)]
    for seed in range(5):
        _, split = make_splits(DataSpec(data, 0.1, 0.1), {"text": "text", "label": "labels"}, seed)
        for part in split.counts.values():
            assert part["rare"] >= 1 and list(part) == ["all", "rare"]
        unlabelled = split.assignment[95:]
        assert set(unlabelled) == {0, 1, 2}, "rows without labels are a stratum too"


def test_scores_are_stratified_by_quantiles():
    rng = np.random.default_rng(0)
    data = {"text": [f"t{i}" for i in range(1000)], "score": rng.lognormal(size=1000)}
    fields = {"text": "text", "score": "number"}
    sources, split = make_splits(DataSpec(data, 0.1, 0.1), fields)
    assert split.counts == {"train": {}, "validation": {}, "test": {}}
    assert split.rows == {"train": 800, "validation": 100, "test": 100}
    edges = np.quantile(data["score"], np.arange(1, 10) / 10)
    for name in ("validation", "test"):
        scores = [s for chunk in sources[name].chunks() for s in chunk["score"]]
        assert np.all(np.abs(np.bincount(np.searchsorted(edges, scores)) - 10) <= 1)


def test_scores_that_are_all_alike():
    data = {"text": [f"t{i}" for i in range(50)], "score": [1.0] * 50}
    _, split = make_splits(DataSpec(data, 0.2), {"text": "text", "score": "number"})
    assert split.rows == {"train": 40, "validation": 10}


def test_a_dataset_that_is_shuffled_anew_each_time():
    data = tf.data.Dataset.from_tensor_slices({k: [r[k] for r in rows()] for k in FIELDS})
    assert make_splits(DataSpec(data, 0.1), FIELDS)[1].rows == {"train": 90, "validation": 10}
    with pytest.raises(InputError, match="another order each time"):
        make_splits(DataSpec(data.shuffle(100), 0.1), FIELDS)
    once = data.shuffle(100, seed=1, reshuffle_each_iteration=False)
    assert make_splits(DataSpec(once, 0.1), FIELDS)[1].rows == {"train": 90, "validation": 10}
    assert make_splits(DataSpec(data.shuffle(100), None), FIELDS)[1].rows == {"train": 100}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.0}, "`validation` must be a share between 0 and 1"),
        ({"validation": -0.1}, "Received: validation=-0.1"),
        ({"validation": float("nan")}, "`validation` must be a share"),
        ({"test": True}, "`test` must be a share"),
        ({"test": 5}, "Received: test=5"),
        ({"validation": 0.5, "test": 0.5}, "must leave rows to train on"),
    ],
)
def test_wrong_shares(options, message):
    with pytest.raises(InputError) as caught:
        DataSpec("a.csv", **options)
    assert message in str(caught.value)


def test_wrong_columns_and_fields():
    with pytest.raises(InputError, match="'txt'; this task has: text, label. Did you mean 'text'"):
        make_splits(DataSpec(rows(), columns={"txt": "body"}), FIELDS)
    with pytest.raises(InputError, match="At least one field must be a text"):
        make_splits(DataSpec(rows()), {"label": "label"})


def test_columns_and_separator_hold_for_every_part():
    data = [{"body": f"t{i}", "tags": "a;b" if i % 2 else "c"} for i in range(20)]
    spec = DataSpec(data, 0.1, data, columns={"text": "body", "label": "tags"}, separator=";")
    sources, split = make_splits(spec, {"text": "text", "label": "labels"})
    assert split.counts["test"] == {"a": 10, "b": 10, "c": 10}
    assert all(set(sum(c["label"], ())) <= {"a", "b", "c"} for c in sources["train"].chunks())


def test_too_few_rows():
    one = [{"text": "a", "label": "x"}, {"text": "A", "label": "y"}]
    with pytest.raises(InputError, match=r"too few rows \(2\) for a validation share of 0.1"):
        make_splits(DataSpec(one, 0.1), FIELDS)


def test_without_labels_nothing_is_stratified():
    data = [{"messages": [f"question {i}", "answer"]} for i in range(40)]
    data += [{"messages": [f"Question {i} ", "ANSWER"]} for i in range(40)]
    sources, split = make_splits(DataSpec(data, 0.25), {"messages": "messages"})
    assert split.rows == {"train": 60, "validation": 20}
    assert split.counts == {"train": {}, "validation": {}}
    assert np.array_equal(split.assignment[:40], split.assignment[40:]), "twins stay together"
    assert sum(len(c["messages"]) for c in sources["validation"].chunks()) == 20
    pairs = [{"text": f"t{i}", "target": f"u{i}"} for i in range(50)]
    _, split = make_splits(DataSpec(pairs, 0.1), {"text": "text", "target": "text"})
    assert split.rows == {"train": 45, "validation": 5}


def test_spans_are_stratified_by_the_rarest_label():
    tagged = [{"tokens": ["a", f"t{i}"], "tags": ["B-all", "B-rare"]} for i in range(5)]
    tagged += [{"tokens": ["a", f"u{i}"], "tags": ["B-all", "O"]} for i in range(85)]
    tagged += [{"tokens": ["a", f"v{i}"], "tags": ["O", "O"]} for i in range(10)]
    for seed in range(5):
        fields = {"text": "text", "spans": "spans", "words": "words"}
        sources, split = make_splits(DataSpec(tagged, 0.1, 0.1), fields, seed)
        for name, part in split.counts.items():
            assert part["rare"] >= 1 and list(part) == ["all", "rare"]
            (chunk,) = sources[name].chunks()
            assert all(w[-1][1] == len(t) for t, w in zip(chunk["text"], chunk["words"]))
        assert set(split.assignment[90:]) == {0, 1, 2}, "rows without spans are a stratum too"


ANSWERED = {"context": "text", "question": "text", "answers": "answers"}


def asked(count, missing):
    rows = [{"context": "It is here.", "question": f"q{i}", "answer": "here"} for i in range(count)]
    for i in missing:
        rows[i]["answer"] = "there"
    return rows


def test_a_row_without_its_answer_has_a_part_but_is_left_out():
    data = asked(40, range(0, 40, 4))
    sources, split = make_splits(DataSpec(data, 0.25, data[:4]), ANSWERED)
    assert split.rows == {"train": 30, "validation": 10, "test": 4} and len(split.assignment) == 40
    left = {}
    for name, source in sources.items():
        questions = [q for chunk in source.chunks() for q in chunk["question"]]
        left[name] = split.rows[name] - len(questions)
        assert source.notes.get("missing answers", 0) == left[name]
        assert not {data[i]["question"] for i in range(0, 40, 4)} & set(questions)
    assert left["train"] + left["validation"] == 10 and left["test"] == 1
    _, whole = make_splits(DataSpec(data, 0.25, data[:4], missing="keep"), ANSWERED)
    assert whole.sha256 == split.sha256
    with pytest.raises(InputError, match="row 5: in column 'answer' an answer out of its context"):
        make_splits(DataSpec(asked(40, [4]), 0.25, missing="error"), ANSWERED)


def test_broken_tags_may_be_refused():
    data = [{"tokens": ["a", f"t{i}"], "tags": ["O", "B-X"]} for i in range(20)]
    data += [{"tokens": ["a", "b"], "tags": ["O", "I-X"]}]
    fields = {"text": "text", "spans": "spans"}
    sources, _ = make_splits(DataSpec(data, 0), fields)
    assert list(sources["train"].chunks()) and sources["train"].notes == {"repaired tags": 1}
    with pytest.raises(InputError, match="the list, row 21: .*'I-X' at token 2"):
        make_splits(DataSpec(data, 0, broken="refuse"), fields)


def test_columns_may_name_what_a_field_is_made_of():
    data = [{"w": ["a", f"t{i}"], "t": ["O", "B-X"]} for i in range(20)]
    spec = DataSpec(data, 0.1, columns={"tokens": "w", "tags": "t"})
    _, split = make_splits(spec, {"text": "text", "spans": "spans"})
    assert split.counts["train"] == {"X": 18}
    with pytest.raises(InputError, match="names the field 'tokens'; this task has: text, label"):
        make_splits(DataSpec(rows(), columns={"tokens": "w"}), FIELDS)
