"""The head of a checkpoint folder (`...ForSequenceClassification` and its like), in and out."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft._core.errors import InputError
from kerasft.backbones.families import Family, HeadStyle, family_of_model_type
from kerasft.backbones.huggingface.config import read_config
from kerasft.backbones.huggingface.store import Store, open_store


@dataclass(frozen=True)
class Problem:
    """What a head is for, in Transformers' words.

    Args:
        ending: the end of the class's name.
        style: the field of `Family` that says what such a head looks like.
        type: `problem_type` in config.json, where there is one.
    """

    ending: str
    style: str
    type: str | None = None


_TEXT = ("ForSequenceClassification", "head")
PROBLEMS = {
    "single-label": Problem(*_TEXT, "single_label_classification"),
    "multi-label": Problem(*_TEXT, "multi_label_classification"),
    "regression": Problem(*_TEXT, "regression"),
    "answers": Problem("ForQuestionAnswering", "answers"),
    "tags": Problem("ForTokenClassification", "tags"),
}
_ENDS = ("start", "end")


@dataclass(frozen=True)
class Head:
    """A fine-tuned head, in Keras' layout.

    Args:
        labels: names of the logits in order: classes or tags; of answers `start` and `end`.
        problem: `single-label`, `multi-label` or `regression` of a text; `tags` of tokens;
            `answers`, the first and the last token of an answer.
        hidden_kernel, hidden_bias: the dense layer before the logits, [in, out] and [out], or None.
        logits_kernel: [in, logits].
        logits_bias: [logits], or None.
    """

    labels: tuple[str, ...]
    problem: str
    hidden_kernel: np.ndarray | None
    hidden_bias: np.ndarray | None
    logits_kernel: np.ndarray
    logits_bias: np.ndarray | None


def read_head(folder: str) -> Head | None:
    """Read the head of a Hugging Face checkpoint folder.

    Args:
        folder: a local folder with config.json and model.safetensors or tf_model.h5.

    Returns:
        The head with its labels (`id2label`), or None if the folder holds no head for a text, for
        tags or for answers.

    Raises:
        InputError: if config.json promises a head and the weights do not hold it.

    Example:
        >>> read_head("twitter-roberta-sentiment").labels
        ('negative', 'neutral', 'positive')
    """
    folder = os.fspath(folder).rstrip("/") or "/"
    layout, config = read_config(folder)
    named = [str(name) for name in config.get("architectures") or []]
    if named and not any(p.ending in name for p in PROBLEMS.values() for name in named):
        return None
    store, family = open_store(folder), family_of_model_type(layout.model_type)
    if family.head is None:
        return None
    problem = _kind(named, store, family)
    if problem is None:
        return None
    style = style_of(family, problem)
    logits = f"{style.logits_key}.weight"
    _check_activation(config, style)
    hidden = _linear(store, style.hidden_key) if style.hidden else (None, None)
    kernel, bias = _linear(store, style.logits_key, bias=style.bias)
    width = config.get(layout.arguments["hidden_dim"])
    if kernel.shape[0] != width:
        raise InputError(
            f"{store.source}: the weight {logits!r} must have {width!r} columns, as config.json "
            f"asks. Received: shape={kernel.shape[::-1]}."
        )
    if problem == "answers" and kernel.shape[1] != len(_ENDS):
        raise InputError(
            f"{store.source}: the weight {logits!r} must have 2 rows, for the first and the last "
            f"token of an answer. Received: shape={kernel.shape[::-1]}."
        )
    labels = _ENDS if problem == "answers" else _labels(config, kernel.shape[1])
    if PROBLEMS[problem].type:
        problem = _problem(config, len(labels))
    return Head(labels, problem, *hidden, kernel, bias)


def _kind(named: list[str], store: Store, family: Family) -> str | None:
    """The first problem of the class that config.json names, or whose weights are there."""
    for name, problem in PROBLEMS.items():
        style = getattr(family, problem.style)
        keys = (style.logits_key, style.hidden_key) if style and not named else ()
        held = keys and all(f"{key}.weight" in store for key in keys if key)
        if held or any(problem.ending in architecture for architecture in named):
            return name
    return None


def style_of(family: Family, problem: str) -> HeadStyle:
    """What the head for a problem looks like; `InputError` if Transformers has no such class."""
    style = getattr(family, PROBLEMS[problem].style)
    if style is None:
        raise InputError(
            f"Transformers has no `...{PROBLEMS[problem].ending}` of this family. "
            f"Received: {family.backbone}."
        )
    return style


def head_weights(head: Head, style: HeadStyle) -> dict[str, np.ndarray]:
    """The weights of a head under their Hugging Face names.

    Raises:
        InputError: if the head has a layer that the family's classifier has not, or lacks one.
    """
    if (head.hidden_kernel is None) != (style.hidden is None):
        raise InputError(
            f"Transformers' classifier of this family has {'a' if style.hidden else 'no'} dense "
            f"layer before the logits. Received: hidden_kernel of shape "
            f"{np.shape(head.hidden_kernel)}."
        )
    found = {f"{style.logits_key}.weight": _turned(head.logits_kernel)}
    if style.hidden:
        found[f"{style.hidden_key}.weight"] = _turned(head.hidden_kernel)
        found[f"{style.hidden_key}.bias"] = np.asarray(head.hidden_bias, "float32")
    if style.bias:
        bias = head.logits_bias
        bias = np.zeros(head.logits_kernel.shape[1]) if bias is None else bias
        found[f"{style.logits_key}.bias"] = np.asarray(bias, "float32")
    elif head.logits_bias is not None and np.any(head.logits_bias):
        raise InputError(
            "Transformers' classifier of this family has no bias on the logits. "
            "Received: logits_bias with values other than 0."
        )
    return found


def head_config(head: Head) -> dict[str, Any]:
    """What a head adds to config.json."""
    if head.problem == "answers":
        return {}
    names = {
        "id2label": {str(index): label for index, label in enumerate(head.labels)},
        "label2id": {label: index for index, label in enumerate(head.labels)},
    }
    kind = PROBLEMS[head.problem].type
    return names | ({"problem_type": kind} if kind else {})


def _turned(kernel: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(kernel, "float32").T)


def _linear(store: Store, key: str, bias: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
    kernel = store.get(f"{key}.weight")
    if kernel.ndim != 2:
        raise InputError(
            f"{store.source}: the weight '{key}.weight' must be a matrix. "
            f"Received: shape={kernel.shape}."
        )
    vector = store.get(f"{key}.bias", kernel.shape[:1]) if bias else None
    return np.ascontiguousarray(kernel.T), vector


def _check_activation(config: dict[str, Any], style: HeadStyle) -> None:
    asked = config.get("pooler_hidden_act", style.hidden) if style.hidden else None
    if config["model_type"] == "deberta-v2" and asked != style.hidden:
        raise InputError(
            f"A DeBERTa-v3 head is read with pooler_hidden_act={style.hidden!r} only. "
            f"Received: pooler_hidden_act={asked!r}."
        )


def _labels(config: dict[str, Any], count: int) -> tuple[str, ...]:
    names = config.get("id2label")
    if names is None:
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(count)):
        raise InputError(
            f"`id2label` in config.json must name the classes 0 to {count - 1}, as many as the "
            f"logits. Received: id2label={names!r:.120}."
        )
    labels = tuple(str(names[str(index)]) for index in range(count))
    if len(set(labels)) < count:
        raise InputError(
            f"`id2label` in config.json names a class twice. Received: id2label={names!r:.120}."
        )
    return labels


def _problem(config: dict[str, Any], count: int) -> str:
    asked = config.get("problem_type")
    types = {problem.type: name for name, problem in PROBLEMS.items() if problem.type}
    if asked in types:
        return types[asked]
    if asked is not None:
        raise InputError(
            f"`problem_type` in config.json must be one of: {', '.join(types)}. "
            f"Received: problem_type={asked!r}."
        )
    return "regression" if count == 1 else "single-label"
