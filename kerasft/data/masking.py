"""Tokens to guess: what masked language models learn from, drawn anew for every batch."""

from typing import Any

import numpy as np

from kerasft._core.checks import in_range, whole
from kerasft._core.errors import InputError


def mask_tokens(
    token_ids: Any,
    padding_mask: Any,
    special_ids: Any,
    mask_id: int,
    vocabulary_size: int,
    rng: np.random.Generator,
    share: float = 0.15,
    words: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide some tokens of each row.

    Of the tokens chosen 80 % become the mask, 10 % a random token, 10 % stay as they are; all of
    them are to be guessed. In a row of n tokens (words) that may be chosen, share * n are, rounded
    up or down by chance so that the mean is exact, and never none. With `words`, all pieces of a
    chosen word are.

    Args:
        token_ids: Integers, shape [rows, length].
        padding_mask: 1 on real tokens, else 0, shape [rows, length].
        special_ids: ids that are never chosen, and never put in as random ones.
        mask_id: The id of the mask; it counts as special.
        vocabulary_size: Random tokens are below this.
        rng: Decides everything: the same state gives the same masks.
        share: The share of tokens (words) to choose, above 0, up to 1.
        words: Whole-word masking: the number of the word that each piece belongs to, pieces of
            one word side by side; -1 where there is none, which is never chosen. Shape
            [rows, length].

    Returns:
        The ids with the hidden tokens, and the targets: the old id where it is to be guessed,
        else -1; both int32, shape [rows, length]. The input is left as it was.

    Raises:
        InputError: If shapes differ, a number is out of range, or every id is special.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask_tokens([[2, 7, 3]], [[1, 1, 1]], [0, 2, 3], 4, 10, rng)[1]
        array([[-1,  7, -1]], dtype=int32)

    Reference:
        Devlin et al., BERT, 2019, https://arxiv.org/abs/1810.04805
    """
    token_ids, padding_mask = np.asarray(token_ids, np.int32), np.asarray(padding_mask)
    words = None if words is None else np.asarray(words)
    _check(token_ids, padding_mask, words)
    in_range("share", share, 0, 1, above=True)
    whole("vocabulary_size", vocabulary_size, 1)
    if not 0 <= mask_id < vocabulary_size:
        raise InputError(
            f"`mask_id` must be one of the {vocabulary_size} ids. Received: mask_id={mask_id!r}."
        )
    special = np.union1d(np.asarray(special_ids, np.int64).ravel(), [mask_id])
    free = np.setdiff1d(np.arange(vocabulary_size, dtype=np.int32), special)
    if not len(free):
        raise InputError("Every id is special, so that none can be guessed. Received: that.")
    allowed = (padding_mask != 0) & ~np.isin(token_ids, special)
    chosen = _chosen(allowed, words, share, rng)
    fate = rng.random(token_ids.shape)
    others = free[rng.integers(0, len(free), token_ids.shape)]
    hidden = np.where(fate < 0.8, np.int32(mask_id), np.where(fate < 0.9, others, token_ids))
    return np.where(chosen, hidden, token_ids), np.where(chosen, token_ids, np.int32(-1))


def _chosen(
    allowed: np.ndarray, words: np.ndarray | None, share: float, rng: np.random.Generator
) -> np.ndarray:
    """The tokens to guess: units, tokens or words, are ordered by chance and the first taken."""
    rows, length = allowed.shape
    unit = np.broadcast_to(np.arange(length), (rows, length))
    if words is not None:
        allowed = allowed & (words >= 0)
        begins = np.diff(words, axis=1, prepend=words[:, :1] - 1) != 0
        unit = np.maximum.accumulate(np.where(begins, unit, 0), axis=1)  # a word's first place
    there = np.zeros((rows, length), bool)
    row_of, place = np.nonzero(allowed)
    there[row_of, unit[row_of, place]] = True
    order = np.where(there, rng.random((rows, length)), 2.0)
    rank = order.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    count = there.sum(axis=1)
    taken = np.maximum(np.floor(share * count + rng.random(rows)), 1).astype(int)
    first = there & (rank < taken[:, None])
    return allowed & np.take_along_axis(first, unit, axis=1)


def _check(token_ids: np.ndarray, padding_mask: np.ndarray, words: np.ndarray | None) -> None:
    shapes = {"token_ids": token_ids.shape, "padding_mask": padding_mask.shape}
    shapes |= {} if words is None else {"words": words.shape}
    if token_ids.ndim != 2 or len(set(shapes.values())) > 1:
        said = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise InputError(f"All must be of one shape [rows, length]. Received: {said}.")
