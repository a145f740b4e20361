"""What the suites share: tiny models with a head, real training steps, answers, weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft._core.weights import named
from kerasft.backbones import template_of
from kerasft.backbones.crossing import input_names
from kerasft.data import Feed, draw_of, encode_rows, encoder, feed_of
from kerasft.methods import adapt, registry, watch_of
from kerasft.optimizers import adamw
from kerasft.pipeline import Pipeline
from kerasft.tasks import TextClassification
from kerasft.testing import tiny
from kerasft.training.fitted import Fitted, compiled
from kerasft.training.strategy import strategy_for

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
import tensorflow as tf  # noqa: E402

TASK = TextClassification(labels=("bad", "good", "ugly"), head_dropout=0.0, max_length=16)
_TEXTS = (*tiny.ODD_TEXTS[:1], "a free prize, call now!", "bad", *tiny.ODD_TEXTS[4:])


def pipeline(family: Any, method: Any = "full", task: Any = None, seed: int = 0, **options: Any):
    """A tiny `Pipeline`; its head's weights follow from the seed too."""
    backbone = tiny.backbone(family, seed, **options)
    return assemble(adapt(backbone, method), family, task or TASK, seed)


def assemble(adapted: Any, family: Any, task: Any, seed: int = 0) -> Pipeline:
    """A `Pipeline` around an adapted backbone, with a random head."""
    pipe = Pipeline(task.build(adapted), tiny.tokenizer(family), task)
    random = np.random.default_rng([seed, 1])
    for variable in pipe.head_variables:
        variable.assign(0.3 * random.standard_normal(variable.shape).astype(np.float32))
    return pipe


def answers(model: Any, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a model or backbone gives, by name, without dropout."""
    out = model(features, training=False)
    out = out if isinstance(out, dict) else {"output": out}
    return {name: np.asarray(keras.ops.cast(value, "float32")) for name, value in out.items()}


def values(variables: list[Any]) -> dict[str, np.ndarray]:
    """Copies of variables by path."""
    return {path: np.array(v) for path, v in named(variables).items()}


def trainable(model: Any) -> list[str]:
    """Paths of the variables that are trained, sorted."""
    return sorted(named(model.trainable_variables))


def sample(task: Any, rows: int, fields: dict[str, str] | None = None) -> dict[str, list]:
    """Rows for a task, by the kinds of its fields; another label from row to row."""
    labels = list(getattr(task, "labels", ()))
    fields = task.fields() if fields is None else fields
    texts = [_TEXTS[i % len(_TEXTS)] for i in range(rows)]
    made = {
        "text": texts,
        "optional text": texts,
        "texts": [("good", "bad", "film")[: 2 + i % 2] for i in range(rows)],
        "label": [labels[i % len(labels)] for i in range(rows)] if labels else [],
        "labels": [tuple(labels[: i % (len(labels) + 1)]) for i in range(rows)],
        "number": [0.5 * i - 1.0 for i in range(rows)],
        "whole": [i % 3 for i in range(rows)],
        "messages": [(("user", text or "hi"), ("assistant", "the film")) for text in texts],
    }
    found: dict[str, list] = {}
    for n, (name, kind) in enumerate(fields.items()):
        if kind == "spans":
            found[name] = [
                _first_word(text, labels[i % len(labels)]) for i, text in enumerate(texts)
            ]
        elif kind == "answers":
            found[name] = [_last_word(text) for text in found["context"]]
        else:
            found[name] = made[kind][n:] + made[kind][:n]
    return found


def _first_word(text: str, label: str) -> tuple:
    word = text.split()[:1]
    return tuple((text.index(w), text.index(w) + len(w), label) for w in word)


def _last_word(text: str) -> tuple:
    return tuple((text.rindex(w), w) for w in text.split()[-1:])


def feed(pipe: Pipeline, rows: int = 7, batch_size: int = 3) -> Feed:
    """Sample rows of a pipeline's task as batches for `fit`, in their order."""
    encode = encoder(pipe.task, pipe.tokenizer, pipe.task.reads)
    pad = template_of(pipe.tokenizer).pad
    encoded = encode_rows([sample(pipe.task, rows)], encode, pipe.task, keep=pipe.inputs, pad=pad)
    names = input_names(fitted_model(pipe))
    return feed_of(
        pipe.task,
        encoded,
        names,
        batch_size,
        shuffle=False,
        length=pipe.fixed_length,
        draw=draw_of(pipe.task, pipe.tokenizer),
    )


def fitted_model(pipe: Pipeline) -> Any:
    """The model that is fitted: that of the answers, or one that shares its weights."""
    return pipe.task.trained(pipe.model) if hasattr(pipe.task, "trained") else pipe.model


def targets(task: Any, rows: int) -> np.ndarray:
    """Targets of a task, another one from row to row."""
    return task.targets(sample(task, rows))


def watched(pipe: Pipeline, steps: int) -> Any:
    """What the pipeline's method does at every step of a training of so many."""
    method = registry.build(pipe.adapted.method_config)
    return watch_of(method, pipe.backbone, steps)


def stepped(
    pipe: Pipeline, steps: int = 2, objectives: tuple[Any, ...] = (), batch: tuple | None = None
) -> list[float]:
    """Train some steps with AdamW and weight decay on one batch; returns the losses."""
    optimizer = adamw(1e-2, pipe.model, weight_decay=0.1)
    watch = watched(pipe, steps)
    fitted = compiled(fitted_model(pipe), pipe.task, optimizer, objectives, watch)
    fitted.run_eagerly = True  # a step is over sooner than its graph is made
    if batch is None:
        x = tiny.features(pipe.model)
        batch = (x, targets(pipe.task, len(x["token_ids"])))
    return [float(fitted.train_on_batch(*batch, return_dict=True)["loss"]) for _ in range(steps)]


def replicas() -> Any:
    """A strategy over the logical CPUs, or None where there is one."""
    return strategy_for("mirrored") if len(tf.config.list_logical_devices("CPU")) > 1 else None


def nudged(pipe: Pipeline) -> Pipeline:
    """The pipeline with every weight moved by half a last place, up or down."""
    random = np.random.default_rng(1)
    for variable in pipe.model.trainable_variables:
        value = np.asarray(variable)
        variable.assign(value * (1 + 6e-8 * random.choice([-1, 1], value.shape)))
    return pipe


def fitted_with_sgd(
    strategy: Any,
    build: Any,
    objectives: tuple[Any, ...] = (),
    rate: float = 0.02,
    rows: Feed | None = None,
    parts: int = 1,
    eager: bool = False,
) -> tuple[Fitted, float]:
    """Fit two batches, the last of one row, under a strategy; the model and its loss.

    Args:
        strategy: a tf.distribute strategy, or None for one device.
        build: makes the pipeline, always with the same weights.
        objectives: objectives that are bound to the model.
        rate: the learning rate.
        rows: the batches (see `feed`); random ids when None.
        parts: in how many parts each replica takes its rows of a batch.
        eager: without a graph, which takes longer to make than the steps take.
    """
    with strategy.scope() if strategy else contextlib.nullcontext():
        pipe = build()
        bound = tuple(o.bind(pipe.model) for o in objectives)
        steps = 2 if rows is None else rows.plan.steps
        model, optimizer = fitted_model(pipe), keras.optimizers.SGD(rate)
        fitted = compiled(model, pipe.task, optimizer, bound, watched(pipe, steps), parts)
        fitted.run_eagerly = eager
    data = _random_rows(pipe) if rows is None else rows.dataset(rows.batches)
    history = fitted.fit(data.repeat(), steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
    return fitted, history.history["loss"][0]


def _random_rows(pipe: Pipeline) -> Any:
    x = tiny.features(pipe.model, rows=4)
    y = targets(pipe.task, 4)

    def batches() -> Iterator[tuple[dict, np.ndarray]]:
        for i in (0, 3):
            yield {n: v[i : i + 3] for n, v in x.items()}, y[i : i + 3]

    kinds = {n: tf.TensorSpec((None, None), tf.int32) for n in x}
    kind = tf.TensorSpec((None, *y.shape[1:]), y.dtype)
    return tf.data.Dataset.from_generator(batches, output_signature=(kinds, kind))
