"""`doctor`: what a recipe will do, told before it is done."""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft.backbones import template_of
from kerasft.backbones.crossing import input_names
from kerasft.data import Feed, Plan, draw_of, duplicates, encode_rows, encoder, summarise
from kerasft.training.paces import run_paces
from kerasft.training.prepare import Prepared, build_model, prepare_data
from kerasft.training.recipe import Recipe
from kerasft.training.strategy import strategy_for

_SAMPLE = 2000  # rows whose lengths stand for all, so that the doctor answers at once
_BYTES = 4


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Args:
        data: the findings as JSON types: `rows`, `labels`, `duplicates`, `empty`, `tokens`,
            `steps`, `parameters`, `trainable_parameters`, `paces` (lowest and highest share of
            the learning rate, and the last epoch, from 0, in which a weight begins to learn),
            `memory_bytes`, `seconds`, `warnings`.
        text: the same for people.
    """

    data: dict[str, Any]
    text: str


def doctor(recipe: Recipe) -> Diagnosis:
    """Look at a recipe and its data before training.

    Args:
        recipe: the recipe.

    Returns:
        `Diagnosis`: rows, labels and their balance, duplicates across splits, empty texts, the
        share of texts that `max_length` cuts, padding, steps, trainable parameters, and
        estimates of memory and time (from a few timed steps on random ids).

    Raises:
        InputError: for a recipe or data that could not be trained on.

    Example:
        >>> print(doctor(Recipe.load("recipe.yaml")).text)
    """
    stack.ensure()
    strategy_for(recipe.strategy)
    prepared = prepare_data(recipe, empty="keep")
    model, tokenizer = build_model(prepared, "float32")
    tokens, feed = _tokens(prepared, tokenizer)
    found = _rows(prepared) | tokens | _model(model) | _paces(prepared, model)
    found |= _cost(prepared, model, found, feed)
    found["warnings"] = _warnings(found, recipe)
    return Diagnosis(found, _text(found))


def _rows(prepared: Prepared) -> dict[str, Any]:
    summaries = {part: summarise(source) for part, source in prepared.sources.items()}
    doubles = duplicates(prepared.sources)
    return {
        "rows": {part: s.rows for part, s in summaries.items()},
        "labels": {part: s.labels for part, s in summaries.items()},
        "empty": {part: sum(s.empty.values()) for part, s in summaries.items()},
        "duplicates": {
            "within": dict(doubles.within),
            "across": {
                f"{one} and {other}": count
                for one, others in doubles.across.items()
                for other, count in others.items()
            },
        },
    }


def _tokens(prepared: Prepared, tokenizer: Any) -> tuple[dict[str, Any], Feed]:
    """Lengths in tokens of a sample of the training rows, and the batches that they make."""
    task, settings = prepared.task, prepared.recipe.training
    rows, pad = next(prepared.sources["train"].chunks(_SAMPLE)), template_of(tokenizer).pad
    long = dataclasses.replace(task, max_length=100_000)
    lengths = encode_rows([rows], encoder(long, tokenizer, task.reads), pad=pad).lengths
    kept = encode_rows([rows], encoder(task, tokenizer, task.reads), task, pad=pad)
    plan = Plan(kept.lengths, settings.batch_size, prepared.recipe.seed)
    feed = Feed(kept, plan, kept.names)
    limit = task.most_ids(tokenizer) if hasattr(task, "most_ids") else task.max_length
    tokens = {
        "sample": len(next(iter(rows.values()))),
        "median": float(np.median(lengths)),
        "longest": int(lengths.max()),
        "max_length": task.max_length,
        "read": limit,
        "windows": 1 if kept.starts is None else int(np.diff(kept.starts).max()),
        "cut_share": float((lengths > limit).mean()),
        "padding_share": _padding(feed),
        "mean_kept": float(np.minimum(lengths, limit).mean()),
    }
    return {"tokens": tokens}, dataclasses.replace(feed, draw=draw_of(task, tokenizer))


def _padding(feed: Feed) -> float:
    """Share of the positions of an epoch that are padding."""
    masks = [features["padding_mask"] for features, *_ in feed.batches()]
    return 1.0 - float(sum(m.sum() for m in masks)) / max(sum(m.size for m in masks), 1)


def _model(model: Any) -> dict[str, Any]:
    def count(variables: Any) -> int:
        return int(sum(np.prod(v.shape) for v in variables))

    return {
        "parameters": count(model.weights),
        "trainable_parameters": count(model.trainable_weights),
    }


def _paces(prepared: Prepared, model: Any) -> dict[str, Any]:
    found = list(run_paces(prepared, model, model).values())
    shares = [pace.multiplier for pace in found] or [1.0]
    last = max((pace.from_epoch for pace in found), default=0)
    return {"paces": {"lowest": min(shares), "highest": max(shares), "last_epoch": last}}


def _cost(prepared: Prepared, model: Any, found: dict[str, Any], feed: Feed) -> dict[str, Any]:
    """Steps, memory and time; the time of a step is measured on rows of the data."""
    settings, sample = prepared.recipe.training, found["tokens"]["sample"]
    # A long row may have become several examples, in the sample as in the rest.
    examples = found["rows"]["train"] * len(feed.rows) / min(sample, found["rows"]["train"])
    steps = -(-round(examples) // settings.batch_size)
    seconds = _step_seconds(prepared, model, _middling(feed, model))
    # Weights, gradients, and Adam's two moments; then the activations of one batch.
    state = found["parameters"] + 3 * found["trainable_parameters"]
    hidden = model.get_layer("backbone").backbone.hidden_dim
    blocks = model.get_layer("backbone").backbone.num_layers
    width = found["tokens"]["max_length"] * found["tokens"]["windows"]
    positions = settings.batch_size * width
    activations = positions * hidden * blocks * 16
    if len(model.output_shape) > 2:  # logits of every token, their softmax, and its gradient
        activations += 3 * positions * model.output_shape[-1]
    return {
        "steps": {"per_epoch": steps, "all": steps * settings.epochs},
        "memory_bytes": _BYTES * int(state + activations),
        "seconds": seconds * steps * settings.epochs,
    }


def _middling(feed: Feed, model: Any) -> tuple:
    """The batch of middling size, as the model is given it."""
    names = input_names(model)
    batches = dataclasses.replace(feed, inputs=names).batches()
    batches = sorted(batches, key=lambda batch: batch[0]["token_ids"].size)
    return batches[len(batches) // 2]


def _step_seconds(prepared: Prepared, model: Any, batch: tuple) -> float:
    """The median time of a step on a batch."""
    from kerasft.optimizers import adamw
    from kerasft.training.fitted import compiled

    parts = prepared.recipe.training.gradient_accumulation
    fitted = compiled(model, prepared.task, adamw(1e-9, model), parts=parts)
    times = []
    for _ in range(4):
        started = time.perf_counter()
        fitted.train_on_batch(*batch)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))  # the first one traces


def _warnings(found: dict[str, Any], recipe: Recipe) -> list[str]:
    tokens, said = found["tokens"], []
    if tokens["cut_share"] > 0.1:
        limit = f"max_length={tokens['max_length']}"
        if tokens["read"] > tokens["max_length"]:
            limit = f"the {tokens['read']} tokens that task.max_windows windows of {limit} hold"
        said.append(
            f"{tokens['cut_share']:.0%} of the texts are longer than {limit} and are cut; "
            f"the longest has {tokens['longest']} tokens."
        )
    if sum(found["empty"].values()):
        said.append(f"{sum(found['empty'].values())} texts are empty; training refuses them.")
    for pair, count in found["duplicates"]["across"].items():
        if count:
            said.append(f"{count} texts stand both in {pair}: scores will be too good.")
    counts = list(found["labels"]["train"].values())
    if counts and min(counts) * 10 < max(counts):
        said.append(
            "The rarest label has less than a tenth of the rows of the commonest; think of "
            "task.class_weights=balanced."
        )
    late, steps = found["paces"]["last_epoch"], found["steps"]
    if late * steps["per_epoch"] >= steps["all"]:
        said.append(
            f"Some weights would begin to learn in epoch {late + 1} only, after the last one."
        )
    if found["trainable_parameters"] == 0:
        said.append("No weight would move.")
    return said


def _text(found: dict[str, Any]) -> str:
    tokens, lines = found["tokens"], []
    for part, rows in found["rows"].items():
        labels = found["labels"][part]
        share = ", ".join(f"{k} {v} ({v / max(rows, 1):.0%})" for k, v in list(labels.items())[:12])
        more = f", and {len(labels) - 12} more" if len(labels) > 12 else ""
        lines.append(f"{part:11} {rows:>9,} rows  {share}{more}")
    within = sum(found["duplicates"]["within"].values())
    across = sum(found["duplicates"]["across"].values())
    minutes, paces = found["seconds"] / 60, found["paces"]
    lines += [
        f"duplicates  {within} within a part, {across} across parts",
        f"empty       {sum(found['empty'].values())} texts",
        f"tokens      median {tokens['median']:.0f}, longest {tokens['longest']}; "
        f"{tokens['cut_share']:.1%} cut at {tokens['read']}; "
        f"{tokens['padding_share']:.1%} padding (first {tokens['sample']} rows)",
        f"steps       {found['steps']['per_epoch']:,} an epoch, {found['steps']['all']:,} in all",
        f"parameters  {found['parameters']:,}, of which {found['trainable_parameters']:,} "
        f"({found['trainable_parameters'] / found['parameters']:.2%}) move",
        f"memory      about {found['memory_bytes'] / 1e9:.1f} GB",
        f"time        about {minutes:.1f} minutes on this machine, tracing not counted",
    ]
    if paces["lowest"] != paces["highest"]:
        lines.append(f"rates       {paces['lowest']:.3g} to {paces['highest']:.3g} times the rate")
    return "\n".join(lines + [f"warning: {line}" for line in found["warnings"]])
