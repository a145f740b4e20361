"""Rankings, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from kerasft._core.errors import InputError
from kerasft.metrics import ranking_scores


def test_by_hand():
    # ranks of the relevant ones: 2 and 4; 1
    relevance = [[0, 1, 0, 1], [1, 0]]
    scores = [[0.9, 0.8, 0.7, 0.1], [0.5, 0.4]]
    found = ranking_scores(relevance, scores, k=(1, 2))
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["map"] == pytest.approx(((1 / 2 + 2 / 4) / 2 + 1) / 2)
    assert found["recall_at_1"] == found["precision_at_1"] == found["hit_rate_at_1"] == 0.5
    assert found["recall_at_2"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["precision_at_2"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert found["hit_rate_at_2"] == 1.0
    best = 1 + 1 / np.log2(3)
    assert found["ndcg_at_2"] == pytest.approx((1 / np.log2(3) / best + 1) / 2)
    assert found["queries"] == 2 and found["queries_without_relevant"] == 0


def test_perfect_and_worst():
    relevance = [[3, 2, 1, 0, 0]]
    perfect = ranking_scores(relevance, [[5, 4, 3, 2, 1]], k=(3,))
    assert {perfect[n] for n in ("mrr", "map", "ndcg_at_3", "recall_at_3", "precision_at_3")} == {1}
    worst = ranking_scores(relevance, [[1, 2, 3, 4, 5]], k=(2,))
    assert worst["mrr"] == pytest.approx(1 / 3)
    assert {worst[n] for n in ("ndcg_at_2", "recall_at_2", "hit_rate_at_2")} == {0}


def test_graded_relevance_counts_in_ndcg_alone():
    scores = [[0.9, 0.8]]
    first, second = ranking_scores([[1, 3]], scores), ranking_scores([[1, 1]], scores)
    assert first["ndcg_at_10"] == pytest.approx((1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)))
    assert second["ndcg_at_10"] == 1.0
    assert first["map"] == second["map"] == 1.0


def test_random_rankings_equal_scikit_learn():
    rng = np.random.default_rng(0)
    relevance, scores = rng.integers(0, 3, (50, 20)), rng.normal(size=(50, 20))
    found = ranking_scores(relevance, scores, k=(7,))
    assert found["ndcg_at_7"] == pytest.approx(ndcg_score(relevance, scores, k=7))
    expected = [average_precision_score(r > 0, s) for r, s in zip(relevance, scores, strict=True)]
    assert found["map"] == pytest.approx(np.mean(expected))


def test_ties_are_broken_against_the_model():
    for relevance in ([1, 0, 0, 0], [0, 0, 0, 1]):
        assert ranking_scores([relevance], [[0.5] * 4])["mrr"] == 1 / 4
    # the same candidates in any order give the same score
    rng = np.random.default_rng(0)
    relevance, scores = rng.integers(0, 3, 30), rng.integers(0, 4, 30)
    order = rng.permutation(30)
    first = ranking_scores([relevance], [scores])
    assert ranking_scores([relevance[order]], [scores[order]]) == first


def test_queries_of_any_length_and_without_a_relevant_candidate():
    found = ranking_scores([[1], [0, 0], [0, 1]], [[0.1], [1, 2], [0.3, 0.2]])
    assert found["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert (found["queries"], found["queries_without_relevant"]) == (2, 1)
    assert found["precision_at_10"] == pytest.approx(1 / 10)  # also where there are fewer than 10
    nobody = ranking_scores([[0, 0]], [[1, 2]])
    assert nobody["mrr"] is None and nobody["ndcg_at_10"] is None


@pytest.mark.parametrize(
    "relevance, scores, k, message",
    [
        ([[1]], [[1], [2]], (1,), "1 and 2 queries"),
        ([], [], (1,), "at least 1 query"),
        ([[1], []], [[1], []], (1,), "empty candidate list at index 1"),
        ([[1, 0]], [[1]], (1,), "2 relevances from 0 on and 1 scores at index 0"),
        ([[1, -1]], [[1, 2]], (1,), "at least 0"),
        ([[1, 0]], [[1, np.nan]], (1,), r"`scores\[0\]` must hold finite"),
        ([["a"]], [[1]], (1,), r"`relevance\[0\]`"),
        ([[1]], [[1]], (0,), "`k`"),
    ],
)
def test_wrong_input(relevance, scores, k, message):
    with pytest.raises(InputError, match=message):
        ranking_scores(relevance, scores, k)
