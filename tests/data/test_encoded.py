"""Rows of ids: flat in memory or on disk, padded to a batch and back."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kerasft.data import Encoded, encode_rows
from kerasft.preprocessing import by_row

PAD = 9


def encode(rows):
    """A stand-in for a tokenizer: a text of n letters is n ids, padded with 9."""
    width = max((len(text) for text in rows["text"]), default=1) or 1
    ids = np.full((len(rows["text"]), width), PAD, np.int32)
    mask = np.zeros_like(ids)
    for i, text in enumerate(rows["text"]):
        ids[i, : len(text)] = [ord(c) - 96 for c in text]
        mask[i, : len(text)] = 1
    return {"token_ids": ids, "segment_ids": ids * mask % 2, "padding_mask": mask}


def task(targets, tokenwise=False, sides=1):
    """What `encode_rows` asks of a task."""
    return SimpleNamespace(targets=targets, tokenwise=tokenwise, sides=sides)


def lengths(rows, features):
    return np.array([len(text) for text in rows["text"]], np.int32)


CHUNKS = [{"text": ["abc", "a"]}, {"text": ["", "hello", "xy"]}, {"text": ["z"]}]
TEXTS = [text for chunk in CHUNKS for text in chunk["text"]]


def made(limit=10**6):
    return encode_rows(iter(CHUNKS), encode, task(lengths), pad=PAD, limit=limit)


def test_rows_are_kept_without_padding():
    rows = made()
    assert len(rows) == 6
    assert rows.lengths.tolist() == [3, 1, 0, 5, 2, 1]
    assert rows.targets.tolist() == [3, 1, 0, 5, 2, 1]
    assert "".join(chr(i + 96) for i in rows.ids["token_ids"]) == "".join(TEXTS)
    assert set(rows.ids) == {"token_ids", "segment_ids"}, "the mask is made from the lengths"
    assert {ids.dtype for ids in rows.ids.values()} == {np.dtype("int32")}


@pytest.mark.parametrize("limit", [10**6, 5, 0])
def test_a_batch_is_what_was_encoded(limit):
    """In memory, partly on disk, and all on disk."""
    rows = made(limit)
    assert (rows.folder is None) == (limit == 10**6)
    for chosen in ([0, 3], [4, 4, 1], [2], [5, 0, 1, 2, 3, 4]):
        expected = encode({"text": [TEXTS[i] for i in chosen]})
        got = rows.batch(np.array(chosen))
        assert set(got) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value, err_msg=name)
            assert got[name].dtype == np.int32


def test_a_fixed_width():
    got = made().batch(np.array([0, 2]), length=6)
    assert got["token_ids"].tolist() == [[1, 2, 3, 9, 9, 9], [9] * 6]
    assert got["padding_mask"].sum(1).tolist() == [3, 0]
    assert got["segment_ids"].tolist() == [[1, 0, 1, 0, 0, 0], [0] * 6]


def test_the_folder_on_disk_goes_with_the_rows():
    rows = made(0)
    folder = Path(rows.folder.name)
    assert {p.name for p in folder.iterdir()} == {"token_ids", "segment_ids"}
    del rows
    assert not folder.exists()


def test_no_rows():
    rows = encode_rows(iter([]), encode, task(lengths))
    assert len(rows) == 0
    assert rows.lengths.tolist() == []


def test_without_targets():
    rows = encode_rows(iter(CHUNKS), encode)
    assert rows.targets.tolist() == [0.0] * 6


def test_targets_of_several_numbers():
    several = task(lambda chunk, features: np.ones((len(chunk["text"]), 3)))
    rows = encode_rows(iter(CHUNKS), encode, several)
    assert rows.targets.shape == (6, 3)


def odd_letters(rows, features):
    """Every second letter of the alphabet is learned, as itself."""
    ids = features["token_ids"]
    return np.where((ids % 2 == 1) & (features["padding_mask"] == 1), ids, -1)


@pytest.mark.parametrize("limit", [10**6, 0])
def test_a_target_for_every_token(limit):
    rows = encode_rows(iter(CHUNKS), encode, task(odd_letters, tokenwise=True), limit=limit)
    assert rows.weights.tolist() == [2, 1, 0, 2, 1, 0], "the learned tokens of each row"
    assert rows.learned(np.array([3, 0])).tolist() == [[-1, 5, -1, -1, 15], [1, -1, 3, -1, -1]]
    assert rows.learned(np.array([0]), length=4).tolist() == [[1, -1, 3, -1]]
    assert set(rows.ids) == {"token_ids", "segment_ids"}


def test_several_sequences_an_example():
    chunks = [{"text": ["abc", "a", "b", "hello"]}]
    two = task(lambda chunk, features: np.array([7, 8]), sides=2)
    rows = encode_rows(iter(chunks), encode, two, pad=PAD)
    assert (len(rows), rows.lengths.tolist()) == (2, [3, 5])
    got = rows.batch(np.array([1, 0]))
    assert got["token_ids"].shape == (2, 2, 5)
    assert got["token_ids"][1].tolist() == [[1, 2, 3, 9, 9], [1, 9, 9, 9, 9]]
    assert got["padding_mask"].sum(2).tolist() == [[1, 5], [3, 1]]
    assert rows.learned(np.array([1, 0])).tolist() == [8, 7]


def windows(rows):
    """`encode` of texts that are cut at every third letter."""
    parts = [[t[i : i + 3] for i in range(0, max(len(t), 1), 3)] for t in rows["text"]]
    row = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    return encode({"text": [part for p in parts for part in p]}) | {"row": row}


@pytest.mark.parametrize("limit", [10**6, 0])
def test_as_many_sequences_as_a_row_has(limit):
    many = task(lambda chunk, features: np.arange(len(chunk["text"])), sides=None)
    chunks = [{"text": ["abcdefg", "a"]}, {"text": ["", "hello"]}]
    rows = encode_rows(iter(chunks), windows, many, pad=PAD, limit=limit)
    assert (len(rows), rows.axes) == (4, (None,))
    assert rows.lengths.tolist() == [7, 1, 0, 5], "the ids of all windows"
    got = rows.batch(np.array([3, 0, 2]))
    assert got["token_ids"].tolist() == [
        [[8, 5, 12], [12, 15, PAD], [PAD] * 3],
        [[1, 2, 3], [4, 5, 6], [7, PAD, PAD]],
        [[PAD] * 3] * 3,
    ]
    assert got["padding_mask"].sum(2).tolist() == [[3, 2, 0], [3, 3, 1], [0, 0, 0]]
    assert rows.batch(np.array([1]))["token_ids"].tolist() == [[[1]]]
    assert rows.batch(np.array([3]), length=4)["segment_ids"].shape == (1, 2, 4)
    assert rows.learned(np.array([3, 0])).tolist() == [1, 0]


def test_windows_are_padded_as_in_the_graph():
    many = task(lambda chunk, features: np.zeros(len(chunk["text"])), sides=None)
    chunk = {"text": ["abcdefg", "a", "hello"]}
    rows = encode_rows(iter([chunk]), windows, many, pad=PAD)
    features, got = windows(chunk), rows.batch(np.arange(3))
    for name, fill in (("token_ids", PAD), ("padding_mask", 0), ("segment_ids", 0)):
        expected = by_row(features[name], features["row"], fill)
        np.testing.assert_array_equal(got[name], expected)


def test_no_rows_of_windows():
    assert len(encode_rows(iter([]), windows, task(lengths, sides=None))) == 0


def test_features_that_the_model_does_not_read_are_left_out():
    rows = encode_rows(iter(CHUNKS), encode, task(lengths), keep=("token_ids",))
    assert set(rows.ids) == {"token_ids"}


def test_rows_are_a_plain_value():
    ids = {"token_ids": np.array([5, 6, 7], np.int32)}
    rows = Encoded(ids, np.array([0, 2, 3]), np.zeros(2), {"token_ids": 0})
    assert rows.batch(np.array([1, 0]))["token_ids"].tolist() == [[7, 0], [5, 6]]
