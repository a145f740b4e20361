"""Likelihood of the learned tokens from anybody's logits; both interpreters score with it."""

import math
from collections.abc import Callable, Iterable

import numpy as np


def learned_nll(logits: np.ndarray, targets: np.ndarray) -> tuple[float, int]:
    """Summed negative log-likelihood of the learned tokens in nats, and their number.

        nll = sum over t with y_t >= 0 of log sum_k exp(z_tk) - z_ty

    Args:
        logits: z, float [rows, length, vocabulary], of the token that follows each position.
        targets: y, int [rows, length], the id that follows; -1 where it is not learned.
    """
    learned = targets >= 0
    given, wanted = logits[learned].astype(np.float64), targets[learned]
    top = given.max(axis=-1, initial=-np.inf, keepdims=True)
    total = np.log(np.exp(given - top).sum(axis=-1)) + top[:, 0]
    return float((total - given[np.arange(len(wanted)), wanted]).sum()), int(learned.sum())


def perplexity(
    logits_of: Callable[[dict[str, np.ndarray]], np.ndarray],
    batches: Iterable[dict[str, np.ndarray]],
) -> float:
    """exp of the mean negative log-likelihood of all learned tokens of some batches."""
    found = [learned_nll(logits_of(batch), batch["targets"]) for batch in batches]
    nll, tokens = (sum(values) for values in zip(*found, strict=True))
    return math.exp(nll / tokens)
