"""From a recipe to what training needs: sources, labels, backbone, model."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from kerasft._core import files, weights
from kerasft._core.errors import InputError
from kerasft.backbones import load
from kerasft.backbones.load import folder_of, is_hugging_face
from kerasft.backbones.prompts import longest_text, virtual_tokens
from kerasft.backbones.saved import RECORD, damage_told, read_saved, saved_folder
from kerasft.data import DataSpec, Split, check_labels, make_splits, order_labels
from kerasft.methods import adapt, registry
from kerasft.tasks import registry as tasks
from kerasft.training.recipe import Recipe
from kerasft.training.sections import Data


@dataclass(frozen=True)
class Prepared:
    """The rows of a run and the task that has seen their labels.

    Args:
        recipe: the recipe.
        task: the task, with labels.
        sources: part -> rows.
        split: which row went where.
        head: the fine-tuned head for this task that the preset's folder holds, or None.
    """

    recipe: Recipe
    task: Any
    sources: dict[str, Any]
    split: Split
    head: Any = None

    @property
    def scored(self) -> str:
        """The part that the report scores: test, or validation where there is none."""
        return next((p for p in ("test", "validation") if p in self.sources), "train")


def prepare_data(recipe: Recipe, empty: str = "error") -> Prepared:
    """Open, check and split the data, and find the labels.

    Raises:
        InputError: for data that cannot be read, or hold fewer than two labels, a
            `training.monitor` that the history will not have, or a task whose batches cannot be
            taken in parts.
    """
    task = recipe.task_value() if recipe.start is None else _started_task(recipe)
    task = dataclasses.replace(task, max_length=recipe.data.max_length)
    headed = any(f.name == "head_dropout" for f in dataclasses.fields(task))
    if recipe.training.dropout is not None and headed:
        task = dataclasses.replace(task, head_dropout=recipe.training.dropout)
    head, given = None if recipe.start else head_of(recipe.preset), task.labels
    if head is not None and head.problem != task.head_problem:
        head = None  # a head for another task
    if head is not None:
        task = task.with_head(head)
    parts = recipe.training.gradient_accumulation
    if parts > 1 and getattr(task, "whole_batch", False):
        raise InputError(
            f"Each row of {task.name} learns from the other rows of its batch, which parts would "
            f"take from it. Received: training.gradient_accumulation={parts}. Leave it at 1, or "
            "take another task.objective."
        )
    sources, split = make_splits(data_spec(recipe.data), task.fields(), recipe.seed, empty)
    found = {label for counts in split.counts.values() for label in counts}
    if not given and task.labels and not found <= set(task.labels):
        # The checkpoint's head was made for other labels: start from a new one.
        task = dataclasses.replace(task, labels=())
    prepared = Prepared(recipe, _with_labels(task, sources, split), sources, split, head)
    monitor_of(prepared)
    return prepared


def data_spec(data: Data) -> DataSpec:
    """The data of a recipe, as they are split."""
    return DataSpec(
        data.source("train"),
        data.source("validation"),
        data.source("test"),
        dict(data.columns),
        data.separator,
        broken=data.broken,
        missing=data.missing,
    )


def monitor_of(prepared: Prepared) -> str:
    """The column of the history that early stopping and the best weights are judged by."""
    validated = "validation" in prepared.sources
    wanted = prepared.recipe.training.monitor or ("val_loss" if validated else "loss")
    names = [m.name for m in prepared.task.metrics()] + ["loss"]
    known = names + [f"val_{n}" for n in names if validated]
    if wanted not in known:
        raise InputError(
            f"`training.monitor` must be one of: {', '.join(known)}. Received: {wanted!r}."
        )
    return wanted


def _with_labels(task: Any, sources: dict[str, Any], split: Split) -> Any:
    if not task.labelled:
        return task
    counts = dict(split.counts["train"])
    if not task.labels:
        known = order_labels(label for part in split.counts.values() for label in part)
        counts = {label: counts.get(label, 0) for label in known}
    learned = [label for label in counts if counts[label]]
    if len(learned) < task.least_labels:
        least = {1: "one label", 2: "two labels"}[task.least_labels]
        raise InputError(
            f"{sources['train'].name} must have at least {least}. Received: "
            f"{', '.join(map(repr, learned)) or 'none'}. Check that the label column is the "
            "right one (data.columns)."
        )
    task = task.with_labels(counts)
    for source in sources.values():
        check_labels(source, task.labels)
    return task


def _check_length(max_length: int, backbone: Any) -> None:
    """A backbone with learned positions has as many as it was trained with."""
    limit, before = longest_text(backbone), virtual_tokens(backbone)
    if limit is not None and max_length > limit:
        prompt = f" behind the {before} virtual tokens of its method" if before else ""
        raise InputError(
            f"This {type(backbone).__name__} reads at most {limit} tokens{prompt}. "
            f"Received: data.max_length={max_length}. Set data.max_length={limit} or less."
        )


def head_of(preset: str) -> Any:
    """The fine-tuned head that a preset's folder holds, or None."""
    folder = folder_of(preset)
    if folder is None:
        return None
    with files.local_copy(folder) as local:
        if not is_hugging_face(local):
            return None
        from kerasft.backbones.huggingface import read_head

        return read_head(str(local))


def has_new_head(prepared: Prepared, backbone: Any) -> bool:
    """Whether the head starts from random weights, and not from what the checkpoint holds."""
    task, head = prepared.task, prepared.head
    if prepared.recipe.start is not None:
        return False
    return not (hasattr(task, "start_from") or head is not None and task.fits_head(head, backbone))


def build_model(prepared: Prepared, dtype: str) -> tuple[Any, Any]:
    """Load the backbone, apply the method, and connect the head.

    Returns:
        (functional `keras.Model`, tokenizer); where the preset holds a fine-tuned head for these
        labels, or another that the task goes on from, the model starts from it; with
        `recipe.start` the model is that of the run, to its last weight.
    """
    recipe, task, head = prepared.recipe, prepared.task, prepared.head
    if recipe.start is not None:
        return _started_model(prepared, dtype)
    backbone, tokenizer = load(recipe.preset, dtype=dtype, dropout=recipe.training.dropout)
    adapted = adapt(backbone, recipe.method_value())
    _check_length(task.max_length, adapted.backbone)
    model = task.build(adapted)
    if head is not None and task.fits_head(head, backbone):
        task.load_head(model, head)
    if hasattr(task, "start_from") and (folder := folder_of(recipe.preset)) is not None:
        with files.local_copy(folder) as local:
            task.start_from(model, str(local))
    return model, tokenizer


# --- a run that is trained on -------------------------------------------------------------------


def _started_task(recipe: Recipe) -> Any:
    """The task of the run that is trained on, with its labels, as the recipe wants it trained."""
    place = saved_folder(recipe.start)
    if place is None:
        raise InputError(
            f"`start` is the folder of a run that came to its end. Received: {recipe.start}."
        )
    with damage_told(place):
        record = files.read_json(files.join(place, RECORD))
        task, method = record["task"], record["method"]
        kept = {name: task[name] for name in ("labels",) if name in task}
    same = type(recipe.task_value()) is tasks.get(task["name"])
    if not same or registry.config(recipe.method_value()) != method:
        raise InputError(
            "A run is trained on with its own task and method. Received: "
            f"task={recipe.task['name']}, method={recipe.method['name']} where {recipe.start} has "
            f"task={task['name']}, method={method['name']}, or with other options. For "
            "another one take the run as `preset`."
        )
    return tasks.build(task | recipe.task | kept)


def _started_model(prepared: Prepared, dtype: str) -> tuple[Any, Any]:
    recipe, dropout = prepared.recipe, prepared.recipe.training.dropout
    place = saved_folder(recipe.start)
    with damage_told(place):
        saved = read_saved(place)
        backbone = saved.backbone(dtype=dtype, **({} if dropout is None else {"dropout": dropout}))
        adapted = adapt(backbone, recipe.method_value())
        _check_length(prepared.task.max_length, adapted.backbone)
        model = prepared.task.build(adapted)
        weights.assign(model, saved.arrays, saved.source)
    return model, saved.tokenizer
