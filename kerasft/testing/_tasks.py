"""The contract of a task, part by part."""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft.backbones import template_of
from kerasft.data import encoder
from kerasft.data.fields import KINDS
from kerasft.pipeline import Pipeline
from kerasft.tasks import registry
from kerasft.testing import _rig, tiny
from kerasft.testing._compare import close, equal, same, same_names

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
import tensorflow as tf  # noqa: E402

_FEATURES = ("token_ids", "segment_ids", "padding_mask")


@dataclass
class Case:
    """One task on one family, with a tiny pipeline that all parts share."""

    task: Any
    family: Any
    outputs: tuple[str, ...] | None
    pipe: Pipeline

    def fields(self, rows: int = 7) -> dict[str, list]:
        """Rows with every field of the task."""
        return _rig.sample(self.task, rows)

    def texts(self, rows: int = 7) -> dict[str, list]:
        """Rows with the text fields only."""
        fields = self.fields(rows)
        return {name: fields[name] for name in self.task.inputs}

    def features(self) -> dict[str, Any]:
        """The texts as inputs of the model."""
        encoded = self.pipe.encode(self.texts())
        width = encoded["token_ids"].shape[1]
        spare = [(0, 0), (0, (self.pipe.fixed_length or width) - width)]
        return {n: tf.constant(np.pad(encoded[n], spare)) for n in self.pipe.inputs}


def check_task(
    task: Any,
    family: Any = "bert",
    *,
    outputs: tuple[str, ...] | None = None,
    parts: Iterable[str] | None = None,
) -> dict[str, str]:
    """Hold a task to its contract on a tiny backbone of one family.

    Args:
        task: a task that is registered (`kerasft.tasks.registry`), with its labels.
        family: the family's name, or its row of `FAMILIES`.
        outputs: the names that `decode` gives; not compared when None.
        parts: names of `TASK_PARTS`; all when None.

    Returns:
        Part -> "passed", or why there was nothing to check.

    Raises:
        AssertionError: says what does not hold.

    Example:
        >>> check_task(TextClassification(labels=("a", "b")), outputs=("label",))
    """
    row = tiny.family(family)
    case = Case(task, row, outputs, _rig.pipeline(row, "full", task))
    wanted = TASK_PARTS if parts is None else tuple(parts)
    return {name: TASK_PARTS[name](case) or "passed" for name in wanted}


def _config(case: Case) -> None:
    config = json.loads(json.dumps(registry.config(case.task)))
    equal(registry.build(config), case.task, "the task built from its configuration")


def _fields(case: Case) -> None:
    fields = case.task.fields()
    equal(set(fields.values()) <= set(KINDS), True, f"kinds of fields are of {KINDS}")
    equal(set(case.task.inputs) | set(case.task.reads) <= set(fields), True, "inputs are fields")
    rows = case.fields()
    features = encoder(case.task, case.pipe.tokenizer, case.task.reads)(rows)
    values = case.task.targets(rows, features)
    count = len(features["token_ids"]) // case.task.sides
    equal((len(values), values.dtype.kind in "if"), (count, True), "one target each, of numbers")
    equal(len(case.task.truth(rows)), 7, "one truth a row")
    equal(case.task.with_labels({}).name, case.task.name, "the task that has seen labels")


def _encode(case: Case) -> None:
    task, tokenizer, texts = case.task, case.pipe.tokenizer, case.texts()
    graph = encoder(task, tokenizer)
    together = graph(texts)
    eager = task.encode(tokenizer, {n: tf.constant(v) for n, v in texts.items()})
    same(together, eager, "encoding in the graph and outside, the")
    same_names(together, _FEATURES, "the features")
    ids, mask = together["token_ids"], together["padding_mask"]
    equal({v.dtype.name for v in together.values()}, {"int32"}, "types of the features")
    equal(ids.shape[1] <= task.max_length, True, "the width is at most `max_length`")
    equal(bool((np.diff(mask, axis=1) <= 0).all()), True, "padding is on the right")
    equal(bool((mask.sum(1) > 0).all()), True, "every row has something to read")
    pad = template_of(tokenizer).pad
    equal(set(ids[mask == 0]) <= {pad}, True, "padding holds the pad id")
    for row in range(len(mask)):
        alone = graph({name: values[row : row + 1] for name, values in texts.items()})
        width = int(mask[row].sum())
        cut = {name: value[row : row + 1, :width] for name, value in together.items()}
        same(alone, cut, f"row {row} alone and among others, the")


def _model(case: Case) -> None:
    model, x = case.pipe.model, case.features()
    equal(type(model).__name__, "Functional", "the class of the model")
    names = [i.name.split(":")[0] for i in case.pipe.backbone.inputs]
    same_names(case.pipe.inputs, names, "the inputs of the model and the backbone")
    out = model(x, training=False)
    equal((out.dtype.name, out.shape[0]), ("float32", 7), "type and rows of the outputs")
    score = case.task.scores(np.asarray(out))
    equal((len(score), bool(np.isfinite(score).all())), (7, True), "finite scores, one a row")


def _loss(case: Case) -> None:
    loss, y = case.task.loss(), tf.constant(case.task.targets(case.fields()))
    out = case.pipe.model(case.features(), training=False)
    rows = np.asarray(loss.call(y, out))
    equal(rows.shape, (7,), "the shape of the loss before its mean: one value a row")
    close(np.asarray(loss(y, out)), rows.mean(), 1e-6, "the loss is the mean over the rows; it")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    same(np.asarray(again.call(y, out)), rows, "the loss made again from its configuration")
    for scale in (1.0, 1e3):
        with tf.GradientTape() as tape:
            far = tf.Variable(out * scale)
            value = loss(y, far)
        moved = np.asarray(tape.gradient(value, far))
        equal(bool(np.isfinite(moved).all()), True, f"finite gradients at logits times {scale}")


def _metrics(case: Case) -> None:
    y = case.task.targets(case.fields())
    out = case.pipe.model(case.features(), training=False)
    for metric in case.task.metrics():
        metric.update_state(y, out)
        equal(bool(np.isfinite(float(metric.result()))), True, f"{metric.name} is a number")


def _decode(case: Case) -> None:
    out = case.pipe.model(case.features(), training=False)
    together = {n: np.asarray(v) for n, v in case.task.decode(out).items()}
    if case.outputs is not None:
        same_names(together, case.outputs, "the names of the answers")
    equal({len(v) for v in together.values()}, {7}, "answers, one a row")
    graph = tf.function(case.task.decode)(out)
    for name, value in together.items():
        if value.dtype.kind == "f":
            close(graph[name], value, 1e-6, f"decoded in the graph, {name}")
        else:
            equal(graph[name].numpy().tolist(), value.tolist(), f"decoded in the graph, {name}")
    for row in range(7):
        alone = case.task.decode(out[row : row + 1])
        for name, value in together.items():
            _same_row(np.asarray(alone[name])[0], value[row], f"row {row} alone, {name}")


def _same_row(alone: np.ndarray, among: np.ndarray, what: str) -> None:
    alone, among = np.ravel(alone), np.ravel(among)
    if among.dtype.kind == "f":
        close(alone, among, 1e-6, what)
        return
    equal([v for v in alone if v], [v for v in among if v], what)


def _training(case: Case) -> None:
    losses = _rig.stepped(case.pipe, 2)
    equal(bool(np.isfinite(losses).all()), True, f"finite losses ({losses})")


def _pipeline(case: Case) -> None:
    pipe = case.pipe
    texts = case.texts()
    rows = [dict(zip(texts, values, strict=True)) for values in zip(*texts.values(), strict=True)]
    answers = pipe.predict(rows)
    equal(len(answers), len(rows), "answers of `predict`, one a row")
    if case.outputs is not None:
        same_names(answers[0], case.outputs, "the names that `predict` gives")
    with tempfile.TemporaryDirectory() as folder:
        again = Pipeline.load(pipe.save(Path(folder) / "model"))
    equal(again.task, case.task, "the task of the saved pipeline")
    equal(again.predict(rows), answers, "the answers of the saved pipeline")


TASK_PARTS: dict[str, Callable[[Case], str | None]] = {
    "config": _config,
    "fields": _fields,
    "encode": _encode,
    "model": _model,
    "loss": _loss,
    "metrics": _metrics,
    "decode": _decode,
    "training": _training,
    "pipeline": _pipeline,
}
