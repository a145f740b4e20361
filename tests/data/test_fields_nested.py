"""Cells that hold more than one value: lists, spans, answers, chats."""

import numpy as np
import pytest

from kerasft.data import fields


@pytest.mark.parametrize(
    ("cell", "value"),
    [(3, 3), ("3", 3), (3.0, 3), (" 3.0 ", 3), (np.int32(3), 3), (-2, -2), (2**60 + 1, 2**60 + 1)],
)
def test_whole_number(cell, value):
    assert fields.whole_number(cell) == value
    assert type(fields.whole_number(cell)) is int


@pytest.mark.parametrize("cell", [None, "", "abc", 0.5, "0.5", True, "1_0", float("nan"), [1]])
def test_what_is_no_whole_number(cell):
    with pytest.raises(ValueError, match="a whole number is expected"):
        fields.whole_number(cell)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (["b", "a", "b"], ("b", "a", "b")),
        ("b | a|", ("b", "a")),
        ([" kept ", 1], (" kept ", "1")),
        (np.array(["x", "y"]), ("x", "y")),
        ([], ()),
        ("", ()),
        (None, ()),
    ],
)
def test_texts_keep_their_order(cell, value):
    assert fields.texts(cell) == value


@pytest.mark.parametrize("cell", [3, {"a": 1}, ["a", ""], ["a", None], [["a"]], ["\ud800"]])
def test_what_is_no_list_of_texts(cell):
    with pytest.raises(ValueError, match="is expected"):
        fields.texts(cell)


def test_optional_text():
    convert = fields.converter("optional text", "|", False)
    assert [convert(cell) for cell in (None, "", "  ", " a ", 5)] == ["", "", "", " a ", "5"]
    with pytest.raises(ValueError, match="a text is expected"):
        convert(["a"])


SPANS = ((0, 3, "PER"), (3, 5, "LOC"))


@pytest.mark.parametrize(
    "cell",
    [
        [{"start": 0, "end": 3, "label": "PER"}, {"start": 3, "end": 5, "label": "LOC"}],
        [{"label": " LOC", "text": "xy", "end": 5.0, "start": "3"}, (0, 3, "PER")],
        [[3, 5, "LOC"], [0, 3, "PER"]],
        {"start": [3, 0], "end": [5, 3], "label": ["LOC", "PER"]},
        np.array([[0, 3, "PER"], [3, 5, "LOC"]], object),
    ],
)
def test_spans_from_every_form(cell):
    assert fields.spans(cell) == SPANS


def test_no_spans():
    assert fields.spans([]) == fields.spans(None) == ()


def test_a_label_alone_may_be_a_number():
    assert fields.spans([[0, 1, 7]]) == ((0, 1, "7"),)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([[-1, 3, "A"]], "start is -1 and end is 3"),
        ([[3, 3, "A"]], "start is 3 and end is 3"),
        ([[4, 3, "A"]], "start is 4 and end is 3"),
        ([[0, 4, "A"], [3, 5, "B"]], "do not overlap are expected; one ends at 4, the next starts"),
        ([[3, 5, "B"], [0, 9, "A"]], "one ends at 9, the next starts at 3"),
        ([[0, 1, "A"], [0, 1, "A"]], "do not overlap"),
        ([[0.5, 2, "A"]], "a whole number"),
        ([[0, 2, ""]], "a label is expected"),
        ([[0, 2]], "a span"),
        ([{"start": 0, "label": "A"}], "a whole number"),
        (["0-2 A"], "a span"),
        ("0-2 A", "a list is expected"),
        ({"start": [0], "end": [1, 2], "label": ["A"]}, "equally many of start and end and label"),
    ],
)
def test_what_are_no_spans(cell, message):
    with pytest.raises(ValueError) as caught:
        fields.spans(cell)
    assert message in str(caught.value)


def test_words():
    assert fields.words([[0, 2], {"start": 2, "end": 3}]) == ((0, 2), (2, 3))
    assert fields.words(None) == ()
    with pytest.raises(ValueError, match="start is 2 and end is 2"):
        fields.words([[2, 2]])


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ({"text": ["b", "a"], "answer_start": [4, 0]}, ((4, "b"), (0, "a"))),
        (
            [{"text": "b", "answer_start": 4}, {"text": "a", "answer_start": 0}],
            ((4, "b"), (0, "a")),
        ),
        ({"text": "b", "answer_start": 4}, ((4, "b"),)),
        ([{"answer_start": "4", "text": "b", "answer_id": 7}], ((4, "b"),)),
        ([{"text": "b"}], ((-1, "b"),)),
        ([{"text": "b", "answer_start": -9}], ((-1, "b"),)),
        ([], ()),
        (None, ()),
        ({"text": [], "answer_start": []}, ()),
    ],
)
def test_answers(cell, value):
    assert fields.answers(cell) == value


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("Paris", "a list is expected"),
        (["Paris"], "an answer (text and answer_start) is expected"),
        ([{"text": "", "answer_start": 0}], "a text is expected, but it is empty"),
        ([{"text": "a", "answer_start": "x"}], "a whole number"),
        ({"text": ["a"], "answer_start": []}, "equally many of text and answer_start"),
        ({"text": ["a"]}, "a text is expected"),
    ],
)
def test_what_are_no_answers(cell, message):
    with pytest.raises(ValueError) as caught:
        fields.answers(cell)
    assert message in str(caught.value)


CHAT = (("user", "Hi"), ("assistant", "Hello"))


@pytest.mark.parametrize(
    "cell",
    [
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "id": 3}],
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        [{"role": "user", "content": "Hi"}, {"from": "gpt", "value": "Hello"}],
        ["Hi", "Hello"],
        np.array(["Hi", "Hello"], object),
    ],
)
def test_chats_from_every_form(cell):
    assert fields.messages(cell) == CHAT


def test_a_chat_may_begin_with_the_system():
    cell = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    assert fields.messages(cell) == (("system", "Be short."), ("user", "Hi"))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([], "a chat (a list of messages"),
        (None, "a chat (a list of messages"),
        ("Hi", "a chat (a list of messages"),
        ([{"role": "assistant", "content": "Hi"}], "that the user begins, not the assistant"),
        (
            [{"role": "system", "content": "x"}, {"role": "assistant", "content": "Hi"}],
            "that the user begins, not the assistant",
        ),
        (
            [{"role": "user", "content": "Hi"}, {"role": "bot", "content": "Hi"}],
            "one of the roles system, user, assistant is expected in message 2, not 'bot'",
        ),
        ([{"role": 1, "content": "Hi"}], "in message 1, not 1"),
        ([{"role": "user", "content": " "}], "it is empty in message 1"),
        ([{"role": "user", "text": "Hi"}], "role and content are expected in message 1"),
        ([{"role": "user", "content": "Hi"}, 5], "role and content are expected in message 2"),
        (
            [{"role": "user", "content": "Hi"}, {"role": "system", "content": "x"}],
            "a system message at its begin only",
        ),
    ],
)
def test_what_is_no_chat(cell, message):
    with pytest.raises(ValueError) as caught:
        fields.messages(cell)
    assert message in str(caught.value)
