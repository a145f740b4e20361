"""Tags and entities, there and back, and against seqeval's (tests/golden/spans.json)."""

import json
import random
from pathlib import Path

import pytest

from kerasft._core.errors import InputError
from kerasft.preprocessing.tags import SCHEMES, scheme_of, spans_of, tags_of

GOLDEN = Path(__file__).parents[1] / "golden" / "spans.json"


def random_spans(rng, apart=False):
    spans, place = [], 0
    while place < 15:
        start = place + rng.randint(int(apart), 3)
        place = start + rng.randint(1, 4)
        spans.append((rng.choice("AB"), start, place))
    return spans, place + rng.randint(0, 2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_there_and_back(scheme):
    rng = random.Random(0)
    for _ in range(200):
        spans, length = random_spans(rng, apart=scheme == "plain")
        tags = tags_of(spans, length, scheme)
        assert len(tags) == length
        assert spans_of(tags, scheme, "refuse") == (spans, 0)


@pytest.mark.parametrize(
    "scheme, tags",
    [
        ("BIO", "B-A I-A O B-A B-A B-B"),
        ("IOB1", "I-A I-A O I-A B-A I-B"),
        ("IOBES", "B-A E-A O S-A S-A S-B"),
    ],
)
def test_neighbours_by_hand(scheme, tags):
    spans = [("A", 0, 2), ("A", 3, 4), ("A", 4, 5), ("B", 5, 6)]
    assert tags_of(spans, 6, scheme) == tags.split()
    assert spans_of(tags.split(), scheme) == (spans, 0)
    assert scheme_of([tags.split()]) == scheme


def test_plain_tags_join_neighbours_of_one_label():
    assert spans_of(["A", "A", "O", "B"], "plain") == ([("A", 0, 2), ("B", 3, 4)], 0)
    assert tags_of([("A", 0, 1), ("A", 1, 2)], 2, "plain") == ["A", "A"]


@pytest.mark.parametrize("tags", ["B-A L-A O U-A", "B-A E-A O S-A"])
def test_other_letters_of_the_same_scheme(tags):
    assert spans_of(tags.split(), "IOBES", "refuse") == ([("A", 0, 2), ("A", 3, 4)], 0)
    assert scheme_of([tags.split()]) == "IOBES"
    assert spans_of(["B-A", "M-A", "E-A"], "IOBES", "refuse") == ([("A", 0, 3)], 0)


@pytest.mark.parametrize("scheme", ["BIO", "IOBES"])
def test_repaired_as_seqeval_does(scheme):
    case = json.loads(GOLDEN.read_text(encoding="utf-8"))[scheme]
    repaired = 0
    for tags, spans in zip(case["true"], case["spans"], strict=True):
        found, count = spans_of(tags, scheme)
        assert [list(span) for span in found] == spans
        repaired += count
    assert repaired > 10


@pytest.mark.parametrize(
    "scheme, tags, spans, count, message",
    [
        ("BIO", "O I-A I-A", [("A", 1, 3)], 1, "'I-A' cannot follow 'O'.*at token 1"),
        ("BIO", "I-A", [("A", 0, 1)], 1, "'I-A' cannot follow nothing.*at token 0"),
        ("BIO", "B-A I-B I-A", [("A", 0, 1), ("B", 1, 2), ("A", 2, 3)], 2, "at token 1"),
        ("IOBES", "B-A O", [("A", 0, 1)], 1, "'O' cannot follow 'B-A'.*at token 1"),
        ("IOBES", "B-A I-A", [("A", 0, 2)], 1, "the end of the row cannot follow 'I-A'"),
        ("IOBES", "E-A S-A", [("A", 0, 1), ("A", 1, 2)], 1, "'E-A' cannot follow nothing"),
        ("IOBES", "B-A S-A", [("A", 0, 1), ("A", 1, 2)], 1, "'S-A' cannot follow 'B-A'"),
    ],
)
def test_broken_tags(scheme, tags, spans, count, message):
    assert spans_of(tags.split(), scheme, "repair") == (spans, count)
    with pytest.raises(InputError, match=message):
        spans_of(tags.split(), scheme, "refuse")


@pytest.mark.parametrize(
    "rows, scheme",
    [
        ([], "BIO"),
        ([["O", "O"]], "BIO"),
        ([["B-A", "I-A"], ["O"]], "BIO"),
        ([["B-A"], ["I-A"]], "BIO"),  # both ways to begin: broken BIO
        ([["I-A", "I-A"], ["I-B", "I-A", "B-A"]], "IOB1"),
        ([["B-A", "I-A"], ["S-A"]], "IOBES"),
        ([["B-A", "NOUN"]], "plain"),
        ([["DET", "NOUN"]], "plain"),
        ([["X-A", "O"]], "plain"),
        ([["B", "I", "O"]], "plain"),
    ],
)
def test_scheme(rows, scheme):
    assert scheme_of(rows) == scheme


def test_a_label_may_hold_a_dash():
    assert spans_of(["B-MISC-2", "I-MISC-2"], "BIO", "refuse") == ([("MISC-2", 0, 2)], 0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: spans_of(["E-A"], "BIO"), "A tag of BIO is.*'E-A' at token 0"),
        (lambda: spans_of(["O", "B"], "BIO"), "'B' at token 1"),
        (lambda: spans_of(["O"], "bio"), "Did you mean|must be one of"),
        (lambda: spans_of(["O"], "BIO", "drop"), "`broken` must be one of"),
        (lambda: tags_of([("A", 0, 3)], 2, "BIO"), "row of 2 tokens"),
        (lambda: tags_of([("A", 0, 2), ("B", 1, 3)], 4, "BIO"), "not overlap"),
        (lambda: tags_of([("A", 1, 1)], 2, "BIO"), "lie in the row"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
