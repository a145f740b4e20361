"""The Keras way: a functional model to compile and fit in one's own script; and `load`."""

import os
from typing import Any

from kerasft._core.errors import InputError
from kerasft.backbones import load as load_backbone
from kerasft.methods import adapt
from kerasft.pipeline import Pipeline
from kerasft.pipeline.base import Base
from kerasft.tasks import ZeroShotClassification
from kerasft.training.prepare import head_of


def build(preset: str | os.PathLike | Any, task: Any, method: Any = "full", **options: Any) -> Any:
    """Build a functional `keras.Model` from a preset, a task and a method.

    Args:
        preset: a preset (see `kerasft.backbones.load`), or a KerasHub backbone.
        task: a task with its labels, e.g. `kerasft.tasks.TextClassification(labels=...)`.
        method: a method, its name, or a mapping with `name`.
        options: `dtype` and `dropout` of the backbone.

    Returns:
        keras.Model from the backbone's inputs to logits; compile and fit it as any other.

    Raises:
        InputError: if there is no such preset, or options stand beside a backbone.

    Example:
        >>> model = build("bert_tiny", TextClassification(labels=["ham", "spam"]), method="lora")
        >>> model.compile(optimizer=adamw(2e-4, model), loss=task.loss(), metrics=task.metrics())
    """
    if isinstance(preset, (str, os.PathLike)):
        preset = load_backbone(os.fspath(preset), **options)[0]
    elif options:
        raise InputError(
            "A backbone that is made already takes no options. Received: "
            f"{', '.join(options)}. Give them where it is made."
        )
    return task.build(adapt(preset, method))


def zero_shot(preset: str | os.PathLike, through: str = "entailment", **options: Any) -> Pipeline:
    """A pipeline that labels texts without training.

    Args:
        preset: a preset (see `kerasft.backbones.load`): with a head that judges entailment
            (`...ForSequenceClassification` with a class "entailment") for `entailment`, an encoder
            of sentences for `similarity`, a decoder for `likelihood`.
        through: how a label is weighed.
        options: of `kerasft.tasks.ZeroShotClassification`, e.g. `hypothesis`.

    Raises:
        InputError: if the preset holds no head that judges entailment, and one is needed.

    Example:
        >>> pipe = zero_shot("my-nli-checkpoint")
        >>> pipe.predict(["The keeper saved a penalty."], given={"labels": ["sport", "trade"]})
    """
    backbone, tokenizer = load_backbone(os.fspath(preset))
    limit = getattr(backbone, "max_sequence_length", None) or 256
    options = {"max_length": min(limit, 256)} | options
    task = ZeroShotClassification(through=through, **options)
    head = head_of(os.fspath(preset)) if task.head_problem else None
    task = task.with_head(head) if head is not None else task
    if task.head_problem and not (head is not None and task.fits_head(head, backbone)):
        found = ", ".join(head.labels) if head is not None else "no head"
        raise InputError(
            "Labels are weighed through entailment by a checkpoint whose head has a class "
            f"'entailment'. Received: {os.fspath(preset)}, with {found:.80}. Take one that was "
            "trained on natural language inference, or through=similarity or likelihood."
        )
    model = task.build(adapt(backbone))
    if head is not None:
        task.load_head(model, head)
    return Pipeline(model, tokenizer, task, {"preset": os.fspath(preset)})


def load(
    folder: str | os.PathLike,
    dtype: str | None = None,
    adapter: str | os.PathLike | None = None,
) -> Pipeline:
    """Load a pipeline from a run folder, or from what `Pipeline.save` wrote.

    Args:
        folder: the folder; it is never trusted: no pickle, no code.
        dtype: another dtype policy than the saved one, e.g. `float32`.
        adapter: an adapter file (`Pipeline.save_adapter`), or the folder of a run that holds an
            adapter, of the same base: it takes the place of the folder's own method and head.

    Raises:
        InputError: if there is no model in it, or the adapter is of another base.

    Example:
        >>> load("runs/spam").predict(["free prize!!!"])
        >>> load("runs/base", adapter="acme.safetensors").predict(["free prize!!!"])
    """
    pipe = Pipeline.load(folder, dtype)
    return pipe if adapter is None else Base(pipe).read(adapter)
