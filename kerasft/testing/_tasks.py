"""The contract of a task, part by part."""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft.backbones import template_of
from kerasft.backbones.crossing import input_names
from kerasft.data import encoder, input_specs, kinds_of, tensors_of
from kerasft.data.encoded import mask_of
from kerasft.data.fields import KINDS
from kerasft.evaluation import Collector
from kerasft.pipeline import Pipeline
from kerasft.tasks import registry
from kerasft.testing import _rig, tiny
from kerasft.testing._compare import close, difference, equal, same, same_names
from kerasft.training.fitted import Fitted

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
import tensorflow as tf  # noqa: E402

_FEATURES = ("token_ids", "segment_ids", "padding_mask")
_SECOND = ("decoder_token_ids", "decoder_padding_mask")
ROWS = 7


@dataclass
class Case:
    """One task on one family, with a tiny pipeline that all parts share."""

    task: Any
    family: Any
    outputs: tuple[str, ...] | None
    pipe: Pipeline

    def fields(self, rows: int = ROWS) -> dict[str, list]:
        """Rows with every field of the task."""
        return _rig.sample(self.task, rows)

    def texts(self, rows: int = ROWS) -> dict[str, list]:
        """Rows with what is asked only."""
        kinds = kinds_of(self.task)
        return _rig.sample(self.task, rows, {name: kinds[name] for name in self.task.inputs})

    @cached_property
    def encoded(self) -> dict[str, np.ndarray]:
        """The inputs of the answers as `encode` gives them."""
        return self.pipe.encode(self.texts())

    @cached_property
    def outputs_of_model(self) -> np.ndarray:
        """The raw outputs for them."""
        return self.pipe.outputs(self.encoded)

    @cached_property
    def feed(self) -> Any:
        """Rows to learn from."""
        return _rig.feed(self.pipe)

    def learned(self) -> tuple:
        """All rows as one batch: features, targets and, where tokens have their own, weights."""
        plan = dataclasses.replace(self.feed.plan, batch_size=len(self.feed.rows))
        return next(dataclasses.replace(self.feed, plan=plan).batches())

    def raw(self, features: dict[str, np.ndarray]) -> Any:
        """Outputs for a batch of `learned`, as the loss is given them."""
        fitted = Fitted(_rig.fitted_model(self.pipe), self.task.loss())
        return fitted({n: tf.constant(v) for n, v in features.items()}, training=False)


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
    known = set(kinds_of(case.task))
    equal(set(case.task.inputs) | set(case.task.reads) <= known, True, "inputs have kinds")
    rows = case.fields()
    features = encoder(case.task, case.pipe.tokenizer, case.task.reads)(rows)
    values = case.task.targets(rows, features)
    sides = case.task.sides
    count = ROWS if sides is None else len(features["token_ids"]) // sides
    equal((len(values), values.dtype.kind in "if"), (count, True), "one target each, of numbers")
    if not hasattr(case.task, "judged"):
        equal(len(case.task.truth(rows)), ROWS, "one truth a row")
    counts = dict.fromkeys(case.task.labels, 1)
    equal(case.task.with_labels(counts).labels, case.task.labels, "the labels once seen")


def _encode(case: Case) -> None:
    task, tokenizer, texts = case.task, case.pipe.tokenizer, case.texts()
    graph = encoder(task, tokenizer)
    together = graph(texts)
    specs = input_specs(task)
    given = {
        n: tf.ragged.constant(v) if n in _ragged(specs) else tf.constant(v)
        for n, v in texts.items()
    }
    eager = {n: np.asarray(v) for n, v in task.encode(tokenizer, given).items()}
    same(together, eager, "encoding in the graph and outside, the")
    equal(set(_FEATURES) <= set(together), True, f"the features hold {_FEATURES}")
    names = (*_FEATURES, *(n for n in _SECOND if n in together))
    equal(set(case.pipe.inputs) <= set(together), True, "the features hold the model's inputs")
    equal({together[n].dtype.name for n in names}, {"int32"}, "types of the features")
    for before in sorted({n.partition("token_ids")[0] for n in names if n.endswith("token_ids")}):
        _check_padding(case, together[f"{before}token_ids"], together[f"{before}padding_mask"])
    owner = together.get("row", np.arange(ROWS))
    equal(sorted(set(owner.tolist())), list(range(ROWS)), "every row has a sequence")
    for row in range(ROWS):
        alone = graph({name: values[row : row + 1] for name, values in texts.items()})
        sizes = {n: together[mask_of(n, together)][owner == row].sum(1) for n in names}
        cut = {n: together[n][owner == row][:, : int(sizes[n].max())] for n in names}
        same({n: alone[n] for n in names}, cut, f"row {row} alone and among others, the")


def _check_padding(case: Case, ids: np.ndarray, mask: np.ndarray) -> None:
    equal(ids.shape[1] <= case.task.max_length, True, "the width is at most `max_length`")
    equal(bool((np.diff(mask, axis=1) <= 0).all()), True, "padding is on the right")
    equal(bool((mask.sum(1) > 0).all()), True, "every row has something to read")
    pad = template_of(case.pipe.tokenizer).pad
    equal(set(ids[mask == 0]) <= {pad}, True, "padding holds the pad id")


def _ragged(specs: dict[str, Any]) -> set[str]:
    return {n for n, spec in specs.items() if isinstance(spec, tf.RaggedTensorSpec)}


def _model(case: Case) -> None:
    model, out = case.pipe.model, case.outputs_of_model
    equal(type(model).__name__, "Functional", "the class of the model")
    names = input_names(case.pipe.backbone)
    equal(set(names) <= set(case.pipe.inputs), True, "the model has the backbone's inputs")
    count = ROWS if case.task.sides is None else len(case.encoded["token_ids"])
    equal((out.dtype.name, out.shape[0]), ("float32", count), "type and rows of the outputs")
    if hasattr(case.task, "judged"):
        return
    score = case.task.scores(out, case.encoded)
    equal(len(score), ROWS, "scores, one a row")
    if isinstance(score, np.ndarray):
        equal(bool(np.isfinite(score).all()), True, "finite scores")


def _loss(case: Case) -> None:
    x, y, *weights = case.learned()
    loss, y, out = case.task.loss(), tf.constant(y), case.raw(x)
    rows = np.asarray(loss.call(y, out))
    equal(rows.shape, (len(y),), "the shape of the loss before its mean: one value an example")
    equal(bool(np.isfinite(rows).all()), True, "finite losses")
    equal(len(weights), int(case.task.tokenwise), "examples have weights where tokens are learned")
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
    x, y, *_ = case.learned()
    out = case.raw(x)
    for metric in case.task.metrics():
        metric.update_state(y, out)
        equal(bool(np.isfinite(float(metric.result()))), True, f"{metric.name} is a number")


def _judged(case: Case) -> None:
    task = case.task
    collector = Collector(task.name, task.kind, task.labels, **task.scoring())
    chunks = [case.fields(), case.fields(2)]
    found = list(case.pipe.judged(chunks))
    # What is ranked is judged by query, and rows may ask the same.
    rows = len(set(case.fields()["text"])) if task.kind == "ranking" else ROWS + 2
    equal(sum(len(truth) for _, truth, _ in found), rows, "rows that are judged")
    for shown, truth, scores in found:
        collector.add(shown, truth, scores)
    numbers = [v for v in collector.report().after.values() if isinstance(v, float)]
    equal(bool(np.isfinite(numbers).all()), True, "finite scores")


def _decode(case: Case) -> None:
    if hasattr(case.task, "answer"):
        return _answer(case)
    features = {n: tf.convert_to_tensor(v) for n, v in case.encoded.items()}
    out = tf.constant(case.outputs_of_model)
    together = {n: np.asarray(v) for n, v in case.task.decode(out, features).items()}
    if case.outputs is not None:
        same_names(together, case.outputs, "the names of the answers")
    equal({len(v) for v in together.values()}, {ROWS}, "answers, one a row")
    equal(set(case.task.padded) <= set(together), True, "`padded` are names of answers")
    graph = tf.function(case.task.decode)(out, features)
    for name, value in together.items():
        if value.dtype.kind == "f":
            close(graph[name], value, 1e-6, f"decoded in the graph, {name}")
        else:
            equal(graph[name].numpy().tolist(), value.tolist(), f"decoded in the graph, {name}")
    texts = case.texts()
    for row in range(ROWS):
        part = case.pipe.encode({n: v[row : row + 1] for n, v in texts.items()})
        alone = case.task.decode(case.pipe.outputs(part), part)
        for name, value in together.items():
            _same_row(np.asarray(alone[name])[0], value[row], f"row {row} alone, {name}")


def _answer(case: Case) -> None:
    texts, specs = case.texts(), input_specs(case.task)
    together = {n: np.asarray(v) for n, v in case.pipe.asked(tensors_of(texts, specs)).items()}
    if case.outputs is not None:
        same_names(together, case.outputs, "the names of the answers")
    equal({len(v) for v in together.values()}, {ROWS}, "answers, one a row")
    equal(set(case.task.padded) <= set(together), True, "`padded` are names of answers")
    for row in range(ROWS):
        given = tensors_of({n: v[row : row + 1] for n, v in texts.items()}, specs)
        for name, value in case.pipe.asked(given).items():
            _same_row(np.asarray(value)[0], together[name][row], f"row {row} alone, {name}")


def _same_row(alone: np.ndarray, among: np.ndarray, what: str) -> None:
    """Equal but for the padding that another row of the batch asks for."""
    alone, among = np.ravel(alone), np.ravel(among)
    if among.dtype.kind == "f":
        width = max(len(alone), len(among))
        alone, among = (np.pad(v, (0, width - len(v))) for v in (alone, among))
        # Both are at most about 1, and summed in another order.
        close(alone, among, 1e-5, what, absolute=bool(np.abs(among).max(initial=0.0) <= 1.0))
        return
    pads = (b"", -1)
    equal([v for v in alone if v not in pads], [v for v in among if v not in pads], what)


def _training(case: Case) -> None:
    losses = _rig.stepped(case.pipe, 2, batch=case.learned())
    equal(bool(np.isfinite(losses).all()), True, f"finite losses ({losses})")


def _replicas(case: Case, eager: bool = True) -> str | None:
    strategy = _rig.replicas()
    if strategy is None:
        return "there is one CPU device; two are set with tf.config"

    # Dropout is drawn by each replica for itself.
    still = {f.name: 0.0 for f in dataclasses.fields(case.task) if f.name == "head_dropout"}
    task = dataclasses.replace(case.task, **still)

    def build() -> Pipeline:
        return _rig.pipeline(case.family, "full", task)

    # In parts, which gradient accumulation takes of the rows; some are empty.
    parts = 1 if getattr(task, "whole_batch", False) else 2
    one, loss = _rig.fitted_with_sgd(None, build, rows=case.feed, parts=parts, eager=True)
    two, loss_of_two = _rig.fitted_with_sgd(strategy, build, rows=case.feed, eager=eager)
    close(loss_of_two, loss, 1e-5, "the loss on two replicas")
    wanted, found = _rig.values(one.model.weights), _rig.values(two.model.weights)
    most = 1e-6
    if max(difference(found[path], wanted[path]) for path in wanted) > most:
        # A backbone that multiplies rounding (T5 has no 1 / sqrt(d) in its attention) is compared
        # with what half a last place of every weight does in the same three steps; a sum that is
        # not divided by the replicas is far above that.
        noisy, _ = _rig.fitted_with_sgd(
            None, lambda: _rig.nudged(build()), rows=case.feed, eager=True
        )
        moved = _rig.values(noisy.model.weights)
        most = max(most, 0.1 * max(difference(moved[path], wanted[path]) for path in wanted))
    close(found, wanted, most, "two replicas:", absolute=True)
    return None


def _replicas_in_graph(case: Case) -> str | None:
    return _replicas(case, eager=False)


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
    "judged": _judged,
    "decode": _decode,
    "training": _training,
    "pipeline": _pipeline,
    "replicas": _replicas,
    "replicas in a graph": _replicas_in_graph,
}
