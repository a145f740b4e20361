"""Two models on the same rows: by how much one is better, and how sure that is."""

import dataclasses
from math import isnan
from typing import Any

import numpy as np

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.evaluation._tables import LESS_IS_BETTER
from kerasft.evaluation.collector import Collector


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An old and a new model on the same rows.

    Args:
        metric: The score's name, one of the metrics of the report.
        rows: How many rows both were scored on.
        old: The score of the old model, None where it is undefined.
        new: That of the new one.
        gain: new - old, or old - new of an error, so that above 0 the new model is better; None
            where either is undefined.
        interval: 2.5 and 97.5 percent of the gains of all draws; None where none has a gain.
    """

    metric: str
    rows: int
    old: float | None
    new: float | None
    gain: float | None
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields in JSON types."""
        return dataclasses.asdict(self) | {"interval": self.interval and list(self.interval)}


def compare(old: Collector, new: Collector, draws: int = 1000, seed: int = 0) -> Comparison:
    """Compare two models by the main score of their kind, with a paired bootstrap over the rows.

    In each draw as many rows as there are, drawn with replacement, are scored for both models. The
    score: `macro_f1` (one class, or any number of labels), `mae` (numbers), `entity_f1`, `f1`
    (answers), `rouge_l` (generated texts), `nll` (likelihood), `mrr` (rankings), `spearman`
    (likenesses).

    Args:
        old: The rows as the old model answers them.
        new: The same rows in the same order as the new one does.
        draws: How many times rows are drawn.
        seed: Seed of the draws.

    Returns:
        The comparison.

    Raises:
        InputError: If there are no rows, or the two are of different kinds or numbers of rows.

    Example:
        >>> compare(old, new).gain
        0.0125

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993; of two systems on one test
        set: Berg-Kirkpatrick et al., 2012, https://aclanthology.org/D12-1091
    """
    whole("draws", draws, 1)
    (metric, old_score), (name, new_score) = old.main(), new.main()
    if (metric, old.rows) != (name, new.rows):
        raise InputError(
            "Two models are compared on the same rows, by the same score. Received: "
            f"{metric} of {old.rows} rows and {name} of {new.rows}."
        )
    sign, rows = -1.0 if metric in LESS_IS_BETTER else 1.0, old.rows

    def gain(counts: np.ndarray) -> float:
        return sign * (new_score(counts) - old_score(counts))

    random, every = np.random.default_rng(seed), np.ones(rows, np.int64)
    drawn = (np.bincount(random.integers(0, rows, rows), minlength=rows) for _ in range(draws))
    gains = np.array([gain(counts) for counts in drawn])
    gains = gains[~np.isnan(gains)]
    ends = tuple(np.quantile(gains, (0.025, 0.975)).tolist()) if len(gains) else None
    scores = (old_score(every), new_score(every), gain(every))
    return Comparison(metric, rows, *(None if isnan(s) else float(s) for s in scores), ends)
