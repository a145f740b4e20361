"""Scores of a stream of answers: the answers are kept, of the rows' texts only the worst."""

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kerasft._core.checks import one_of, whole
from kerasft._core.errors import InputError
from kerasft.evaluation import _kinds
from kerasft.evaluation.report import Report

_TEXT = 2000  # characters kept of a wrong example's text


class Collector:
    """Takes right answers and outputs chunk by chunk and makes a `Report` of them.

    Memory grows by the outputs (4 bytes a number; answers that are texts as they are), not by the
    texts of the rows, so that a file larger than memory can be evaluated. How the rows are cut
    into chunks changes nothing.

    Args:
        task: The name of the task, for the report.
        kind: `multiclass`, `multilabel`, `regression`, `entities`, `answers`, `generation`,
            `perplexity`, `ranking` or `similarity`.
        labels: The names of the classes or entities, in the model's order; else empty.
        thresholds: For multilabel, the least probability of each label; 0.5 if None.
        worst: How many of the most wrong examples to keep.
        options: Of the kind, as of its function in `kerasft.metrics`: `multiclass` has `none`,
            `answers` has `version` and `language`, `generation` has `language`, `ranking` has `k`.

    Raises:
        InputError: If the kind is unknown, or labels, thresholds or options do not fit it.

    Example:
        >>> collector = Collector("text-classification", "multiclass", ["ham", "spam"])
        >>> collector.add({"text": ["hi", "win!"]}, [0, 1], [[0.9, 0.1], [0.7, 0.3]])
        >>> collector.report().worst[0]["text"]
        'win!'
    """

    def __init__(
        self,
        task: str,
        kind: str,
        labels: Sequence[str] = (),
        thresholds: Any = None,
        worst: int = 20,
        options: Mapping[str, Any] | None = None,
    ):
        make = _kinds.KINDS[one_of("kind", kind, _kinds.KINDS)]
        known = [f.name for f in dataclasses.fields(make)][2:]  # after labels and thresholds
        for name in options or {}:
            one_of(f"an option of {kind}", name, known)
        self._kind = make(tuple(labels), thresholds, **(options or {}))
        self._task, self._name, self._labels = task, kind, tuple(labels)
        self._most = whole("worst", worst)
        self._worst: list[tuple[float, int, dict]] = []
        self._kept: list[tuple[Sequence, Sequence]] = []
        self._rows = 0

    @classmethod
    def of(cls, task: Any, judged: Iterable[tuple]) -> "Collector":
        """Return a collector with all rows of a task.

        Args:
            task: The task, for its `name`, `kind`, `labels` and `scoring`.
            judged: The arguments of `add`, chunk by chunk, as of `Pipeline.judged`.
        """
        collector = cls(task.name, task.kind, task.labels, **task.scoring())
        for rows in judged:
            collector.add(*rows)
        return collector

    def add(self, fields: Mapping[str, Sequence], y_true: Any, outputs: Any) -> None:
        """Take some rows.

        Args:
            fields: What to show of a wrong example, e.g. its text: name to one value a row.
            y_true: The right answers, one a row. `multiclass`: class numbers, shape [b].
                `multilabel`: zeros and ones, shape [b, c]. `regression`, `similarity`: numbers,
                shape [b] or [b, 1]. `entities`: lists of (label, start, end). `answers`: lists
                of strings, [] or [""] where there is none. `generation`: strings.
                `perplexity`: how many tokens, shape [b]. `ranking`: the relevance of each
                candidate, an array a query.
            outputs: The model's answers to the same rows. `multiclass`, `multilabel`:
                probabilities, shape [b, c]. `regression`: numbers. `similarity`: cosines.
                `entities`: as `y_true`. `answers`: pairs of the string ("" for none) and how
                sure the model is that there is an answer, any number. `generation`: strings.
                `perplexity`: the summed negative log-likelihood of the row's tokens, in nats.
                `ranking`: the score of each candidate, an array a query.

        Raises:
            InputError: If lengths differ, or an output is not what the kind needs.
        """
        if not len(y_true):
            return
        y_true, outputs = self._kind.check(y_true, outputs)
        for name, values in fields.items():
            if len(values) != len(y_true):
                raise InputError(
                    f"The field {name!r} must have one value a row. "
                    f"Received: {len(values)} values for {len(y_true)} rows."
                )
        self._kept.append((y_true, outputs))
        self._remember(fields, y_true, outputs)
        self._rows += len(y_true)

    def report(
        self,
        *,
        split: str = "test",
        before: Mapping[str, Any] | None = None,
        history: Iterable[Mapping[str, Any]] = (),
        fit_seconds: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Report:
        """Return the report of all rows taken so far.

        Args:
            split: Which part of the data they are.
            before: `.after` of the report of the model before fine-tuning.
            history: One row an epoch.
            fit_seconds: How long fine-tuning took.
            extra: Further JSON values to keep.

        Returns:
            The report.

        Raises:
            InputError: If no row was taken.
        """
        after, text = self._kind.measure(*self._all(split))
        return Report(
            task=self._task,
            kind=self._name,
            after=after,
            labels=self._labels,
            before=before,
            text=text,
            worst=tuple(example for _, _, example in self._worst),
            rows=self._rows,
            split=split,
            history=tuple(history),
            fit_seconds=fit_seconds,
            extra=dict(extra or {}),
        )

    def main(self) -> tuple[str, Callable[[np.ndarray], float]]:
        """Return the score that two models are compared by.

        Returns:
            Its name among the metrics, and a function that gives it for the rows drawn some times
            each: whole numbers of shape [rows] -> a number, NaN where it is undefined.

        Raises:
            InputError: If no row was taken.

        Example:
            >>> name, score = collector.main()
            >>> name, score(np.array([1, 1])), score(np.array([2, 0]))
            ('macro_f1', 0.3333333333333333, 1.0)
        """
        return self._kind.main, self._kind.drawn(*self._all("the data"))

    @property
    def rows(self) -> int:
        """How many rows were taken."""
        return self._rows

    def _all(self, split: str) -> tuple[Sequence, Sequence]:
        """The right answers and the outputs of all rows."""
        if not self._rows:
            raise InputError(f"There is nothing to score: {split!r} has no rows. Received: 0 rows.")
        y_true, outputs = map(self._kind.join, zip(*self._kept, strict=True))
        return y_true, outputs

    def _remember(self, fields: Mapping[str, Sequence], y_true: Sequence, outputs: Sequence):
        """Merge this chunk's worst into the worst so far; of two alike the earlier row stays."""
        wrong = self._kind.wrong(y_true, outputs)
        found = list(self._worst)
        for i in np.argsort(-wrong, kind="stable")[: self._most]:
            if not wrong[i] > 0:
                break
            row = self._rows + int(i) + 1
            shown = {name: _short(values[i]) for name, values in fields.items()}
            answer = self._kind.describe(y_true[i], outputs[i])
            found.append((float(wrong[i]), row, {"row": row} | shown | answer))
        self._worst = heapq.nsmallest(self._most, found, key=lambda kept: (-kept[0], kept[1]))


def _short(value: Any) -> Any:
    long = isinstance(value, str) and len(value) > _TEXT
    return value[:_TEXT] + "…" if long else value
