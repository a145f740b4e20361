"""Masks of a masked language model: what is chosen, how often, and what becomes of it."""

import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.data import mask_tokens

PAD, START, END, MASK, SIZE = 0, 1, 2, 3, 50
SPECIAL = (PAD, START, END)


def batch(rows=200, length=64, seed=0):
    """Rows of random length between a start and an end, padded on the right."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, SIZE, (rows, length))
    sizes = rng.integers(3, length + 1, rows)
    places = np.arange(length)
    ids[:, 0] = START
    ids[places == sizes[:, None] - 1] = END
    mask = places < sizes[:, None]
    return np.where(mask, ids, PAD).astype(np.int32), mask.astype(np.int32)


def draw(ids, mask, seed=0, **options):
    return mask_tokens(ids, mask, SPECIAL, MASK, SIZE, np.random.default_rng(seed), **options)


def test_shares():
    ids, mask = batch(2000)
    hidden, targets = draw(ids, mask)
    chosen = targets >= 0
    assert chosen.sum() / (ids > MASK).sum() == pytest.approx(0.15, abs=0.004)
    masked, same = hidden[chosen] == MASK, hidden[chosen] == ids[chosen]
    assert masked.mean() == pytest.approx(0.8, abs=0.01)
    assert same.mean() == pytest.approx(0.1 + 0.1 / 46, abs=0.01)
    other = hidden[chosen & (hidden != MASK) & (hidden != ids)]
    assert set(other) == set(range(4, SIZE))  # every id but the special ones
    counts = np.bincount(other)[4:]
    assert counts.min() > 0.5 * counts.mean()


def test_identities():
    ids, mask = batch()
    before = ids.copy()
    hidden, targets = draw(ids, mask)
    assert (ids == before).all()
    assert (targets[targets >= 0] == ids[targets >= 0]).all()
    assert (hidden == ids)[targets < 0].all()
    assert set(targets[targets < 0]) == {-1}
    assert hidden.dtype == targets.dtype == np.int32
    assert not (targets >= 0)[(ids <= MASK) | (mask == 0)].any()


def test_deterministic_given_the_generator():
    ids, mask = batch()
    first, again, other = draw(ids, mask), draw(ids, mask), draw(ids, mask, seed=1)
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    assert (first[1] != other[1]).any()
    rng = np.random.default_rng(0)  # the next batch gets other masks
    once = mask_tokens(ids, mask, SPECIAL, MASK, SIZE, rng)
    twice = mask_tokens(ids, mask, SPECIAL, MASK, SIZE, rng)
    assert (once[1] != twice[1]).any()


@pytest.mark.parametrize("length", [3, 4, 5, 9])
def test_the_share_is_right_in_short_rows_and_none_is_left_out(length):
    ids = np.tile(np.arange(4, 4 + length), (4000, 1))
    _, targets = draw(ids, np.ones_like(ids))
    counts = (targets >= 0).sum(axis=1)
    assert counts.min() == 1
    low = int(0.15 * length)
    up = 0.15 * length - low
    expected = 1 if low == 0 else low + up
    assert counts.mean() == pytest.approx(expected, abs=0.03)


def test_every_token_is_as_likely():
    ids = np.tile(np.arange(4, 24), (20_000, 1))
    shares = (draw(ids, np.ones_like(ids))[1] >= 0).mean(axis=0)
    assert shares == pytest.approx(np.full(20, 0.15), abs=0.012)


def test_rows_with_nothing_to_choose():
    ids = np.array([[START, END, PAD], [START, 7, END], [MASK, MASK, END]])
    hidden, targets = draw(ids, [[1, 1, 0], [1, 1, 1], [1, 1, 1]])
    assert targets.tolist() == [[-1, -1, -1], [-1, 7, -1], [-1, -1, -1]]
    assert (hidden[[0, 2]] == ids[[0, 2]]).all()


def test_share_one_chooses_all():
    ids, mask = batch()
    targets = draw(ids, mask, share=1)[1]
    assert ((targets >= 0) == (ids > MASK)).all()


def words_of(ids, rng):
    """Words of one to four pieces, those of each row numbered from anywhere; -1 on specials."""
    begins = rng.random(ids.shape) < 0.5
    return np.where(ids > MASK, np.cumsum(begins, axis=1) + 100, -1)


def test_whole_words():
    ids, mask = batch(2000)
    words = words_of(ids, np.random.default_rng(5))
    _, targets = draw(ids, mask, words=words)
    chosen = targets >= 0
    count = total = 0
    for row in range(len(ids)):
        numbers = np.unique(words[row][words[row] >= 0])
        parts = [chosen[row][words[row] == n] for n in numbers]
        assert all(part.all() or not part.any() for part in parts)
        count, total = count + sum(part.all() for part in parts), total + len(parts)
        assert not parts or chosen[row].any()
    assert chosen.sum() / (ids > MASK).sum() == pytest.approx(0.15, abs=0.01)
    assert count / total == pytest.approx(0.15, abs=0.01)
    # without the words hardly any word of several pieces is whole
    assert not all(
        chosen_.all() or not chosen_.any()
        for chosen_ in np.split(draw(ids, mask)[1][0] >= 0, np.flatnonzero(np.diff(words[0])) + 1)
    )


def test_a_piece_without_a_word_is_never_chosen_and_words_keep_their_pieces_apart():
    ids = np.array([[4, 5, 6, 7, 8]] * 500)
    words = np.array([[0, 0, -1, 1, 1]] * 500)
    chosen = draw(ids, np.ones_like(ids), words=words)[1] >= 0
    assert {tuple(row) for row in chosen.tolist()} == {
        (True, True, False, False, False),
        (False, False, False, True, True),
    }


def test_each_piece_of_a_word_has_its_own_fate():
    ids = np.array([[4, 5, 6, 7]] * 300)
    hidden, targets = draw(ids, np.ones_like(ids), words=np.zeros_like(ids))
    assert (targets == ids).all()
    assert len({tuple(row) for row in (hidden == MASK).tolist()}) > 4


@pytest.mark.parametrize(
    "change, message",
    [
        ({"padding_mask": [[1, 1]]}, r"token_ids \[1, 3\], padding_mask \[1, 2\]"),
        ({"token_ids": [4, 5, 6], "padding_mask": [1, 1, 1]}, r"token_ids \[3\]"),
        ({"words": [[0, 1]]}, r"words \[1, 2\]"),
        ({"share": 0}, "`share` must be more than 0"),
        ({"share": 1.5}, "`share`"),
        ({"mask_id": SIZE}, "`mask_id` must be one of the 50 ids"),
        ({"special_ids": range(SIZE)}, "Every id is special"),
    ],
)
def test_wrong_input(change, message):
    given = {
        "token_ids": [[4, 5, 6]],
        "padding_mask": [[1, 1, 1]],
        "special_ids": SPECIAL,
        "mask_id": MASK,
        "vocabulary_size": SIZE,
        "rng": np.random.default_rng(0),
    }
    with pytest.raises(InputError, match=message):
        mask_tokens(**(given | change))
