"""Write a Hugging Face checkpoint folder that Transformers loads, with the same answers."""

from pathlib import Path
from typing import Any

from kerasft._core import files
from kerasft.backbones.describe import template_of
from kerasft.backbones.families import Family, family_of_model_type
from kerasft.backbones.huggingface.config import config_of
from kerasft.backbones.huggingface.heads import (
    PROBLEMS,
    Head,
    head_config,
    head_weights,
    style_of,
)
from kerasft.backbones.huggingface.layouts import Layout, layout_of
from kerasft.backbones.huggingface.ports import written_weights
from kerasft.backbones.huggingface.tokenizer_files import write_tokenizer

# KerasHub's rotary families have no longest text; Transformers wants a number.
_LEAST_POSITIONS = 2048


def write_folder(folder: str, backbone: Any, tokenizer: Any, head: Head, max_length: int) -> None:
    """Write config.json, model.safetensors and the tokenizer's files of a model with a head.

    `from_pretrained` of Transformers' `AutoModelForSequenceClassification`,
    `...ForTokenClassification` or `...ForQuestionAnswering`, by the problem of the head, and of
    `AutoTokenizer` load the folder and give the same answers; `load_folder` and `read_head` give
    back the same weights.

    Args:
        folder: a local folder; it is made if it is not there.
        backbone: a plain KerasHub backbone, adapters merged.
        tokenizer: its tokenizer.
        head: the head, as the family's class in Transformers has it.
        max_length: the most tokens in a text, for `model_max_length`.

    Raises:
        InputError: for a family that Transformers or the converters cannot represent (FNet, OPT),
            one that has no class for the head's problem, or a head of another shape.

    Example:
        >>> write_folder("spam", backbone, tokenizer, head, max_length=256)
    """
    from safetensors.numpy import save

    layout = layout_of(backbone)
    family = family_of_model_type(layout.model_type)
    config = _config(layout, family, backbone, tokenizer, head, max_length)
    style = style_of(family, head.problem)
    answers = head.problem == "answers" and layout.answers_prefix
    found = written_weights(layout, backbone, config, answers or layout.prefix, pooler=style.pooler)
    found |= head_weights(head, style)
    Path(folder).mkdir(parents=True, exist_ok=True)
    files.write_json(files.join(folder, "config.json"), dict(sorted(config.items())))
    # Transformers refuses a file that does not say which library's tensors it holds.
    data = save(found, metadata={"format": "pt"})
    files.write_bytes(files.join(folder, "model.safetensors"), data)
    write_tokenizer(folder, tokenizer, max_length, segments=_has_segments(config))


def _config(
    layout: Layout,
    family: Family,
    backbone: Any,
    tokenizer: Any,
    head: Head,
    max_length: int,
) -> dict[str, Any]:
    config = config_of(layout, backbone) | head_config(head)
    config["architectures"] = [layout.architecture + PROBLEMS[head.problem].ending]
    config["pad_token_id"] = template_of(tokenizer).pad
    if "hidden_dropout_prob" in config:
        config["attention_probs_dropout_prob"] = config["hidden_dropout_prob"]
    if family.kind == "decoder":
        config["eos_token_id"] = tokenizer.end_token_id
        config["bos_token_id"] = tokenizer.start_token_id
    if family.kind == "decoder" and layout.model_type != "gpt2":
        config["max_position_embeddings"] = max(max_length, _LEAST_POSITIONS)
    return config


def _has_segments(config: dict[str, Any]) -> bool:
    """Whether the model reads segment ids of more than one kind."""
    return config.get("type_vocab_size", 1) > 1
