"""SQuAD files, and answers put where their context holds them."""

import gzip
import json
import random

import pytest

from kerasft._core.errors import InputError
from kerasft.data import open_source, squad

FIELDS = {"id": "text", "title": "text", "context": "text", "question": "text"}
FIELDS |= {"answers": "answers"}
CONTEXT = "中 Ann lives in Oslo."
ROWS = [
    {"id": "a", "title": "T", "context": CONTEXT, "question": "Who?"},
    {"id": "b", "title": "T", "context": CONTEXT, "question": "Why?"},
    {"id": "c", "title": "U", "context": "In 1900.", "question": "When?"},
]
ANSWERS = [((2, "Ann"), (2, "Ann lives")), (), ((3, "1900"),)]
EXPECTED = {name: [row[name] for row in ROWS] for name in ROWS[0]} | {"answers": ANSWERS}


def listed(answers):
    return [{"text": text, "answer_start": start} for start, text in answers]


def qas(*places):
    keys = ("id", "question")
    return [{k: ROWS[i][k] for k in keys} | {"answers": listed(ANSWERS[i])} for i in places]


def squad_file(version="v2.0"):
    first, second = {"context": CONTEXT, "qas": qas(0, 1)}, {"context": "In 1900.", "qas": qas(2)}
    if version == "v2.0":
        impossible = {"is_impossible": True, "plausible_answers": listed([(0, "中")])}
        first["qas"][1] |= impossible
    data = [{"title": "T", "paragraphs": [first]}, {"title": "U", "paragraphs": [second]}]
    return {"version": version, "data": data}


def read(source):
    chunks = list(source.chunks(2))
    return {field: sum((chunk[field] for chunk in chunks), []) for field in source.fields}


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


WAYS = {
    "one line": json.dumps,
    "indented": lambda file: json.dumps(file, indent=1, ensure_ascii=False),
    "version last": lambda file: json.dumps(dict(reversed(file.items())), indent=4),
    "byte order mark": lambda file: "\ufeff\r\n" + json.dumps(file),
    "more keys": lambda file: json.dumps({"a": [1, {"data": 2}], "b": "}"} | file),
}


@pytest.mark.parametrize("version", ["1.1", "v2.0"])
@pytest.mark.parametrize("way", WAYS)
def test_squad_files(tmp_path, version, way):
    path = written(tmp_path / "dev.json", WAYS[way](squad_file(version)))
    assert squad.is_squad(str(path))
    source = open_source(path, FIELDS)
    assert read(source) == EXPECTED == read(source)
    assert source.notes == {} and len(source) == 3
    assert source.where(2) == f"{path}, question 2"


def test_a_question_that_is_impossible_has_no_answers(tmp_path):
    file = squad_file()
    file["data"][1]["paragraphs"][0]["qas"][0]["is_impossible"] = True
    path = written(tmp_path / "dev.json", file)
    assert read(open_source(path, FIELDS))["answers"] == [ANSWERS[0], (), ()]


def json_lines(answers, **more):
    rows = [row | answers(i) | more for i, row in enumerate(ROWS)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def flat(key):
    def answers(place):
        start, text = (ANSWERS[place] or ((None, None),))[0]
        return {key: text, "answer_start": start}

    return answers


def columns_of(place):
    texts, starts = [t for _, t in ANSWERS[place]], [s for s, _ in ANSWERS[place]]
    return {"answers": {"text": texts, "answer_start": starts}}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("answers", [columns_of, lambda i: {"answers": listed(ANSWERS[i])}])
def test_lines_give_the_same_rows(tmp_path, name, answers):
    path = written(tmp_path / name, json_lines(answers, data=[{"x": 1}]))
    assert not squad.is_squad(str(path))
    assert read(open_source(path, FIELDS)) == EXPECTED


def test_a_list_of_rows_under_data(tmp_path):
    rows = [row | columns_of(i) for i, row in enumerate(ROWS)]
    assert read(open_source(written(tmp_path / "a.json", {"data": rows}), FIELDS)) == EXPECTED


@pytest.mark.parametrize("key", ["answer", "answer_text"])
def test_flat_answers(tmp_path, key):
    source = open_source(written(tmp_path / "a.jsonl", json_lines(flat(key))), FIELDS)
    assert read(source) == EXPECTED | {"answers": [((2, "Ann"),), (), ((3, "1900"),)]}
    table = "context,question,key,at\nIn 1900,When?,1900,3\nIn 1900,Who?,,\n"
    path = written(tmp_path / "a.csv", table)
    fields = {"context": "text", "question": "text", "answers": "answers"}
    source = open_source(path, fields, {key: "key", "answer_start": "at"})
    assert read(source)["answers"] == [((3, "1900"),), ()]
    source = open_source(path, fields, {key: "key"})
    assert read(source)["answers"] == [((3, "1900"),), ()] and source.notes == {}


def test_without_any_answers(tmp_path):
    path = written(tmp_path / "a.jsonl", json_lines(lambda _: {}))
    with pytest.raises(InputError, match="no column 'answers'; it has"):
        open_source(path, FIELDS)


def test_packed(tmp_path):
    path = tmp_path / "dev.json.gz"
    path.write_bytes(gzip.compress(json.dumps(squad_file()).encode()))
    assert read(open_source(path, FIELDS)) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [{"paragraphs": [\n{"context": 1]}', "line 2: valid JSON is expected"),
        ({"data": [], "version": 1}, "has no column 'answers'; it has: 'data', 'version'"),
        (
            {"data": [{"paragraphs": {}}]},
            "article 1: a list is expected, as in SQuAD. Received: di",
        ),
        ({"data": [{"paragraphs": [3]}]}, "article 1, paragraph 1: an object is expected"),
        ({"data": [{"paragraphs": [{"context": "a"}]}]}, "`qas` of article 1, paragraph 1: a list"),
        (
            {"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1}]}]}]},
            "article 1, paragraph 1, question 1: a text named 'question' is expected. Received: No",
        ),
        ({"data": [{"question": "a"}]}, "row 1: a text named 'context' is expected"),
        ({"data": [{"paragraphs": []}, 3]}, "article 2: an object is expected"),
    ],
)
def test_broken_files(tmp_path, content, message):
    with pytest.raises(InputError) as caught:
        list(open_source(written(tmp_path / "a.json", content), FIELDS).chunks())
    assert f"a.json{' has' if 'has' in message else ', '}" in str(caught.value)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_broken_utf8_names_its_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(squad_file(), indent=1).encode().replace(b"Why?", b"\xff"))
    with pytest.raises(InputError, match=r"a\.json, line \d\d: UTF-8 .* byte 0xff"):
        open_source(path, FIELDS)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"data": 3}', '{"data": [{"text": "a"}]}', '{"text": "a"}', "{", '{"a" 1}', "x"],
)
def test_what_is_no_squad(tmp_path, content):
    assert not squad.is_squad(str(written(tmp_path / "a.json", content)))


def test_a_long_first_line_is_no_squad(tmp_path):
    row = json.dumps({"text": "long " * 100_000, "data": [{"paragraphs": []}]})
    assert not squad.is_squad(str(written(tmp_path / "a.json", row)))


# --- places -------------------------------------------------------------------------------------


def test_the_nearest_occurrence():
    rng = random.Random(0)
    for _ in range(2000):
        context = "".join(rng.choices("ab", k=rng.randint(1, 12)))
        text = "".join(rng.choices("ab", k=rng.randint(1, 3)))
        start = rng.randint(0, 14)
        there = [i for i in range(len(context)) if context[i : i + len(text)] == text]
        expected = min(there, key=lambda i: (abs(i - start), i), default=-1)
        found = squad.place_answers(context, ((start, text),))
        assert found == (((expected, text),), int(expected not in (-1, start)))


MOVED = [
    {"id": "x", "context": "in Paris, Paris", "answers": [{"text": "Paris", "answer_start": 9}]},
    {"id": "y", "context": "in Paris", "answers": [{"text": "Rome", "answer_start": 3}]},
    {"id": "z", "context": "in Paris", "answers": listed([(3, "Paris"), (0, "Rome")])},
    {"id": "w", "context": "in Paris", "answers": []},
]
PLACED = {"context": "text", "answers": "answers"}


def test_answers_that_moved_or_are_missing(tmp_path):
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in MOVED))
    source = open_source(path, PLACED)
    assert read(source)["answers"] == [((10, "Paris"),), ((3, "Paris"),), ()]
    assert source.notes == {
        "moved answers": 1,
        "missing answers": 2,
        "without their answer": [f"{path}, line 2 (id y)", f"{path}, line 3 (id z)"],
    }
    assert len(source) == source.rows == 4, "the row that is left out is a row of the file"
    assert [p for positions, _ in source.numbered(1) for p in positions] == [1, 3, 4]
    kept = open_source(path, PLACED, missing="keep")
    assert read(kept)["answers"][1:3] == [((-1, "Rome"),), ((3, "Paris"), (-1, "Rome"))]
    assert read(source.every_row()) == read(kept)
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: in column 'answers' .*\(id y\).*Rome"):
        list(open_source(path, PLACED, missing="error").chunks())


def test_notes_list_five_and_are_those_of_the_last_pass():
    rows = [{"context": "a", "answers": [{"text": "b"}]}] * 9 + [{"context": "a", "answers": []}]
    source = open_source(rows, PLACED)
    for _ in range(2):
        assert read(source)["answers"] == [()]
        assert source.notes["missing answers"] == 9
        listed = [f"the list, row {i}" for i in range(1, 6)]
        assert source.notes["without their answer"] == listed


def test_without_the_context_answers_stay_where_they_are():
    assert read(open_source(MOVED, {"answers": "answers"}))["answers"][0] == ((9, "Paris"),)


def test_a_wrong_answer_names_file_and_line(tmp_path):
    path = written(
        tmp_path / "a.jsonl", json.dumps(MOVED[0]) + '\n\n{"context": "", "answers": 3}\n'
    )
    with pytest.raises(InputError, match=r"line 3: in column 'answers' a list is expected, each"):
        list(open_source(path, PLACED, empty="keep").chunks())
    path = written(tmp_path / "a.jsonl", json_lines(lambda i: {"answer": "a", "answer_start": "x"}))
    with pytest.raises(InputError, match=r"line 1: in column 'answer' a whole number is expected"):
        list(open_source(path, PLACED).chunks())
