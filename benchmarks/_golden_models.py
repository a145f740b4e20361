"""Tiny random models of every family, and what Transformers answers with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tr
from _golden_texts import LABELS, MAX_LENGTH, PAIRS, SEED, TAGS, TEXTS
from _golden_tokenizers import write_json

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
SMALL = ENCODER | {"hidden_size": 16, "intermediate_size": 24}
DECODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 128,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", "hidden_act": "gelu", **ENCODER},
    "bert_tanh": {"model_type": "bert", "hidden_act": "gelu_new", **ENCODER},
    "roberta": {
        "model_type": "roberta",
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        **ENCODER,
        "max_position_embeddings": 66,
    },
    "xlm-roberta": {
        "model_type": "xlm-roberta",
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        **ENCODER,
        "max_position_embeddings": 66,
    },
    "distilbert": {
        "model_type": "distilbert",
        "dim": 32,
        "hidden_dim": 48,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 64,
    },
    "albert": {
        "model_type": "albert",
        "embedding_size": 16,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "hidden_act": "gelu_new",
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        **ENCODER,
    },
    "deberta-v2": {
        "model_type": "deberta-v2",
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
        "pooler_dropout": 0,
        "pooler_hidden_act": "gelu",
        "pooler_hidden_size": 32,
        **ENCODER,
    },
    "electra": {"model_type": "electra", "embedding_size": 16, **ENCODER},
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "llama": {
        "model_type": "llama",
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "rope_theta": 100000.0,
        **DECODER,
    },
    "smollm2": {
        "model_type": "llama",
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "rope_theta": 100000.0,
        **DECODER,
    },
    "qwen2": {
        "model_type": "qwen2",
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "rope_theta": 1000000.0,
        "use_sliding_window": False,
        **DECODER,
    },
    "gemma": {
        "model_type": "gemma",
        "num_key_value_heads": 1,
        "head_dim": 8,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_theta": 10000.0,
        **DECODER,
    },
    "mistral": {
        "model_type": "mistral",
        "num_key_value_heads": 2,
        "head_dim": 4,
        "rms_norm_eps": 1e-5,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "rope_theta": 1000000.0,
        **DECODER,
    },
    "qwen3": {
        "model_type": "qwen3",
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "rope_theta": 1000000.0,
        "use_sliding_window": False,
        **DECODER,
    },
    "gemma2": {
        "model_type": "gemma2",
        "num_key_value_heads": 1,
        "head_dim": 8,
        "query_pre_attn_scalar": 4,
        "rms_norm_eps": 1e-5,
        "sliding_window": 16,
        "rope_theta": 10000.0,
        **DECODER,
    },
    "bert_tags": {"model_type": "bert", "hidden_act": "gelu", **SMALL},
    "roberta_answers": {
        "model_type": "roberta",
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        **SMALL,
        "max_position_embeddings": 66,
    },
}
# What is no classifier of texts: the class, and the names of its logits where it has some.
HEADS = {
    "bert_tags": (tr.AutoModelForTokenClassification, TAGS),
    "roberta_answers": (tr.AutoModelForQuestionAnswering, None),
}
# Hub folders of before Transformers 5 keep rope_theta at the top level; Qwen keeps the new form.
OLD_ROPE = {"llama", "smollm2", "gemma", "gemma2", "mistral"}
tr.utils.logging.disable_progress_bar()


def tokenizer_of(folder: Path):
    """The tokenizer as Transformers loads it from the folder, padding on the right."""
    return tr.AutoTokenizer.from_pretrained(folder, padding_side="right")


def model_of(family: str, tokenizer, number: int) -> torch.nn.Module:
    """A model with random weights that are large enough for mistakes to show."""
    options = dict(FAMILIES[family])
    kind = options.pop("model_type")
    ids = {f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
    rows = len(tokenizer) + (4 if kind == "deberta-v2" else 0)
    auto, labels = HEADS.get(family, (tr.AutoModelForSequenceClassification, LABELS))
    config = tr.AutoConfig.for_model(kind, vocab_size=rows, **ids, **options)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: i for i, name in enumerate(labels)}
    model = auto.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(SEED + number)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = 0.2 * torch.randn(weight.shape, generator=generator)
            scale = name.lower().endswith("norm.weight") or ".ln_" in name and weight.ndim == 1
            one = scale and name.endswith("weight") and not kind.startswith("gemma")
            weight.copy_(noise + 1 if one else noise)
    return model.eval()


def encode(
    tokenizer, texts: list, second: list | None = None, segments: bool | None = None
) -> dict[str, torch.Tensor]:
    """Ids, mask and (where the family has them) segment ids, padded on the right."""
    return tokenizer(
        texts,
        second,
        padding=True,
        truncation=True,
        max_length=MAX_LENGTH,
        return_tensors="pt",
        return_token_type_ids=segments,
    )


def logits_of(outputs: Any) -> torch.Tensor:
    """The logits; those of the start and of the end of an answer side by side."""
    if "start_logits" in outputs:
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)
    return outputs.logits


def answers(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The batch, the backbone's last hidden state and the logits as arrays."""
    body = getattr(model, model.base_model_prefix)
    with torch.no_grad():
        hidden = body(**batch).last_hidden_state
        logits = logits_of(model(**batch))
    arrays = {name: value.numpy().astype("int32") for name, value in batch.items()}
    return arrays | {"last_hidden_state": hidden.numpy(), "logits": logits.numpy()}


def write_model(folder: Path, family: str, number: int) -> torch.nn.Module:
    """config.json, model.safetensors, expected.npz and texts.json of one family."""
    tokenizer = tokenizer_of(folder)
    model = model_of(family, tokenizer, number)
    save(model, folder, old_rope=family in OLD_ROPE)
    # Transformers 5 leaves ALBERT's segment ids out unless asked; version 4 gave them.
    segments = True if family == "albert" else None
    arrays = answers(model, encode(tokenizer, TEXTS, segments=segments))
    pairs = [] if "num_key_value_heads" in FAMILIES[family] or family == "gpt2" else PAIRS
    if pairs:
        first, second = (list(side) for side in zip(*pairs, strict=True))
        batch = encode(tokenizer, first, second, segments=segments)
        arrays |= {f"pair_{name}": value for name, value in answers(model, batch).items()}
    np.savez_compressed(folder / "expected.npz", **arrays)
    texts = {"texts": TEXTS, "pairs": pairs, "max_length": MAX_LENGTH}
    write_json(folder / "texts.json", texts)
    return model


def save(model: torch.nn.Module, folder: Path, old_rope: bool = False) -> None:
    """save_pretrained; `old_rope` writes config.json as Transformers before version 5 did."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if old_rope:
        config |= {"rope_theta": config.pop("rope_parameters")["rope_theta"], "rope_scaling": None}
        config["torch_dtype"] = config.pop("dtype")
    if "pos_att_type" in config:
        config["pos_att_type"] = "|".join(config["pos_att_type"])
    write_json(folder / "config.json", config)
