"""The profile of what a model learned from, with which a monitor compares what it is asked."""

import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.metrics.drift import Draw, binned, quantile_edges

NAME = "reference.json"
PLACE = f"assets.extra/{NAME}"
FORMAT = "kerasft-reference.v1"
BINS = 10
SAMPLE = 1000  # values of a feature that are kept for Kolmogorov-Smirnov
_SCORED = 500  # rows that are answered for the predicted classes: an answer costs a forward pass
_MEASURED = 2000  # training rows that are tokenised, a draw of all
_CHUNK = 1024
# Signs of two dead scripts: a vocabulary that holds neither gives both the id of what it lacks.
_RARE = ("\U00012000", "\U00013001")


@dataclass(frozen=True)
class Feature:
    """How the values of one feature were spread.

    Args:
        rows: how many values.
        mean: their mean.
        edges: inner edges of the bins (`kerasft.metrics.drift.quantile_edges`).
        counts: values a bin, one more than edges.
        sample: a draw of at most 1,000 of the values, rising.
    """

    rows: int
    mean: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    sample: tuple[float, ...]

    def __post_init__(self):
        for name in ("edges", "counts", "sample"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        values = [self.rows, self.mean, *self.edges, *self.counts, *self.sample]
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            raise InputError("A feature of a reference holds finite numbers alone.")
        rising = all(a < b for a, b in itertools.pairwise(self.edges))
        if len(self.counts) != len(self.edges) + 1 or not rising or not self.sample:
            raise InputError("A feature of a reference has one count more than edges, which rise.")
        if min(self.counts) < 0 or sum(self.counts) != self.rows:
            raise InputError("The counts of a reference's feature sum to its rows.")

    @classmethod
    def of(cls, values: Any, seed: int = 0) -> "Feature":
        """The feature of some values, shape [n], n at least 1."""
        array = np.asarray(values, np.float64)
        edges = quantile_edges(array, BINS)
        draw = np.random.default_rng(seed)
        kept = array if len(array) <= SAMPLE else draw.choice(array, SAMPLE, replace=False)
        return cls(
            len(array), float(array.mean()), edges, binned(array, edges), np.sort(kept).tolist()
        )


@dataclass(frozen=True)
class Shares:
    """How often each class was there.

    Args:
        rows: all rows; the counts sum to it, unless a row may have several labels.
        counts: class -> rows.
        of: what was counted: `predicted` or `labels`, and of which part of the data.
    """

    rows: int
    counts: Mapping[str, int]
    of: str

    def __post_init__(self):
        counts = dict(self.counts) if isinstance(self.counts, Mapping) else {"": -1}
        if not all(isinstance(c, int) and 0 <= c <= self.rows for c in counts.values()):
            raise InputError("A reference's class counts are whole numbers, at most its rows.")


@dataclass(frozen=True)
class Reference:
    """The profile of a model's data.

    Args:
        task: the task's name.
        labels: the classes that the model knows, in order; empty for a task without.
        features: name -> its spread: `INPUT_characters`, `INPUT_tokens` and `INPUT_unknown` (share
            of unknown tokens) of 2,000 training rows, `confidence` (the greatest probability) or
            `score` of the scored rows.
        classes: shares of the predicted classes on the scored rows, or None.
        label_shares: shares of the labels of the training rows, or None.
        unknown_id: the id that stands for what the vocabulary lacks, or None.

    Example:
        >>> Reference.load("saved_models/desk/3/assets.extra/reference.json").labels
        ('negative', 'neutral', 'positive')
    """

    task: str
    labels: tuple[str, ...] = ()
    features: Mapping[str, Feature] = field(default_factory=dict)
    classes: Shares | None = None
    label_shares: Shares | None = None
    unknown_id: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(map(str, self.labels)))

    @property
    def expected(self) -> Shares | None:
        """The class shares to compare answers with: predicted ones, where they are known."""
        return self.classes or self.label_shares

    def to_json(self) -> dict[str, Any]:
        """The reference in JSON types."""
        return {"format": FORMAT, **asdict(self), "labels": list(self.labels)}

    def save(self, path: str | os.PathLike) -> None:
        """Write it as JSON, whole or not at all."""
        files.write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Reference":
        """Read what `save` wrote.

        Raises:
            InputError: where there is no file, or it is no reference.
        """
        return cls.of_json(files.read_json(path), os.fspath(path))

    @classmethod
    def of_json(cls, found: Any, told: str) -> "Reference":
        """The reference of JSON types; `told` names where they come from."""
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(
                f"{told} is no reference ({FORMAT}), as `kerasft export` and `kerasft reference` "
                "write it."
            )
        try:
            given = {name: value for name, value in found.items() if name != "format"}
            given["features"] = {n: Feature(**f) for n, f in given["features"].items()}
            for name in ("classes", "label_shares"):
                given[name] = Shares(**given[name]) if given.get(name) else None
            return cls(**given)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"{told} is a damaged reference: {error}") from None


def reference_of(pipe: Any, learned: Any, scored: Any = None, part: str = "test") -> Reference:
    """Profile the data of a model.

    Args:
        pipe: the pipeline.
        learned: rows of its training, a source (`Pipeline.source`); all labels are counted, and
            the texts of a draw of 2,000 rows are measured.
        scored: rows that it did not learn from, for its answers; at most 500 are answered.
        part: what they are: `validation` or `test`.

    Returns:
        Its `Reference`.

    Raises:
        InputError: where there is no row.
    """
    task, unknown = pipe.task, unknown_id(pipe.tokenizer)
    drawn, labels, rows = Draw(_MEASURED), Counter(), 0
    for fields in learned.chunks(_CHUNK):
        given = {name: fields[name] for name in task.inputs if _texts(fields.get(name))}
        size = len(next(iter(fields.values())))
        for row in zip(*given.values(), strict=True) if given else ():
            drawn.add(row)
        labels.update(_labels_of(task, fields))
        rows += size
    if not rows:
        raise InputError("A profile needs rows. Received: none.")
    seen: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(drawn.values), _CHUNK):
        columns = zip(*drawn.values[start : start + _CHUNK], strict=True)
        texts = dict(zip(given, map(list, columns), strict=True))
        for name, values in measured(texts, lambda t: _pieces(pipe.tokenizer, t), unknown).items():
            seen.setdefault(name, []).append(values)
    features = {name: Feature.of(np.concatenate(found)) for name, found in seen.items()}
    classes, more = (None, {}) if scored is None else _answered(pipe, scored, part)
    counted = Shares(rows, _in_order(task, labels), "labels of train") if labels else None
    return Reference(task.name, tuple(task.labels), features | more, classes, counted, unknown)


def measured(texts: Mapping[str, list], pieces: Any, unknown: int | None) -> dict[str, np.ndarray]:
    """The features of texts: the same for what was learned and for what is asked.

    Args:
        texts: input -> its texts, str, [n].
        pieces: texts to lists of token ids, without special ones; None where nobody knows them.
        unknown: the id of what the vocabulary lacks; None where it lacks nothing.

    Returns:
        `INPUT_characters` and `INPUT_tokens`, and `INPUT_unknown`, unknown tokens / tokens (0 of
        none), float64 [n].
    """
    found = {}
    for name, values in texts.items():
        found[f"{name}_characters"] = np.array([len(text) for text in values], np.float64)
        ids = pieces(values) if pieces else None
        if ids is None:
            continue
        found[f"{name}_tokens"] = np.array([len(row) for row in ids], np.float64)
        if unknown is not None:
            missed = [sum(i == unknown for i in row) / max(len(row), 1) for row in ids]
            found[f"{name}_unknown"] = np.array(missed, np.float64)
    return found


def unknown_id(tokenizer: Any) -> int | None:
    """The id that a tokenizer gives for what its vocabulary lacks; None if it lacks nothing."""
    ids = _pieces(tokenizer, list(_RARE))
    if ids is None or not all(map(len, ids)) or ids[0][-1] != ids[1][-1]:
        return None
    return int(ids[0][-1])


def _pieces(tokenizer: Any, texts: list[str]) -> list | None:
    """Token ids of texts; None where the pieces are not made in the graph."""
    import tensorflow as tf

    from kerasft.backbones import pieces

    try:
        return pieces(tokenizer, tf.constant(texts)).ids.to_list()
    except InputError:
        return None


def _texts(values: Any) -> bool:
    return values is not None and all(isinstance(value, str) for value in values)


def _labels_of(task: Any, fields: Mapping[str, list]) -> list[str]:
    """The labels of some rows, of a task that gives a row one or several."""
    kinds = task.fields()
    single = [value for n, kind in kinds.items() if kind == "label" for value in fields[n]]
    many = [v for n, kind in kinds.items() if kind == "labels" for row in fields[n] for v in row]
    return [label for label in single + many if label in task.labels]


def _answered(pipe: Any, scored: Any, part: str) -> tuple[Shares | None, dict[str, Feature]]:
    """Classes and confidence of the first rows of a source."""
    task, kept, left = pipe.task, [], _SCORED
    if task.kind not in ("multiclass", "multilabel", "regression") or not (
        task.labels or task.kind == "regression"
    ):
        return None, {}
    for fields in scored.chunks(_CHUNK):
        part_of = {name: values[:left] for name, values in fields.items()}
        kept += [np.asarray(scores) for _, _, scores in pipe.judged([part_of])]
        left -= len(next(iter(part_of.values())))
        if left <= 0:
            break
    if not kept or not sum(map(len, kept)):
        return None, {}
    scores = np.concatenate(kept).astype(np.float64)
    if task.kind == "regression":
        return None, {"score": Feature.of(scores.reshape(len(scores)))}
    if task.kind == "multiclass":
        chosen = np.eye(scores.shape[1], dtype=bool)[scores.argmax(1)]
    else:
        chosen = scores >= np.asarray(task.thresholds or (0.5,) * len(task.labels))
    counts = dict(zip(task.labels, chosen.sum(0).tolist(), strict=True))
    shares = Shares(len(scores), counts, f"predicted on {part}")
    return shares, {"confidence": Feature.of(scores.max(1))}


def _in_order(task: Any, counts: Mapping[str, int]) -> dict[str, int]:
    return {label: int(counts.get(label, 0)) for label in task.labels}
