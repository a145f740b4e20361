"""Tokens and tags become the text and the spans that they were made of, and back."""

import random

import pytest

from kerasft.data.tagged import join, read_tags, scheme_of

CUT = {  # text -> where its tokens lie
    "Ann is in Oslo": [(0, 3), (4, 6), (7, 9), (10, 14)],
    "我爱北京。": [(0, 1), (1, 2), (2, 4), (4, 5)],
    "我用Python 3写代码": [(0, 1), (1, 2), (2, 8), (9, 10), (10, 11), (11, 13)],
    "これはペンです。": [(0, 2), (2, 3), (3, 5), (5, 7), (7, 8)],
    "ｶﾀｶﾅ、Ａ": [(0, 4), (4, 5), (5, 6)],
    "ผมรักเมืองไทย": [(0, 2), (2, 5), (5, 10), (10, 13)],
    "ຂ້ອຍຮັກລາວ": [(0, 4), (4, 7), (7, 10)],
    "ខ្ញុំស្រលាញ់": [(0, 5), (5, 12)],
    "ကျွန်တော်": [(0, 6), (6, 9)],
    "나는 서울 에 ﾡ ﾤ": [(0, 2), (3, 5), (6, 7), (8, 9), (10, 11)],
    "café 𠀀𠀁 ﬁn 👩‍🚀 it": None,
    "“说”": [(0, 1), (1, 2), (2, 3)],
    "Σ и ع": [(0, 1), (2, 3), (4, 5)],
}


@pytest.mark.parametrize("text", [text for text, cut in CUT.items() if cut])
def test_tokens_are_joined_as_the_text_was(text):
    tokens = [text[start:end] for start, end in CUT[text]]
    assert join(tokens) == (text, tuple(CUT[text]))


def test_words_are_code_points():
    text, words = join(["👩‍🚀", "e\u0301", "𠀀", "x"])
    assert text == "👩‍🚀 e\u0301𠀀x" and words == ((0, 3), (4, 6), (6, 7), (7, 8))
    assert join([]) == ("", ())


# --- schemes ------------------------------------------------------------------------------------


def write(spans, count, scheme):
    """The tags of spans of words, written by rules of their own."""
    names = {"iobes": "BIES", "bilou": "BILU", "bmes": "BMES"}
    tags, ended = ["O"] * count, {}
    for start, end, label in spans:
        if scheme in names:
            begin, inside, last, single = names[scheme]
            marks = [single] if end - start == 1 else [begin, *inside * (end - start - 2), last]
        elif scheme == "iob1":
            marks = ["B" if ended.get(start) == label else "I", *"I" * (end - start - 1)]
        else:
            marks = ["B", *"I" * (end - start - 1)]
        tags[start:end] = [f"{mark}-{label}" for mark in marks]
        ended[end] = label
    return tags


def random_spans(rng, count):
    at, spans = 0, []
    while at < count:
        at += rng.choice((0, 0, 1, 2))
        end = at + rng.randint(1, 4)
        if end <= count:
            spans.append((at, end, rng.choice(("PER", "LOC", "geo-loc"))))
        at = end
    return tuple(spans)


READ_AS = {"bio": "bio", "iob1": "iob1", "iobes": "iobes", "bilou": "iobes", "bmes": "iobes"}


@pytest.mark.parametrize("scheme", READ_AS)
def test_tags_give_their_spans_back(scheme):
    rng = random.Random(0)
    rows = []
    for _ in range(300):
        count = rng.randint(1, 12)
        spans = random_spans(rng, count)
        rows.append((spans, write(spans, count, scheme)))
    assert scheme_of(tags for _, tags in rows) == READ_AS[scheme]
    for spans, tags in rows:
        words = tuple((i, i + 1) for i in range(len(tags)))
        assert read_tags(words, tags, READ_AS[scheme]) == (spans, [])


def test_the_scheme_decides_what_is_broken():
    words = tuple((2 * i, 2 * i + 1) for i in range(4))
    tags = ["O", "I-A", "I-A", "B-A"]
    spans = ((2, 5, "A"), (6, 7, "A"))
    assert read_tags(words, tags, "iob1") == (spans, [])
    assert read_tags(words, tags, "bio") == (spans, [1])
    assert read_tags(words, tags, "iobes") == (spans, [1, 3])


@pytest.mark.parametrize(
    ("tags", "scheme", "spans", "broken"),
    [
        (["B-A", "I-B"], "bio", [(0, 1, "A"), (1, 2, "B")], [1]),
        (["O", "I-A", "I-A"], "bio", [(1, 3, "A")], [1]),
        (["B-A", "O", "I-A"], "bio", [(0, 1, "A"), (2, 3, "A")], [2]),
        (["B-A", "B-A"], "bio", [(0, 1, "A"), (1, 2, "A")], []),
        (["B-A", "O"], "iobes", [(0, 1, "A")], [1]),
        (["B-A", "S-B"], "iobes", [(0, 1, "A"), (1, 2, "B")], [1]),
        (["B-A", "I-A"], "iobes", [(0, 2, "A")], [1]),
        (["E-A", "O"], "iobes", [(0, 1, "A")], [0]),
        (["B-A", "L-A", "L-A"], "iobes", [(0, 2, "A"), (2, 3, "A")], [2]),
        (["S-A", "I-A", "E-A"], "iobes", [(0, 1, "A"), (1, 3, "A")], [1]),
    ],
)
def test_broken_tags_are_read_as_they_were_meant(tags, scheme, spans, broken):
    words = tuple((i, i + 1) for i in range(len(tags)))
    assert read_tags(words, tags, scheme) == (tuple(spans), broken)


def test_plain_tags_are_one_span_a_token():
    assert scheme_of([["DET", "NOUN"], ["-LRB-"]]) == "plain"
    words = ((0, 3), (4, 7), (7, 8))
    found = read_tags(words, ["DET", "O", "PUNCT"], "plain")
    assert found == (((0, 3, "DET"), (7, 8, "PUNCT")), [])


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        ([], "bio"),
        ([["O", "O"]], "bio"),
        ([["O", "B-A"]], "bio"),
        ([["I-A"]], "iob1"),
        ([["I-A", "B-A"]], "iob1"),
        ([["I-A"], ["O", "B-A"]], "bio"),
        ([["I-A"], ["S-A"]], "iobes"),
        ([["B-A", "M-A"]], "iobes"),
        ([["B-A", "BA"]], "bio"),
        ([["O"]] * 5000 + [["NOUN"]], "plain"),
    ],
)
def test_scheme(rows, scheme):
    assert scheme_of(rows) == scheme


def test_no_more_rows_are_read_than_it_takes():
    rows = iter([["B-A"]] * 1000 + [["S-A"]])
    assert scheme_of(rows) == "bio" and next(rows) == ["S-A"]


def test_a_tag_that_is_none():
    with pytest.raises(ValueError, match="B-NAME or I-NAME is expected, but token 2 has 'BA'"):
        read_tags(((0, 1), (1, 2)), ["B-A", "BA"], "bio")
