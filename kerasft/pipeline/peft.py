"""Adapters between kerasft and PEFT: a pipeline from PEFT's folder, and such a folder from it."""

import dataclasses
import os
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.backbones import build_backbone, family_of
from kerasft.backbones.huggingface.heads import PROBLEMS, head_weights, style_of
from kerasft.backbones.huggingface.layouts import layout_of
from kerasft.methods import adapt, read_peft, set_adapter_weights, write_peft
from kerasft.pipeline.pipeline import Pipeline

_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


def save_peft(pipe: Pipeline, folder: str | os.PathLike) -> str:
    """Write a pipeline's LoRA and head as a folder that PEFT loads onto the same base.

    Args:
        pipe: a pipeline whose method is `lora`.
        folder: a new folder.

    Raises:
        InputError: for another method, or a family or head that Transformers has no class for.

    Example:
        >>> save_peft(pipe, "spam-peft")  # peft.PeftModel.from_pretrained(model, "spam-peft")
    """
    plain = build_backbone(pipe.adapted.description)
    layout, family = layout_of(plain), family_of(plain)
    problem, head, prefix, kind = pipe.task.head_problem, {}, None, None
    if problem is not None:
        head = head_weights(pipe.task.to_head(pipe.model), style_of(family, problem))
        kind = _TYPES[PROBLEMS[problem].ending]
        prefix = layout.answers_prefix if problem == "answers" else None
    elif hasattr(pipe.task, "stream"):
        kind = "SEQ_2_SEQ_LM" if family.kind == "encoder-decoder" else "CAUSAL_LM"
    else:
        prefix = ""  # a plain `AutoModel`
    with files.new_folder(folder) as local:
        write_peft(
            str(local),
            pipe.adapted,
            plain,
            head,
            prefix,
            task_type=kind,
            base_model_name_or_path=str(pipe.info.get("preset", "")),
        )
    return os.fspath(folder)


def from_peft(
    backbone: Any, tokenizer: Any, folder: str | os.PathLike, task: Any, head: Any = None
) -> Pipeline:
    """A pipeline from a base and a LoRA adapter that PEFT wrote.

    Args:
        backbone, tokenizer: the base, as `kerasft.backbones.load` gives it.
        folder: PEFT's folder.
        task: the task, with its labels in the order of the head's logits.
        head: the base's own (`kerasft.backbones.huggingface.read_head`), where the adapter was
            trained on a checkpoint with a head and the folder does not hold all of it.

    Raises:
        InputError: if the adapter, or the head that lies with it, does not fit, or there is none.

    Example:
        >>> pipe = from_peft(*kf.backbones.load("bert-base"), "spam-peft", task)
    """
    method, state, others = read_peft(folder, backbone)
    model = task.build(adapt(backbone, method))
    pipe = Pipeline(model, tokenizer, task)
    set_adapter_weights(pipe.backbone, state, os.fspath(folder))
    if head is not None:
        task.load_head(model, head)
    if task.head_problem is not None and head is None and not others:
        raise InputError(
            f"{os.fspath(folder)} holds no head, and {task.name} needs one. Give `head`, what "
            "`kerasft.backbones.huggingface.read_head` gives of the base."
        )
    if others:
        _load_head(pipe, others, os.fspath(folder), whole=head is None)
    return pipe


def _load_head(pipe: Pipeline, found: dict[str, Any], folder: str, whole: bool) -> None:
    """Set the head from weights by Transformers' names; all of it has to be there if `whole`."""
    task = pipe.task
    if task.head_problem is None:
        raise InputError(
            f"{folder} holds {len(found)} weights that are no adapter's, and {task.name} has no "
            f"head for them. Received: {next(iter(found))!r}."
        )
    head, style = task.to_head(pipe.model), style_of(family_of(pipe.backbone), task.head_problem)
    own = head_weights(head, style)
    shapes = {name: value.shape for name, value in found.items()}
    wanted = {name: value.shape for name, value in own.items() if whole or name in found}
    if shapes != wanted:
        raise InputError(
            f"{folder}: the weights of the head must be {wanted}. Received: {shapes}. Give the "
            "task all labels, and `head` where the base has a head of its own."
        )
    values = own | found
    parts = {"logits_kernel": values[f"{style.logits_key}.weight"].T}
    if style.bias:
        parts["logits_bias"] = values[f"{style.logits_key}.bias"]
    if style.hidden:
        parts["hidden_kernel"] = values[f"{style.hidden_key}.weight"].T
        parts["hidden_bias"] = values[f"{style.hidden_key}.bias"]
    task.load_head(pipe.model, dataclasses.replace(head, **parts))
