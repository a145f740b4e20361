"""The kinds of answers a report knows: how to check, to score, and to find the wrong ones.

A kind is made of labels and thresholds, where it has them, and its own options. It checks a chunk
of rows and says what to keep of it (`check`), joins what was kept (`join`), says how wrong each
row is (`wrong`), tells of one (`describe`), and scores all of them (`measure`). Two models are
compared by one of these scores, `main`: `drawn` gives it for rows that are drawn `counts` times
each, shape [rows], NaN where it is undefined.
"""

import dataclasses
from math import nan
from typing import Any, ClassVar

import numpy as np

from kerasft import metrics
from kerasft._core.errors import InputError
from kerasft.evaluation import _joins
from kerasft.evaluation._kinds_sets import Entities, Ranking, Similarity
from kerasft.evaluation._kinds_text import Answers, Generation, Perplexity
from kerasft.metrics import values


@dataclasses.dataclass(frozen=True)
class Multiclass:
    """One right class a row."""

    main: ClassVar[str] = "macro_f1"
    labels: tuple[str, ...]
    thresholds: Any = None
    none: str = ""
    join = staticmethod(_joins.arrays)

    def check(self, y_true, outputs):
        """Arrays to keep of one chunk."""
        outputs = np.asarray(outputs, dtype=np.float32)
        y_true = values.class_ids(y_true, len(self.labels))
        values.distributions("outputs", outputs, len(y_true), len(self.labels))
        return y_true.astype(np.int32), outputs

    def wrong(self, y_true, outputs):
        """How confidently each row is wrong, 0 where it is right, shape [b]."""
        return np.where(outputs.argmax(axis=1) == y_true, 0.0, outputs.max(axis=1))

    def describe(self, y_true, outputs):
        """What a wrong row's answer was."""
        best = int(outputs.argmax())
        return {
            "expected": self.labels[y_true],
            "predicted": self.labels[best],
            "confidence": float(outputs[best]),
        }

    def measure(self, y_true, outputs):
        """Metrics, and scikit-learn's text."""
        found = metrics.multiclass(y_true, outputs, self.labels, self.none)
        return found, metrics.text_report(y_true, outputs.argmax(axis=1), self.labels)

    def drawn(self, y_true, outputs):
        """counts -> macro F1 of the classes that occur on either side."""
        size = len(self.labels)
        pairs = y_true.astype(np.int64) * size + outputs.argmax(axis=1)
        kept = np.array([label != self.none or not self.none for label in self.labels])

        def score(counts):
            table = np.bincount(pairs, counts, size * size).reshape(size, size)
            both = table.sum(axis=0) + table.sum(axis=1)
            there = kept & (both > 0)
            return float(np.mean(2 * table.diagonal()[there] / both[there])) if any(there) else nan

        return score


@dataclasses.dataclass(frozen=True)
class Multilabel:
    """Any number of right labels a row."""

    main: ClassVar[str] = "macro_f1"
    labels: tuple[str, ...]
    thresholds: Any = None
    join = staticmethod(_joins.arrays)

    def __post_init__(self):
        chosen = values.label_thresholds(self.thresholds, len(self.labels))
        object.__setattr__(self, "thresholds", chosen)

    def check(self, y_true, outputs):
        """Arrays to keep of one chunk."""
        outputs = np.asarray(outputs, dtype=np.float32)
        y_true = values.indicators(y_true, len(self.labels))
        outputs = values.unit_table("outputs", outputs, len(y_true), len(self.labels))
        return y_true.astype(np.int8), outputs

    def wrong(self, y_true, outputs):
        """The confidence of each row's most confidently wrong decision, shape [b]."""
        given = self._given(outputs)
        confidence = np.where(given, outputs, 1 - outputs)
        return np.where(given == (y_true == 1), 0.0, confidence).max(axis=1)

    def describe(self, y_true, outputs):
        """What a wrong row's answer was."""
        return {
            "expected": self._names(y_true == 1),
            "predicted": self._names(self._given(outputs)),
            "confidence": float(self.wrong(y_true[None], outputs[None])[0]),
        }

    def measure(self, y_true, outputs):
        """Metrics, and scikit-learn's text."""
        found = metrics.multilabel(y_true, outputs, self.labels, self.thresholds)
        return found, metrics.text_report(y_true, self._given(outputs), self.labels)

    def drawn(self, y_true, outputs):
        """counts -> macro F1 of all labels, 0 for one that occurs on neither side."""
        given = self._given(outputs)
        right, both = (given & (y_true == 1)).astype(float), given + (y_true == 1).astype(float)

        def score(counts):
            return float(np.mean(2 * (counts @ right) / np.maximum(counts @ both, 1)))

        return score

    def _given(self, outputs) -> np.ndarray:
        return outputs >= self.thresholds.astype(outputs.dtype)

    def _names(self, chosen) -> list[str]:
        return [label for label, yes in zip(self.labels, chosen, strict=True) if yes]


@dataclasses.dataclass(frozen=True)
class Regression:
    """One right number a row."""

    main: ClassVar[str] = "mae"
    labels: tuple[str, ...] = ()
    thresholds: Any = None
    join = staticmethod(_joins.arrays)

    def check(self, y_true, outputs):
        """Arrays to keep of one chunk."""
        outputs = np.asarray(outputs, dtype=np.float32)
        y_true, outputs = values.numbers("y_true", y_true), values.numbers("outputs", outputs)
        if len(y_true) != len(outputs):
            raise InputError(
                "`outputs` must hold one number a row. "
                f"Received: {len(outputs)} numbers for {len(y_true)} rows."
            )
        return y_true, outputs

    def wrong(self, y_true, outputs):
        """The absolute error, shape [b]."""
        return np.abs(y_true - outputs)

    def describe(self, y_true, outputs):
        """What a wrong row's answer was."""
        error = float(abs(y_true - outputs))
        return {"expected": float(y_true), "predicted": float(outputs), "error": error}

    def measure(self, y_true, outputs):
        """Metrics; scikit-learn has no text for numbers."""
        return metrics.scores(y_true, outputs), ""

    def drawn(self, y_true, outputs):
        """counts -> mean absolute error."""
        return _joins.mean(np.abs(y_true - outputs))


KINDS = {
    "multiclass": Multiclass,
    "multilabel": Multilabel,
    "regression": Regression,
    "entities": Entities,
    "answers": Answers,
    "generation": Generation,
    "perplexity": Perplexity,
    "ranking": Ranking,
    "similarity": Similarity,
}
