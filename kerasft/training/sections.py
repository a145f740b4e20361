"""The sections `data` and `training` of a recipe: fields, defaults, and what each expects.

`description` of a field is what it expects, in words; error messages quote it.
"""

import numbers
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kerasft._core.errors import InputError

_NOTE = re.compile(r"<in memory(: \d+ rows)?>")
_SOURCE = "a path, `tfds:NAME` or `hf:NAME` (in Python also rows in memory)"
_PART = f"a share (at least 0, below 1; 0 or null for none), or {_SOURCE}"


class Section(BaseModel):
    """A frozen part of a recipe that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise InputError(
            f"A recipe is frozen. Use recipe.replace('...{name}=...') to get a new one."
        )


def _number(value: Any) -> Any:
    """Read a number that YAML 1.1 left a text, such as 5e-5; a truth value is not a number."""
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Real)):
        raise ValueError
    if isinstance(value, str):
        value = float(value)
    return int(value) if float(value).is_integer() else float(value)


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _source(value: Any) -> Any:
    """A path as text, or rows in memory as they are."""
    if isinstance(value, numbers.Number | bytes | None) or (isinstance(value, str) and not value):
        raise ValueError
    return _text(value)


def _part(value: Any) -> Any:
    """None, a share as float, or a source."""
    if value is None:
        return None
    try:
        share = _number(value)
    except ValueError:
        return _source(value)
    if not 0 <= share < 1:
        raise ValueError
    return share or None


Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number), AllowInfNan(False)]
Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
Source = Annotated[Any, BeforeValidator(_source)]
Part = Annotated[Any, BeforeValidator(_part)]


class Data(Section):
    """What is read, and how: sources, columns, and the length of a text.

    Args:
        train: path, `tfds:NAME`, `hf:NAME`, or rows in memory. A relative path is relative to
            the current directory.
        validation: share of `train` in (0, 1), or a source of its own; None or 0 for none.
        test: share of `train` in (0, 1), or a source of its own; None or 0 for none.
        columns: name of a field of the task -> name of the column that holds it.
        max_length: longest text, in tokens with the special ones; the rest is cut.
        separator: what stands between the labels of a multi-label cell.
        broken: tags that break their scheme are read as they were meant and counted (`repair`),
            or refused with file and line (`refuse`).
        missing: a row whose context holds none of its answers is left out of training and counted
            (`drop`), or stops with file and line (`error`).
    """

    train: Source = Field(description=_SOURCE)
    validation: Part = Field(0.1, description=_PART)
    test: Part = Field(None, description=_PART)
    columns: dict[str, str] = Field(
        {}, description="a mapping from the task's fields to names of columns (quote yes, no, 1)"
    )
    max_length: Whole = Field(256, ge=8, description="a whole number of tokens, at least 8")
    separator: Text = Field("|", description="a text of at least one character (in quotes)")

    broken: Literal["repair", "refuse"] = "repair"
    missing: Literal["drop", "error"] = "drop"

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> "Data":
        shares = [part for part in (self.validation, self.test) if isinstance(part, float)]
        if sum(shares) >= 1:
            raise InputError(
                "The shares of `data.validation` and `data.test` must leave rows to train on. "
                f"Received: validation={self.validation}, test={self.test}."
            )
        return self

    def source(self, split: Literal["train", "validation", "test"]) -> Any:
        """Return what to read for a split: a path, rows in memory, a share, or None.

        Raises:
            InputError: the recipe was saved from rows in memory, which a file cannot hold.
        """
        value = getattr(self, split)
        if isinstance(value, str) and _NOTE.fullmatch(value):
            raise InputError(
                f"`data.{split}` was {value[1:-1]} when this recipe was saved, and a recipe file "
                f"does not hold rows. Give a path: data.{split}=FILE. Received: {value!r}."
            )
        return value


class Training(Section):
    """How the weights are moved.

    Args:
        epochs: passes over the training rows.
        batch_size: rows of one step, over all replicas.
        gradient_accumulation: parts of a step's rows that go through the model one after another,
            with the gradients added up: the same step, the activations of one part in memory.
        reuse_frozen: compute what the lowest blocks give once, where nothing in them learns, and
            read it in every epoch; they then run without dropout. False: run them in every step.
        learning_rate: peak, per step; None: `rate_for(method)`.
        head_learning_rate: peak for the head; None: for a new head, which has nothing to lose,
            min(1e-2, 4 / width of the backbone), or `learning_rate` if that is more, and
            `learning_rate` for a head that the checkpoint brought. Weights of the backbone are no
            head, nor is its pooler.
        layer_decay: factor in (0, 1] by which each block learns slower than the one above it: the
            last block of n at learning_rate * layer_decay, the embeddings at layer_decay^(n + 1)
            of it, head and last norm at all of it; the stacks of an encoder-decoder side by side.
            None: all alike. Howard and Ruder 2018, https://arxiv.org/abs/1801.06146; Clark et al.
            2020, https://arxiv.org/abs/2003.10555.
        warmup: share of the steps, in [0, 1), during which the rate rises from 0 to its peak.
        schedule: how the rate goes on after the warm-up: `linear` or `cosine` to 0, or `constant`.
        weight_decay: AdamW's, per step; biases and norms have none.
        clip_norm: largest global norm of the gradient; None: not clipped.
        dropout: rate in [0, 1) in backbone and head; None: the checkpoint's, and the task's
            `head_dropout`.
        early_stopping: epochs without a better `monitor` before training stops; None: never.
        precision: `float32`, `mixed_bfloat16`, `mixed_float16`, or `auto`: by the device.
        checkpoint_minutes: minutes between checkpoints; None: not by the clock.
        checkpoint_steps: steps between checkpoints; None: not by steps.
        keep: newest checkpoints that stay; the best weights stay in any case.
        tensorboard: write logs for TensorBoard into the run folder.
        optimizer: `adamw`.
        monitor: what early stopping and the best weights are judged by, a column of
            history.csv; None: `val_loss`, or `loss` without validation rows.
    """

    epochs: Whole = Field(3, ge=1, description="a whole number, at least 1")
    batch_size: Whole = Field(32, ge=1, description="a whole number, at least 1")
    gradient_accumulation: Whole = Field(1, ge=1, description="a whole number, at least 1")
    reuse_frozen: bool = Field(True, description="true or false")
    learning_rate: Real | None = Field(None, gt=0, description="a number above 0, or null")
    head_learning_rate: Real | None = Field(None, gt=0, description="a number above 0, or null")
    layer_decay: Real | None = Field(
        None, gt=0, le=1, description="a factor above 0, at most 1, or null"
    )
    warmup: Real = Field(0.1, ge=0, lt=1, description="a share, at least 0 and below 1")
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Real = Field(0.01, ge=0, description="a number, at least 0")
    clip_norm: Real | None = Field(1.0, gt=0, description="a number above 0, or null")
    dropout: Real | None = Field(
        None, ge=0, lt=1, description="a rate, at least 0 and below 1, or null"
    )
    early_stopping: Whole | None = Field(
        None, ge=1, description="a whole number of epochs, at least 1, or null"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    checkpoint_minutes: Real | None = Field(
        10.0, gt=0, description="a number of minutes above 0, or null"
    )
    checkpoint_steps: Whole | None = Field(
        None, ge=1, description="a whole number of steps, at least 1, or null"
    )
    keep: Whole = Field(1, ge=1, description="a whole number, at least 1")
    tensorboard: bool = Field(False, description="true or false")
    optimizer: Literal["adamw"] = "adamw"
    monitor: Text | None = Field(None, description="the name of a column of history.csv, or null")

    def rate_for(self, method: str | Mapping[str, Any]) -> float:
        """Return `learning_rate`, or the one of the method's class, or 5e-5.

        Args:
            method: name of the method, or its mapping with the key `name`.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        from kerasft.methods import registry

        return getattr(registry.build(method), "learning_rate", 5e-5)


def note(value: Any) -> Any:
    """Return a source as a recipe file can hold it: rows in memory become a note of their number.

    Example:
        note([{"text": "hi"}])     # "<in memory: 1 rows>"
    """
    if value is None or isinstance(value, str | float):
        return value
    rows = _rows(value)
    return "<in memory>" if rows is None else f"<in memory: {rows} rows>"


def _rows(value: Any) -> int | None:
    """Number of rows; columns (a mapping or a tuple of lists) are counted down, not across."""
    if isinstance(value, Mapping) and value:
        value = next(iter(value.values()))
    elif isinstance(value, tuple) and value and not isinstance(value[0], str | Mapping):
        value = value[0]
    try:
        return len(value)
    except TypeError:
        return None
