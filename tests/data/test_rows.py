"""Fields made of several columns, columns that may be missing, and what was put right."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.data import check_labels, discover_labels, helpers, open_source

FIELDS = {"text": "text", "spans": "spans", "words": "words"}
TOKENS = [["Ann", "Lee", "likes", "Oslo", "."], ["我", "爱", "北京"], ["No", "one", "here"]]
TAGS = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["O", "O", "B-LOC"], ["O", "O", "O"]]
EXPECTED = {
    "text": ["Ann Lee likes Oslo .", "我爱北京", "No one here"],
    "spans": [((0, 7, "PER"), (14, 18, "LOC")), ((2, 4, "LOC"),), ()],
    "words": [
        ((0, 3), (4, 7), (8, 13), (14, 18), (19, 20)),
        ((0, 1), (1, 2), (2, 4)),
        ((0, 2), (3, 6), (7, 11)),
    ],
}
IOBES = {"B-PER": "B-PER", "I-PER": "E-PER", "B-LOC": "S-LOC", "O": "O"}
IOB1 = {"B-PER": "I-PER", "I-PER": "I-PER", "B-LOC": "I-LOC", "O": "O"}


def read(source, size=2):
    chunks = list(source.chunks(size))
    return {field: sum((chunk[field] for chunk in chunks), []) for field in source.fields}


def rows(tags=TAGS):
    return [{"tokens": t, "tags": g} for t, g in zip(TOKENS, tags)]


def lines(path, data):
    path.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
    return path


def conll(path, tags=TAGS):
    sentences = ["\n".join(map("\t".join, zip(*row))) for row in zip(TOKENS, tags)]
    path.write_text("\n\n".join(sentences), encoding="utf-8")
    return path


def parquet(path):
    pq.write_table(pa.Table.from_pylist(rows()), path)
    return path


def table(path):
    path.write_text(
        "tokens,tags\n"
        + "".join(f"{'|'.join(r['tokens'])},{'|'.join(r['tags'])}\n" for r in rows())
    )
    return path


def dataset(path):
    parts = {name: tf.ragged.constant([row[name] for row in rows()]) for name in rows()[0]}
    return tf.data.Dataset.from_tensor_slices(parts)


MAKE = {
    "conll": lambda folder: conll(folder / "a.conll"),
    "iobes": lambda folder: conll(folder / "a.bio", [[IOBES[t] for t in row] for row in TAGS]),
    "iob1": lambda folder: conll(folder / "a.iob", [[IOB1[t] for t in row] for row in TAGS]),
    "json lines": lambda folder: lines(folder / "a.jsonl", rows()),
    "parquet": lambda folder: parquet(folder / "a.parquet"),
    "csv": lambda folder: table(folder / "a.csv"),
    "list": lambda folder: rows(),
    "columns": lambda folder: {"tokens": TOKENS, "tags": TAGS},
    "frame": lambda folder: pd.DataFrame(rows()),
    "dataset": dataset,
    "source": lambda folder: open_source(rows(), {"tokens": "texts"}),
    "text and spans": lambda folder: [
        {"text": t, "spans": list(map(list, s)), "words": w} for t, s, w in zip(*EXPECTED.values())
    ],
}


@pytest.mark.parametrize("form", MAKE)
def test_every_form_gives_the_same_rows(tmp_path, form):
    source = open_source(MAKE[form](tmp_path), FIELDS)
    assert read(source) == EXPECTED == read(source, 1)
    assert source.notes == {} and len(source) == 3
    assert discover_labels(source) == ("LOC", "PER")
    assert read(open_source(source, FIELDS)) == EXPECTED


def test_rows_given_as_text_and_spans_have_no_words():
    data = [{"text": t, "spans": s} for t, s in zip(EXPECTED["text"], EXPECTED["spans"])]
    assert read(open_source(data, FIELDS)) == EXPECTED | {"words": [()] * 3}


def test_tokens_alone_are_read_as_texts(tmp_path):
    for data in (conll(tmp_path / "a.conll"), [{"tokens": tokens} for tokens in TOKENS]):
        assert read(open_source(data, {"text": "text"})) == {"text": EXPECTED["text"]}
        found = read(open_source(data, {"text": "text", "words": "words"}))
        assert found == {name: EXPECTED[name] for name in ("text", "words")}


def test_a_text_goes_before_tokens():
    data = [{"text": "Ann!", "tokens": ["Ann", "!"], "spans": []}]
    assert read(open_source(data, FIELDS)) == {"text": ["Ann!"], "spans": [()], "words": [()]}
    assert read(open_source(data, {"text": "text"})) == {"text": ["Ann!"]}
    tagged = [data[0] | {"spans": None, "tags": ["B-PER", "O"]}]
    assert read(open_source(tagged, FIELDS))["spans"] == [((0, 3, "PER"),)]


def test_columns_of_tokens_and_tags():
    data = [{"words": t, "ner": g, "id": i} for i, (t, g) in enumerate(zip(TOKENS, TAGS))]
    names = {"tokens": "words", "tags": "ner", "words": "nothing", "other": "x"}
    source = open_source(data, FIELDS | {"id": "whole"}, names)
    assert read(source) == EXPECTED | {"id": [0, 1, 2]}
    assert helpers(FIELDS) == ("tokens", "tags") and helpers({"text": "text"}) == ()
    assert "answer_start" in helpers({"answers": "answers"})


def test_plain_tags_are_a_span_a_token(tmp_path):
    source = open_source(conll(tmp_path / "a.conll", [["X"] * len(t) for t in TOKENS]), FIELDS)
    found = read(source)
    assert [[span[:2] for span in row] for row in found["spans"]] == list(map(list, found["words"]))
    assert discover_labels(source) == ("X",)


# --- wrong tags ---------------------------------------------------------------------------------

BROKEN = [TAGS[0], ["O", "I-LOC", "O"], ["I-PER", "O", "I-LOC"]]


def test_broken_tags_are_repaired_and_counted(tmp_path):
    source = open_source(conll(tmp_path / "a.conll", BROKEN), FIELDS)
    for _ in range(2):
        assert read(source)["spans"][1:] == [((1, 2, "LOC"),), ((0, 2, "PER"), (7, 11, "LOC"))]
        assert source.notes == {"repaired tags": 3}


def test_notes_are_those_of_the_last_whole_pass():
    data = rows(BROKEN)
    source = open_source(data, FIELDS)
    read(source)
    next(source.chunks(2))
    assert source.notes == {"repaired tags": 3}, "a pass that was broken off counts nothing"
    for row, tags in zip(data, TAGS):
        row["tags"] = tags
    assert read(source) == EXPECTED and source.notes == {}


def test_broken_tags_are_refused_with_their_line(tmp_path):
    path = conll(tmp_path / "a.conll", BROKEN)
    source = open_source(path, FIELDS, broken="refuse")
    with pytest.raises(InputError) as caught:
        read(source)
    message = str(caught.value)
    assert f"{path}, line 7: in columns 'tokens' and 'tags' tags of the scheme BIO" in message
    assert "'I-LOC' at token 2 ('爱') breaks it" in message
    with pytest.raises(InputError, match="breaks it"):
        read(open_source(source, FIELDS))  # a source keeps how it is read
    assert read(open_source(source, FIELDS, broken="repair"))["text"] == EXPECTED["text"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"tokens": ["a", "b"], "tags": ["O"]},
            "in columns 'tokens' and 'tags' as many tags as tokens are expected, but there are "
            "2 tokens and 1 tags. Received: (['a', 'b'], ['O'])",
        ),
        ({"tokens": ["a"], "tags": ["BA"]}, "B-NAME or I-NAME is expected, but token 1 has 'BA'"),
        ({"tokens": ["a"], "tags": None}, "1 tokens and 0 tags"),
        ({"tokens": [""], "tags": ["O"]}, "in column 'tokens' a text is expected, but it is empty"),
        ({"tokens": ["a"], "tags": [{}]}, "in column 'tags' a text is expected"),
        ({"tokens": [], "tags": []}, "a text is expected, but it has no tokens"),
        ({"tags": ["O"]}, "0 tokens and 1 tags"),
    ],
)
def test_wrong_tokens_and_tags_name_file_and_line(tmp_path, row, message):
    source = open_source(lines(tmp_path / "a.jsonl", [*rows(), row, row]), FIELDS)
    with pytest.raises(InputError) as caught:
        read(source)
    assert "a.jsonl, line 4: in column" in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_row_of_tokens_may_be_kept():
    source = open_source([*rows(), {"tokens": [], "tags": []}], FIELDS, empty="keep")
    assert {name: found[-1] for name, found in read(source).items()} == {
        "text": "",
        "spans": (),
        "words": (),
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "abc", "spans": [[1, 4, "A"]]}, "one ends at 4 and the text has 3 characters"),
        ({"text": "中𠀀", "spans": [[0, 3, "A"]]}, "one ends at 3 and the text has 2 characters"),
        ({"text": "abc", "spans": [[2, 1, "A"]]}, "in column 'spans' 0 <= start < end is expected"),
        ({"text": "", "spans": []}, "in column 'text' a text is expected, but it is empty"),
    ],
)
def test_wrong_spans_name_file_and_line(tmp_path, row, message):
    good = {"text": "中𠀀", "spans": [[0, 2, "A"]]}
    path = lines(tmp_path / "a.jsonl", [good, good, row])
    with pytest.raises(InputError) as caught:
        read(open_source(path, FIELDS))
    assert "a.jsonl, line 3: " in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "cell", "message"),
    [
        ("whole", "1.5", "a whole number is expected"),
        ("texts", ["a", None], "a text is expected"),
        ("messages", [{"role": "assistant", "content": "a"}], "that the user begins"),
        ("messages", [{"role": "bot", "content": "a"}], "one of the roles system, user, assistant"),
        ("optional text", ["a"], "a text is expected"),
        ("words", [[3, 3]], "0 <= start < end is expected"),
        ("answers", [{"text": "a", "answer_start": "b"}], "a whole number is expected"),
    ],
)
def test_every_kind_names_file_and_line(tmp_path, kind, cell, message):
    path = lines(tmp_path / "a.jsonl", [{"a": cell}])
    with pytest.raises(InputError) as caught:
        read(open_source(path, {"a": kind}))
    assert "a.jsonl, line 1: in column 'a' " in str(caught.value) and message in str(caught.value)


def test_wrong_arguments():
    with pytest.raises(InputError, match="`broken` must be one of: repair, refuse"):
        open_source(rows(), FIELDS, broken="repare")
    with pytest.raises(InputError, match="`missing` must be one of: drop, error, keep"):
        open_source(rows(), FIELDS, missing="skip")
    with pytest.raises(InputError, match="no column 'spans'; it has: 'text'"):
        open_source([{"text": "a"}], FIELDS)
    with pytest.raises(InputError, match="no column 'text'; it has: 'txt'"):
        open_source([{"txt": "a"}], FIELDS)
    with pytest.raises(InputError, match="no column 'tags'"):
        open_source([{"tokens": ["a"]}], FIELDS)


def test_unknown_labels_of_spans_name_the_row():
    with pytest.raises(InputError, match=r"the list, row 1: .*one of: PER. Received: 'LOC'"):
        check_labels(open_source(rows()[1:] + rows()[:1], FIELDS), ("PER",))


# --- columns that may be missing ----------------------------------------------------------------

OPTIONAL = {"text": "text", "system": "optional text"}


def forms(folder, data):
    frame, names = pd.DataFrame(data), list(data[0])
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_csv(folder / "a.tsv", index=False, sep="\t")
    frame.to_parquet(folder / "a.parquet")
    yield from (folder / f"a.{end}" for end in ("csv", "tsv", "parquet"))
    yield lines(folder / "a.jsonl", data)
    yield from (data, frame, {n: [row[n] for row in data] for n in names})
    columns = tuple(np.array([row[n] for row in data]) for n in names)
    yield columns
    yield np.array(list(zip(*columns)), [(n, "U9") for n in names])
    yield tf.data.Dataset.from_tensor_slices(dict(zip(names, columns)))


def test_a_column_that_may_be_missing(tmp_path):
    for data in forms(tmp_path, [{"text": "a"}, {"text": "b"}]):
        assert read(open_source(data, OPTIONAL)) == {"text": ["a", "b"], "system": ["", ""]}
    for data in forms(tmp_path, [{"text": "a", "system": "x"}, {"text": "b", "system": ""}]):
        assert read(open_source(data, OPTIONAL)) == {"text": ["a", "b"], "system": ["x", ""]}


def test_a_key_that_comes_later_is_read(tmp_path):
    data = [{"text": "a"}, {"text": "b", "system": "x"}]
    for form in (data, lines(tmp_path / "a.jsonl", data)):
        assert read(open_source(form, OPTIONAL)) == {"text": ["a", "b"], "system": ["", "x"]}


def test_nothing_but_optional_columns(tmp_path):
    for data in forms(tmp_path, [{"text": "a"}]):
        if not isinstance(data, tuple):
            assert read(open_source(data, {"x": "optional text"})) == {"x": [""]}
