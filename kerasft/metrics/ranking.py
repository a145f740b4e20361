"""Scores of rankings: where the relevant candidates of each query came."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.metrics.values import numbers, plain


def ranking_scores(relevance: Any, scores: Any, k: Sequence[int] = (1, 10)) -> dict[str, Any]:
    """Score rankings of candidates, the mean over the queries.

    MRR = mean 1 / rank of the first relevant one
    nDCG@k = DCG@k / DCG@k of the best order, DCG@k = sum over ranks i <= k of rel_i / log2(i + 1)
    MAP = mean over the relevant ones of the precision down to each

    Ties are broken pessimistically: among equal scores the less relevant candidate counts as
    ranked first, so that a constant score earns nothing. Queries without a relevant candidate
    are left out of the means and counted.

    Args:
        relevance: For each query how relevant each candidate is, 0 not at all, else above 0;
            an array a query, of any length.
        scores: For each query the model's scores of the same candidates, the higher the better.
        k: The depths.

    Returns:
        JSON types only: `mrr`, `map`; for each k `ndcg_at_K`, `recall_at_K` (share of the
        relevant ones among the first K), `precision_at_K` (share of K that is relevant),
        `hit_rate_at_K` (share of queries with a relevant one among the first K); `queries` that
        the means are over and `queries_without_relevant`. The means are None if there is none.

    Raises:
        InputError: If a query has no candidates, lengths differ, or a number is not finite or a
            relevance below 0.

    Example:
        >>> ranking_scores([[0, 1, 0]], [[0.9, 0.5, 0.1]])["mrr"]
        0.5

    Reference:
        Järvelin and Kekäläinen, Cumulated Gain-based Evaluation of IR Techniques, 2002,
        https://doi.org/10.1145/582415.582418
    """
    k = [whole("k", depth, 1) for depth in k]
    relevance, scores = query_rows(relevance, scores)
    pairs = zip(relevance, scores, strict=True)
    return ranks_scores([relevant_ranks(*pair)[1:] for pair in pairs], k)


def ranks_scores(queries: Sequence[tuple[np.ndarray, np.ndarray]], k: Sequence[int]) -> dict:
    """`ranking_scores` of queries of which only the relevant candidates are known.

    Args:
        queries: The ranks of a query's relevant candidates, from 1 on and rising, and how
            relevant each is, above 0, both of shape [n].
        k: The depths.

    Returns:
        As `ranking_scores`.
    """
    rows = [_one(*query, k) for query in queries if len(query[0])]
    found = {name: np.mean([row[name] for row in rows]) if rows else None for name in _names(k)}
    counts = {"queries": len(rows), "queries_without_relevant": len(queries) - len(rows)}
    return plain(found | counts)


def relevant_ranks(
    relevance: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the relevant candidates of a query came, of equal scores the lowest first.

    Args:
        relevance: Of each candidate, shape [n].
        scores: Of the same candidates, shape [n].

    Returns:
        Of the relevant ones, the best score first: the place among the candidates, the rank from
        1 on, the relevance; each of shape [relevant].
    """
    order = np.lexsort((relevance, -scores))
    (ranks,) = np.nonzero(relevance[order])
    places = order[ranks]
    return places, ranks + 1, relevance[places]


def query_rows(relevance: Any, scores: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Check the candidates of some queries.

    Args:
        relevance: An array a query.
        scores: An array a query.

    Returns:
        Both as lists of float64 arrays.

    Raises:
        InputError: As `ranking_scores`.
    """
    if len(relevance) != len(scores) or not len(scores):
        raise InputError(
            "`relevance` and `scores` must hold one array a query, of at least 1 query. "
            f"Received: {len(relevance)} and {len(scores)} queries."
        )
    pairs = [_query(i, *pair) for i, pair in enumerate(zip(relevance, scores, strict=True))]
    return [rel for rel, _ in pairs], [given for _, given in pairs]


def _query(place: int, relevance: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    if not len(relevance) and not len(scores):
        raise InputError(
            "Each query needs at least one candidate. "
            f"Received: an empty candidate list at index {place}."
        )
    relevance = numbers(f"relevance[{place}]", relevance)
    scores = numbers(f"scores[{place}]", scores)
    if len(relevance) != len(scores) or (relevance < 0).any():
        raise InputError(
            "Each candidate needs a relevance of at least 0 and a score. Received: "
            f"{len(relevance)} relevances from {relevance.min():g} on and {len(scores)} scores "
            f"at index {place}."
        )
    return relevance, scores


def _names(k: Sequence[int]) -> list[str]:
    kinds = ("ndcg", "recall", "precision", "hit_rate")
    return ["mrr", "map", *(f"{kind}_at_{depth}" for kind in kinds for depth in k)]


def _one(ranks: np.ndarray, gains: np.ndarray, k: Sequence[int]) -> dict[str, float]:
    """The scores of one query with a relevant candidate."""
    count = np.arange(1, len(ranks) + 1)
    best = np.sort(gains)[::-1]
    found = {"mrr": 1 / ranks[0], "map": (count / ranks).mean()}
    for depth in k:
        top = int((ranks <= depth).sum())
        reached = gains[:top] @ (1 / np.log2(ranks[:top] + 1))
        found[f"ndcg_at_{depth}"] = reached / (best[:depth] @ (1 / np.log2(count[:depth] + 1)))
        found[f"recall_at_{depth}"] = top / len(ranks)
        found[f"precision_at_{depth}"] = top / depth
        found[f"hit_rate_at_{depth}"] = float(top > 0)
    return found
