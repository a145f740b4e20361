"""Documents share rows: each once an epoch, the same for one seed, with hardly a place left."""

import re
from itertools import pairwise

import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.data import Encoded, PackedPlan, pack_rows
from kerasft.data import packing as room
from kerasft.data.packing import best_fit

LENGTH = 256


def dialogues(count, seed=0):
    """Lengths like those of dialogues: lognormal, mean 40, cut at 256."""
    drawn = np.random.default_rng(seed).lognormal(np.log(40) - 0.32, 0.8, count)
    return np.clip(np.round(drawn), 1, LENGTH).astype(np.int64)


LENGTHS = dialogues(1003)


def plan(**options):
    return PackedPlan(**({"lengths": LENGTHS, "length": LENGTH, "batch_size": 8} | options))


def as_lists(epoch):
    return [[one.tolist() for one in batch] for batch in epoch]


def check_epoch(chosen, number):
    """Every document once, every bin within its length, all batches full but the last."""
    epoch = chosen.epoch(number)
    bins = [one for batch in epoch for one in batch]
    assert sorted(np.concatenate(bins)) == list(range(len(chosen.lengths)))
    assert max(int(chosen.lengths[one].sum()) for one in bins) <= chosen.length
    assert (len(epoch), len(bins)) == (chosen.steps, chosen.bins)
    assert [len(batch) for batch in epoch[:-1]] == [chosen.batch_size] * (len(epoch) - 1)
    assert 1 <= len(epoch[-1]) <= chosen.batch_size


@pytest.mark.parametrize("rows", [1, 2, 7, 100, 1003])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_document_once_an_epoch(rows, shuffle):
    chosen = plan(lengths=LENGTHS[:rows], shuffle=shuffle)
    for number in range(3):
        check_epoch(chosen, number)


def test_every_epoch_has_the_same_steps():
    """A resume counts on it; the plan knows the number before any epoch is made."""
    chosen = plan(lengths=dialogues(300, seed=4), batch_size=3, seed=9)
    steps = chosen.steps
    assert {len(chosen.epoch(number)) for number in range(20)} == {steps}
    assert {plan(seed=seed).steps for seed in range(5)} == {plan(shuffle=False).steps}


def test_one_seed_gives_one_order():
    assert as_lists(plan().epoch(1)) == as_lists(plan().epoch(1))
    assert as_lists(plan().epoch(1)) != as_lists(plan().epoch(2))
    assert as_lists(plan().epoch(1)) != as_lists(plan(seed=4).epoch(1))
    unshuffled = plan(shuffle=False)
    assert as_lists(unshuffled.epoch(0)) == as_lists(unshuffled.epoch(5))


def companions(epoch):
    """Pairs of documents in one row."""
    rows = (sorted(one.tolist()) for batch in epoch for one in batch)
    return {(a, b) for row in rows for i, a in enumerate(row) for b in row[i + 1 :]}


def test_epochs_differ_in_who_shares_a_row():
    first, second = (companions(plan().epoch(number)) for number in (0, 1))
    assert len(first & second) < 0.3 * len(first)


def test_lengths_do_not_decide_the_order():
    counts = [len(one) for batch in plan().epoch(0) for one in batch]
    assert abs(np.corrcoef(counts, range(len(counts)))[0, 1]) < 0.25
    tops = [LENGTHS[one].max() for batch in plan(shuffle=False).epoch(0) for one in batch]
    assert tops == sorted(tops, reverse=True), "unshuffled, the longest come first"


@pytest.mark.parametrize("count", [200, 1003, 5000])
def test_dialogues_fill_their_rows(count):
    chosen = plan(lengths=dialogues(count))
    assert 35 < chosen.lengths.mean() < 45
    positions = sum(len(batch) * LENGTH for batch in chosen.epoch(0))
    assert chosen.fill() == pytest.approx(chosen.lengths.sum() / positions)
    assert chosen.fill() >= 0.95
    assert len(chosen.lengths) / chosen.bins > 6, "without packing each had a row of its own"


def test_mutation_first_come_first_served_fills_less(monkeypatch):
    """Next fit: a bin is closed when the next document does not fit."""

    def next_fit(lengths, capacity):
        bins, room_left = [], -1
        for document, size in enumerate(lengths):
            if size > room_left:
                bins.append([])
                room_left = capacity
            bins[-1].append(document)
            room_left -= size
        return bins

    monkeypatch.setattr(room, "best_fit", next_fit)
    check_epoch(plan(), 0)
    assert plan().fill() < 0.9


def naive_best_fit(lengths, capacity):
    """The same by its definition: of all bins with room, one with the least."""
    rooms = []
    for document in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [r for r in rooms if r >= lengths[document]]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - lengths[document])
        else:
            rooms.append(capacity - lengths[document])
    return sorted(rooms)


@pytest.mark.parametrize("seed", range(20))
def test_best_fit_is_best_fit(seed):
    random = np.random.default_rng(seed)
    capacity = int(random.integers(1, 40))
    lengths = random.integers(0, capacity + 1, int(random.integers(0, 60)))
    bins = best_fit(lengths, capacity)
    assert sorted(i for one in bins for i in one) == list(range(len(lengths)))
    left = sorted(capacity - int(lengths[one].sum()) for one in bins)
    assert left == naive_best_fit(lengths.tolist(), capacity)


def test_many_documents_are_planned_quickly():
    """The next bin is found without a search: a million take about a second."""
    chosen = plan(lengths=dialogues(50_000), batch_size=32)
    assert chosen.fill() > 0.99
    check_epoch(chosen, 0)


def test_no_documents():
    chosen = plan(lengths=np.zeros(0, np.int64))
    assert (chosen.steps, chosen.epoch(0), chosen.fill()) == (0, [], 0.0)


def test_a_document_that_does_not_fit_is_refused():
    message = r"row of 255 positions\. Received: one of 256 ids\. Cut documents first"
    with pytest.raises(InputError, match=message):
        plan(lengths=np.array([3, 256, 7]), length=255)
    with pytest.raises(InputError, match="`batch_size` must be a whole number"):
        plan(batch_size=0)


# --- arrays --------------------------------------------------------------------------------------


def encoded(lengths, seed=0):
    """Rows whose ids are all different, so that each place can be checked."""
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = {
        "token_ids": 100 + np.arange(ends[-1], dtype=np.int32),
        "segment_ids": np.arange(ends[-1], dtype=np.int32) % 2,
    }
    return Encoded(ids, ends, np.zeros(len(lengths)), {"token_ids": 7, "segment_ids": 0})


def naive_rows(rows, bins, length):
    """The same, document by document."""
    out = {"token_ids": [], "segment_ids": [], "padding_mask": [], "document_ids": []}
    for one in bins:
        line = {name: [] for name in out}
        for document in one:
            begin, end = rows.ends[document], rows.ends[document + 1]
            number = max(line["document_ids"], default=0) + 1
            line["token_ids"] += rows.ids["token_ids"][begin:end].tolist()
            line["segment_ids"] += rows.ids["segment_ids"][begin:end].tolist()
            line["padding_mask"] += [1] * int(end - begin)
            line["document_ids"] += [number] * int(end - begin)
        for name, values in line.items():
            pad = 7 if name == "token_ids" else 0
            out[name].append(values + [pad] * (length - len(values)))
    return out


def test_the_arrays_of_a_batch():
    rows = encoded([3, 0, 2, 4, 1])
    got = pack_rows(rows, [np.array([2, 1, 0]), np.array([3]), np.array([4])], 6)
    assert got["token_ids"].tolist() == [
        [103, 104, 100, 101, 102, 7],
        [105, 106, 107, 108, 7, 7],
        [109, 7, 7, 7, 7, 7],
    ]
    assert got["document_ids"].tolist() == [
        [1, 1, 2, 2, 2, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 0, 0, 0, 0, 0],
    ], "an empty text has no number"
    assert {name: value.dtype for name, value in got.items()} == dict.fromkeys(
        ("token_ids", "segment_ids", "padding_mask", "document_ids"), np.dtype("int32")
    )


@pytest.mark.parametrize("seed", range(5))
def test_whole_epochs_as_arrays(seed):
    lengths = np.random.default_rng(seed).integers(0, 20, 60)
    rows, chosen = encoded(lengths), PackedPlan(lengths, 24, 4, seed)
    seen = []
    for batch in chosen.epoch(seed):
        got = pack_rows(rows, batch, 24)
        assert {name: value.tolist() for name, value in got.items()} == naive_rows(rows, batch, 24)
        seen += got["token_ids"][got["padding_mask"] == 1].tolist()
        for line in got["document_ids"]:
            steps = [b - a for a, b in pairwise(line[line > 0].tolist())]
            assert set(steps) <= {0, 1}, "documents in one piece each, numbered in order"
    assert sorted(seen) == rows.ids["token_ids"].tolist(), "every token once an epoch"


def test_empty_bins_and_bins_that_are_too_full():
    rows = encoded([3, 0, 2])
    got = pack_rows(rows, [np.array([1]), np.zeros(0, np.int64)], 4)
    assert got["token_ids"].tolist() == [[7] * 4] * 2
    assert got["document_ids"].sum() == got["padding_mask"].sum() == 0
    message = re.escape("have to fit into 4 positions. Received: 5 ids in one.")
    with pytest.raises(InputError, match=message):
        pack_rows(rows, [np.array([0, 2])], 4)
