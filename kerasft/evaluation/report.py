"""What a model was worth on one set of examples, to print, to save and to compare."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.evaluation import _tables, plots
from kerasft.metrics import plain


@dataclasses.dataclass(frozen=True)
class Report:
    """The scores of a model on one set of examples, and where it went most wrong.

    Args:
        task: The name of the task, e.g. `text-classification`.
        kind: One of those of `Collector`.
        after: The metrics by name; numbers are scores, None is an undefined one, and
            `per_class`, `confusion` and `reliability` are tables of `kerasft.metrics`.
        labels: The names of the classes or entities, in the model's order; else empty.
        before: The same metrics of the model before fine-tuning, or None.
        text: scikit-learn's report; empty where there is none.
        worst: The most confidently wrong examples, the worst first: `row` (from 1), the texts,
            `expected`, `predicted` (not for `perplexity`), and `confidence` (of 1) or `error`
            (of a number; entities missed or invented; 1 - F1, 1 - chrF, 1 - 1 / rank; nats).
        rows: How many examples were scored.
        split: Which part of the data they are, e.g. `test`, or a file's name.
        history: One row an epoch, as in `history.csv`.
        fit_seconds: How long fine-tuning took.
        extra: Further JSON values to keep, e.g. the preset and the method.

    Example:
        >>> Report("text-classification", "multiclass", {"accuracy": 0.9}).to_json()["accuracy"]
        0.9
    """

    task: str
    kind: str
    after: dict[str, Any]
    labels: tuple[str, ...] = ()
    before: dict[str, Any] | None = None
    text: str = ""
    worst: tuple[dict[str, Any], ...] = ()
    rows: int = 0
    split: str = "test"
    history: tuple[dict[str, Any], ...] = ()
    fit_seconds: float | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = plain(getattr(self, field.name))
            value = tuple(value) if isinstance(value, list) else value
            object.__setattr__(self, field.name, value)

    def to_json(self) -> dict[str, Any]:
        """Return the object of `metrics.json`.

        Returns:
            The scores of the fine-tuned model by name at the top level (multiclass: `accuracy
            macro_f1 weighted_f1 macro_precision macro_recall weighted_precision
            weighted_recall mcc roc_auc ece log_loss`; multilabel: `accuracy`, `macro_`,
            `micro_` and `weighted_` `f1`, `precision` and `recall`, `roc_auc hamming_loss
            ece`; regression: `pearson spearman mse mae r2`; entities: `entity_` and `macro_`
            `f1`, `precision` and `recall`, `accuracy`; answers: `exact_match f1`, and where
            some row has no answer `has_answer_exact_match has_answer_f1 no_answer_accuracy
            best_exact_match best_exact_match_threshold best_f1 best_f1_threshold`;
            generation: `bleu chrf rouge_1 rouge_2 rouge_l exact_match distinct_1 distinct_2
            mean_tokens mean_characters length_ratio share_empty`; perplexity: `perplexity nll
            tokens`; ranking: `mrr map`, for each K `ndcg_at_K recall_at_K precision_at_K
            hit_rate_at_K`, `queries queries_without_relevant`; similarity: `spearman
            pearson`), then `fit_seconds` (None if
            nothing was fitted), `before` (None if not scored) and `after` with the same
            scores, `per_class`, `task`, `kind`, `labels`, `split`, `rows` and `extra`.
        """
        after = _scores(self.after)
        return after | {
            "fit_seconds": self.fit_seconds,
            "before": None if self.before is None else _scores(self.before),
            "after": after,
            "per_class": self.after.get("per_class", {}),
            "task": self.task,
            "kind": self.kind,
            "labels": list(self.labels),
            "split": self.split,
            "rows": self.rows,
            "extra": self.extra,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return every field in JSON types, the object of `report.json`."""
        return plain({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Report":
        """Return the report that `to_dict` was called on.

        Args:
            fields: What `to_dict` returned, also after a way through JSON.

        Raises:
            InputError: If a field is missing or unknown.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if not {"task", "kind", "after"} <= set(fields) <= known:
            raise InputError(
                f"A report has the fields {', '.join(sorted(known))}. "
                f"Received: {', '.join(sorted(map(str, fields)))}."
            )
        return cls(**fields)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Report":
        """Read the report that `save` wrote into `folder`.

        Args:
            folder: Local or of a scheme such as gs://.

        Raises:
            InputError: If there is no `report.json`, or it is not one.
        """
        return cls.from_dict(files.read_json(files.join(folder, "report.json")))

    def print(self, console: Any = None) -> None:
        """Print the scores before and after, those of each class and a few wrong examples.

        Args:
            console: A `rich.console.Console`; standard output if None.
        """
        _tables.show(self, console)

    def save(self, folder: str | os.PathLike) -> list[str]:
        """Write the report into a folder, each file whole or not at all.

        `metrics.json` (`to_json`), `report.json` (`to_dict`), `report.txt` (scikit-learn's
        report and the wrong examples), `worst.jsonl`, and, where there is something to draw,
        `confusion.png`, `calibration.png`, `classes.png` and `learning_curves.png`.

        Args:
            folder: Local or of a scheme such as gs://; made if it is not there.

        Returns:
            The names of the files written.
        """
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in self.worst]
        written = {"report.txt": _tables.as_text(self), "worst.jsonl": "".join(lines)}
        for name, text in written.items():
            files.write_text(files.join(folder, name), text)
        files.write_json(files.join(folder, "report.json"), self.to_dict())
        drawn = self.figures()
        for name, figure in drawn.items():
            files.write_bytes(files.join(folder, name), plots.png(figure))
        # The last one, since a run folder that has it is complete and is not resumed.
        files.write_json(files.join(folder, "metrics.json"), self.to_json())
        return [*written, "report.json", *drawn, "metrics.json"]

    def figures(self) -> dict[str, Any]:
        """Return the plots that this report has, as matplotlib figures by file name."""
        found = {}
        if self.after.get("confusion"):
            draw, name = plots.confusion, "Confusion matrix"
            if self.kind == "multilabel":
                draw, name = plots.decisions, "Decisions"
            title = f"{name}, {self.split}: {self.rows:,} rows"
            found["confusion.png"] = draw(self.after["confusion"], self.labels, title)
        if self.after.get("reliability"):
            before = (self.before or {}).get("reliability")
            found["calibration.png"] = plots.calibration(self.after["reliability"], before)
        if self.kind == "entities" and self.after.get("per_class"):
            before = (self.before or {}).get("per_class")
            title = f"F1, {self.split}: {self.rows:,} rows"
            found["classes.png"] = plots.class_scores(self.after["per_class"], before, title)
        if self.history:
            found["learning_curves.png"] = plots.learning_curves(self.history)
        return found


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers among the metrics, the tables left out."""
    return {k: v for k, v in metrics.items() if not isinstance(v, (dict, list))}
