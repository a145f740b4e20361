"""Splits: disjoint, complete, stratified, the same for any order of rows, twins on one side."""

import unicodedata
from collections import Counter, defaultdict

import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.data import open_source, split_rows, take, text_key, text_keys

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
SPEAKERS = ("user", "assistant")


def made(rows=2000, classes=5, distinct=0.9, seed=0):
    """Keys with repeats, and uneven strata that go with the keys."""
    rng = np.random.default_rng(seed)
    texts = rng.integers(0, 2**64, int(rows * distinct), dtype=np.uint64)
    stratum_of_text = np.minimum(rng.geometric(0.5, len(texts)) - 1, classes - 1)
    chosen = np.concatenate([np.arange(len(texts)), rng.integers(0, len(texts), rows - len(texts))])
    rng.shuffle(chosen)
    return texts[chosen], stratum_of_text[chosen]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Free  PRIZE\n", " free prize", True),
        ("ＡＢＣ１", "abc1", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("Straße", "STRASSE", True),
        ("价格\u3000很好", "价格 很好", True),
        ("价格很好", "价格 很好", False),
        ("a", "b", False),
        ("", " ", True),
    ],
)
def test_text_key(one, other, same):
    assert (text_key(one) == text_key(other)) is same
    assert 0 <= text_key(one) < 2**64


def test_text_key_never_changes():
    # Splits of past releases depend on it.
    assert text_key("Free prize!") == 0x84EF790562B7EF4A
    assert text_key("价格", "很好") == 0x965567B42100256B


def test_text_key_of_several_texts():
    assert text_key("a", "b") != text_key("b", "a") != text_key("a b")
    assert text_key("a b", "c") != text_key("a", "b c")
    assert text_key("a\x1fb") == text_key("a b") != text_key("a", "b")


def test_ascii_is_normalised_like_any_text():
    for code in range(128):
        char = f"a{chr(code)}B"
        slow = " ".join(unicodedata.normalize("NFKC", char).casefold().split())
        assert text_key(char) == text_key(slow)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "shares",
    [SHARES, {"train": 0.5, "test": 0.5}, {"train": 0.97, "validation": 0.0, "test": 0.03}],
)
def test_identities(shares, seed):
    keys, strata = made(seed=seed)
    parts = split_rows(keys, strata, shares, seed)
    assert parts.dtype == np.uint8 and parts.shape == keys.shape
    assert set(parts) == {i for i, share in enumerate(shares.values()) if share}
    sides = defaultdict(set)
    for key, part in zip(keys, parts):
        sides[key].add(part)
    assert all(len(side) == 1 for side in sides.values()), "twins are on one side"
    for stratum in np.unique(strata):
        inside = strata == stratum
        for number, share in enumerate(shares.values()):
            count = np.sum(parts[inside] == number)
            assert abs(count - share * inside.sum()) <= 3, "shares hold within each stratum"
            assert (count > 0) == (share > 0)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(seed):
    keys, strata = made(seed=seed)
    parts = split_rows(keys, strata, SHARES, seed)
    order = np.random.default_rng(seed + 100).permutation(len(keys))
    assert np.array_equal(split_rows(keys[order], strata[order], SHARES, seed), parts[order])


def test_the_seed_matters_and_nothing_else():
    keys, strata = made()
    first = split_rows(keys, strata, SHARES, 1)
    assert np.array_equal(first, split_rows(keys.copy(), strata.copy(), dict(SHARES), 1))
    other = split_rows(keys, strata, SHARES, 2)
    held_out = first > 0
    agree = np.mean(other[held_out] > 0)
    assert 0.1 < agree < 0.3, "two seeds hold out as many common rows as chance would"
    with pytest.raises(InputError, match="seed"):
        split_rows(keys, strata, SHARES, -1)


def test_the_content_matters():
    keys, strata = made(distinct=1.0)
    parts = split_rows(keys, strata, SHARES, 0)
    changed = keys.copy()
    changed[0] += np.uint64(1)
    moved = np.sum(split_rows(changed, strata, SHARES, 0) != parts)
    assert moved <= 3, "one text that is edited moves next to nothing else"
    other = np.random.default_rng(9).integers(0, 2**64, len(keys), dtype=np.uint64)
    assert np.sum(split_rows(other, strata, SHARES, 0) != parts) > 100


def test_a_split_never_changes():
    # Golden: another release must not move rows between train and test.
    keys = np.array([text_key(f"text {i}") for i in range(40)], np.uint64)
    parts = split_rows(keys, np.arange(40) % 2, SHARES, 0)
    assert "".join(map(str, parts)) == "0020020000000000002110000001000010020000"
    twins = split_rows(keys[np.arange(60) % 40], np.zeros(60), {"a": 0.5, "b": 0.5}, 1)
    assert "".join(map(str, twins[:40])) == "1010100011011111100011001100001001010011"


def test_rounding_is_made_up_for_over_the_strata():
    keys, strata = np.arange(1300, dtype=np.uint64), np.arange(1300) % 100
    counts = np.bincount(split_rows(keys, strata, SHARES, 0))
    assert np.all(np.abs(counts - [1040, 130, 130]) <= 2)


@pytest.mark.parametrize("count", range(1, 30))
def test_largest_remainder(count):
    keys = np.arange(count, dtype=np.uint64)
    parts = split_rows(keys, np.zeros(count, int), SHARES, 0)
    counts = np.bincount(parts, minlength=3)
    assert counts.sum() == count
    exact = count * np.array([0.8, 0.1, 0.1])
    if count >= 10:
        assert np.all(np.abs(counts - exact) < 1)
    assert np.all(counts[: min(count, 3)] >= 1), "first train, then the rest"


def test_equal_remainders_go_to_the_first_part():
    for count, share, held_out in ((50, 0.07, 3), (25, 0.14, 3), (30, 0.55, 16), (35, 0.9, 31)):
        shares = {"train": 1 - share, "test": share}
        parts = split_rows(np.arange(count), np.zeros(count), shares, 0)
        assert parts.sum() == held_out


def test_with_fewer_texts_than_parts_the_first_part_comes_first():
    shares = {"train": 0.2, "validation": 0.5, "test": 0.3}
    for keys, parts in (([5], {0}), ([5, 6], {0, 1}), ([5, 6, 7], {0, 1, 2})):
        for seed in range(5):
            assert set(split_rows(keys, [0] * len(keys), shares, seed)) == parts


@pytest.mark.parametrize("share", [0.001, 0.1, 0.4])
def test_every_class_with_three_texts_is_in_each_part(share):
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 9, 50)
    strata = np.repeat(np.arange(50), sizes)
    keys = rng.integers(0, 2**64, len(strata), dtype=np.uint64)
    shares = {"train": 1 - 2 * share, "validation": share, "test": share}
    parts = split_rows(keys, strata, shares, 0)
    for stratum in range(50):
        assert set(parts[strata == stratum]) == {0, 1, 2}


def test_a_text_with_very_many_copies_swamps_no_part():
    for seed in range(20):
        keys = np.concatenate([np.full(500, 7), np.arange(100, 600)]).astype(np.uint64)
        parts = split_rows(keys, np.zeros(1000, int), SHARES, seed)
        assert list(np.bincount(parts)) == [800, 100, 100]


def test_twins_are_held_out_as_often_as_single_texts():
    keys = np.concatenate([np.repeat(np.arange(500), 2), np.arange(1000, 2000)]).astype(np.uint64)
    twins = np.arange(2000) < 1000
    shares = [np.mean(split_rows(keys, np.zeros(2000), SHARES, s)[twins] > 0) for s in range(10)]
    assert 0.17 < np.mean(shares) < 0.23


def test_a_text_of_two_labels_counts_for_the_rarer():
    # The three texts of the rare label 1 also stand under the common label 0.
    keys = np.concatenate([np.arange(100), np.arange(3)]).astype(np.uint64)
    strata = np.concatenate([np.zeros(100, int), np.ones(3, int)])
    for seed in range(10):
        parts = split_rows(keys, strata, SHARES, seed)
        assert set(parts[strata == 1]) == {0, 1, 2}
        assert np.array_equal(parts[:3], parts[100:])


def test_strata_may_have_any_numbers():
    keys, strata = made()
    parts = split_rows(keys, strata, SHARES, 0)
    assert np.array_equal(parts, split_rows(keys, strata * 1000 - 7, SHARES, 0))


@pytest.mark.parametrize("shares", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 0.8, "b": 0.3}])
def test_shares_that_do_not_add_up(shares):
    with pytest.raises(InputError, match="Shares must be"):
        split_rows([1, 2], [0, 0], shares)


def test_no_rows():
    assert split_rows([], [], SHARES).shape == (0,)


def test_take_streams_the_rows_of_a_part(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"row {i},{i % 3}\n" for i in range(100)))
    source = open_source(path, {"text": "text", "label": "label"})
    keys = text_keys(source)
    parts = split_rows(keys, np.arange(100) % 3, SHARES, 0)
    found = Counter()
    for number in range(3):
        part = take(source, parts, number)
        texts = [text for chunk in part.chunks(7) for text in chunk["text"]]
        assert texts == [f"row {i}" for i in np.flatnonzero(parts == number)]
        assert part.rows == len(part) == len(texts)
        found.update(texts)
    assert found == Counter(f"row {i}" for i in range(100)), "disjoint and complete"
    positions = [p for ps, _ in take(source, parts, 1).numbered() for p in ps]
    assert positions == list(np.flatnonzero(parts == 1) + 2), "lines are those of the file"


def test_take_from_a_file_that_has_changed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\na\nb\nc\n")
    source = open_source(path, {"text": "text"})
    part = take(source, np.array([0, 1, 0], np.uint8), 0)
    assert list(part.chunks()) == [{"text": ["a", "c"]}]
    for content in ("text\na\nb\n", "text\na\nb\nc\nd\n"):
        path.write_text(content)
        with pytest.raises(InputError, match="has changed since it was split: 3 rows"):
            list(part.chunks())


@pytest.mark.parametrize(
    ("kind", "one", "twin", "other"),
    [
        ("texts", ["A", "b"], ["a", " B"], ["ab"]),
        ("texts", ["A", "b"], ["a", "b"], ["b", "a"]),
        ("messages", ["Hi", "Yes"], ["hi ", "yes"], ["Hi", "No"]),
        ("messages", ["Hi", "Yes"], ["hi", "yes"], ["Hi Yes"]),
        ("optional text", "A", "a", None),
    ],
)
def test_keys_of_all_that_holds_text(kind, one, twin, other):
    data = [{"x": cell} for cell in (one, twin, other)]
    keys = text_keys(open_source(data, {"x": kind}))
    assert keys[0] == keys[1] != keys[2]


def test_roles_belong_to_the_text():
    chats = [[{"role": "user", "content": "a"}, {"role": r, "content": "b"}] for r in SPEAKERS]
    keys = text_keys(open_source([{"x": chat} for chat in chats], {"x": "messages"}))
    assert keys[0] != keys[1]


def test_a_row_without_its_answer_has_a_key_too():
    data = [{"context": "a", "answers": [{"text": "b"}]}, {"context": "b", "answers": []}]
    source = open_source(data, {"context": "text", "answers": "answers"})
    assert [len(chunk["context"]) for chunk in source.chunks()] == [1]
    assert text_keys(source).tolist() == [text_key("a"), text_key("b")]
