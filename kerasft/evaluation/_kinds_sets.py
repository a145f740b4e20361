"""Kinds whose answers are entities, rankings and likenesses."""

import dataclasses
from math import nan
from typing import Any, ClassVar

import numpy as np

from kerasft import metrics
from kerasft._core.errors import InputError
from kerasft.evaluation import _joins
from kerasft.metrics import ranking, spans, values

_TOLD = 20  # candidates named of a wrong ranking


@dataclasses.dataclass(frozen=True)
class Entities:
    """Any number of (label, start, end) a row."""

    main: ClassVar[str] = "entity_f1"
    labels: tuple[str, ...] = ()
    thresholds: Any = None
    join = staticmethod(_joins.lists)

    def check(self, y_true, outputs):
        """Sets to keep of one chunk."""
        if len(y_true) != len(outputs):
            raise InputError(
                "`outputs` must hold one list of entities a row. "
                f"Received: {len(outputs)} lists for {len(y_true)} rows."
            )
        pairs = (("y_true", y_true), ("outputs", outputs))
        return tuple(spans.entity_rows(name, rows, self.labels) for name, rows in pairs)

    def wrong(self, y_true, outputs):
        """How many entities of each row were missed or invented, shape [b]."""
        return np.array([len(t ^ p) for t, p in zip(y_true, outputs, strict=True)], float)

    def describe(self, y_true, outputs):
        """What a wrong row's answer was."""
        return {
            "expected": _shown(y_true),
            "predicted": _shown(outputs),
            "error": len(y_true ^ outputs),
        }

    def measure(self, y_true, outputs):
        """Metrics; the table of the labels stands for a text."""
        return metrics.entity_scores(y_true, outputs, self.labels or None), ""

    def drawn(self, y_true, outputs):
        """counts -> F1 of all entities."""
        right = np.array([len(t & p) for t, p in zip(y_true, outputs, strict=True)])
        both = np.array([len(t) + len(p) for t, p in zip(y_true, outputs, strict=True)])
        return _joins.mean(2 * right, both)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Candidates for a query, some of them relevant."""

    main: ClassVar[str] = "mrr"
    labels: tuple[str, ...] = ()
    thresholds: Any = None
    k: tuple[int, ...] = (1, 10)
    join = staticmethod(_joins.lists)

    def check(self, y_true, outputs):
        """What to keep of each query: its relevant candidates, their ranks, and the first.

        The scores of the others go, so that memory grows by the queries alone.
        """
        found, first = [], []
        for relevance, scores in zip(*ranking.query_rows(y_true, outputs), strict=True):
            found.append(ranking.relevant_ranks(relevance, scores))
            first.append(int(scores.argmax()))
        return found, first

    def wrong(self, y_true, outputs):
        """1 - 1 / rank of the first relevant candidate, 0 where there is none, shape [b]."""
        return np.array([_late(ranks) for _, ranks, _ in y_true])

    def describe(self, y_true, outputs):
        """Which candidates, counted from 0, were relevant and which came first."""
        places, ranks, _ = y_true
        return {
            "expected": np.sort(places)[:_TOLD].tolist(),
            "predicted": outputs,
            "error": _late(ranks),
        }

    def measure(self, y_true, outputs):
        """Metrics; no text."""
        return ranking.ranks_scores([query[1:] for query in y_true], self.k), ""

    def drawn(self, y_true, outputs):
        """counts -> mean of 1 / rank over the queries with a relevant candidate."""
        first = [1 / ranks[0] if len(ranks) else 0.0 for _, ranks, _ in y_true]
        return _joins.mean(first, [len(ranks) > 0 for _, ranks, _ in y_true])


@dataclasses.dataclass(frozen=True)
class Similarity:
    """How alike two texts are; the cosine has to order the pairs, not to hit the number."""

    main: ClassVar[str] = "spearman"
    labels: tuple[str, ...] = ()
    thresholds: Any = None
    join = staticmethod(_joins.arrays)

    def check(self, y_true, outputs):
        """Arrays to keep of one chunk."""
        y_true, outputs = values.numbers("y_true", y_true), values.numbers("outputs", outputs)
        if len(y_true) != len(outputs):
            raise InputError(
                "`outputs` must hold one number a row. "
                f"Received: {len(outputs)} numbers for {len(y_true)} rows."
            )
        return y_true, outputs

    def wrong(self, y_true, outputs):
        """0: an order is wrong, no row by itself is, shape [b]."""
        return np.zeros(len(y_true))

    def describe(self, y_true, outputs):
        """What a row's answer was."""
        return {"expected": float(y_true), "predicted": float(outputs), "error": 0.0}

    def measure(self, y_true, outputs):
        """Correlations; no text."""
        functions = (metrics.spearman, metrics.pearson)
        return {f.__name__: f(y_true, outputs) for f in functions}, ""

    def drawn(self, y_true, outputs):
        """counts -> Spearman's correlation."""

        def score(counts):
            found = metrics.spearman(np.repeat(y_true, counts), np.repeat(outputs, counts))
            return nan if found is None else found

        return score


def _shown(entities) -> list[dict]:
    """In the order of the text, under the names that predictions have."""
    rows = sorted(entities, key=lambda entity: (entity[1:], entity[0]))
    return [dict(zip(("label", "start", "end"), row, strict=True)) for row in rows]


def _late(ranks: np.ndarray) -> float:
    return 1 - 1 / float(ranks[0]) if len(ranks) else 0.0
