"""The one table of Hugging Face model types: how config.json and KerasHub's arguments map.

It is read in both directions: to load a checkpoint folder and to write one.
"""

from dataclasses import dataclass, field
from typing import Any

from kerasft._core.errors import InputError

_SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
    "dropout": "hidden_dropout_prob",
}
_SEGMENTS = {"num_segments": "type_vocab_size"}
_ROTARY = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_query_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "layer_norm_epsilon": "rms_norm_eps",
}
_ROPE = {"rope_max_wavelength": "rope_theta"}
_TIE = {"tie_word_embeddings": "tie_word_embeddings"}
_HEAD = {"head_dim": "head_dim"}
_NORM = {"hidden_act": "gelu", "layer_norm_eps": 1e-12}
_ENCODER = {"max_position_embeddings": 512, "hidden_dropout_prob": 0.1, **_NORM}
_DECODER = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None}
_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")
_ABSOLUTE = {"position_embedding_type": (None, "absolute")}


@dataclass(frozen=True)
class Layout:
    """One row.

    Args:
        model_type: the value in config.json.
        backbone: KerasHub's class.
        architecture: what stands before `ForSequenceClassification` and its like.
        prefix: what stands before the names of the backbone's weights.
        answers_prefix: the same in `...ForQuestionAnswering`, where it is another.
        anchor: the name of the token embeddings, by which a prefix is recognised.
        arguments: argument of KerasHub's class -> key of config.json.
        defaults: what Transformers assumes where config.json is silent.
        fixed: key -> the values that KerasHub's class can represent.
        factor, offset: KerasHub's argument = factor * value + offset, where they differ.
        activation, epsilon: keys that KerasHub's class ignores and `apply_fixes` honours.
        extra: keys that are written and that no argument stands for.
        spare: weights that KerasHub's class holds and a checkpoint may lack.
    """

    model_type: str
    backbone: str
    architecture: str
    prefix: str
    anchor: str
    arguments: dict[str, str]
    defaults: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, tuple] = field(default_factory=dict)
    factor: dict[str, int] = field(default_factory=dict)
    offset: dict[str, int] = field(default_factory=dict)
    activation: str | None = None
    epsilon: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    spare: tuple[str, ...] = ()
    answers_prefix: str | None = None


def _bert_like(model_type: str, backbone: str, architecture: str, prefix: str, **options: Any):
    arguments = options.pop("arguments", _SIZES)
    defaults = _ENCODER | options.pop("defaults", {})
    options = {"activation": "hidden_act", "epsilon": "layer_norm_eps"} | options
    anchor = "embeddings.word_embeddings.weight"
    return Layout(
        model_type, backbone, architecture, prefix, anchor, arguments, defaults, **options
    )


def _llama_like(model_type: str, backbone: str, architecture: str, **options: Any) -> Layout:
    arguments = _ROTARY | options.pop("arguments", {})
    defaults = _DECODER | options.pop("defaults", {})
    fixed = {"hidden_act": ("silu", "swish"), "attention_bias": (False,)}
    fixed |= options.pop("fixed", {})
    anchor = "embed_tokens.weight"
    return Layout(
        model_type,
        backbone,
        architecture,
        "model.",
        anchor,
        arguments,
        defaults,
        fixed,
        epsilon="rms_norm_eps",
        **options,
    )


_ROBERTA = {
    "arguments": _SIZES,
    "defaults": {"type_vocab_size": 2, "pad_token_id": 1},
    "fixed": {**_ABSOLUTE, "pad_token_id": (1,)},
    "offset": {"max_sequence_length": -2},
    "extra": {"type_vocab_size": 1},
}
_LLAMA = {
    "arguments": _ROPE | _TIE,
    "defaults": {"tie_word_embeddings": False, "hidden_act": "silu", "attention_bias": False},
    "fixed": {"mlp_bias": (None, False)},
    "extra": {"hidden_act": "silu"},
    "answers_prefix": "transformer.",
}
_GEMMA = {
    "arguments": _HEAD,
    "factor": {"intermediate_dim": 2},
    "fixed": {"hidden_act": (*_TANH, "gelu"), "rope_theta": (10000.0,)},
}
_GEMMA_EXTRA = {
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}

LAYOUTS = (
    _bert_like(
        "bert",
        "BertBackbone",
        "Bert",
        "bert.",
        arguments=_SIZES | _SEGMENTS,
        defaults={"type_vocab_size": 2},
        fixed=_ABSOLUTE,
        spare=("pooler.",),
    ),
    _bert_like("roberta", "RobertaBackbone", "Roberta", "roberta.", **_ROBERTA),
    _bert_like("xlm-roberta", "XLMRobertaBackbone", "XLMRoberta", "roberta.", **_ROBERTA),
    Layout(
        "distilbert",
        "DistilBertBackbone",
        "DistilBert",
        "distilbert.",
        "embeddings.word_embeddings.weight",
        _SIZES
        | {
            "num_layers": "n_layers",
            "num_heads": "n_heads",
            "hidden_dim": "dim",
            "intermediate_dim": "hidden_dim",
            "dropout": "dropout",
        },
        {"max_position_embeddings": 512, "dropout": 0.1, "activation": "gelu"},
        activation="activation",
    ),
    _bert_like(
        "albert",
        "AlbertBackbone",
        "Albert",
        "albert.",
        arguments=_SIZES
        | _SEGMENTS
        | {
            "embedding_dim": "embedding_size",
            "num_groups": "num_hidden_groups",
            "num_inner_repetitions": "inner_group_num",
        },
        defaults={
            "hidden_act": "gelu_new",
            "hidden_dropout_prob": 0.0,
            "embedding_size": 128,
            "num_hidden_groups": 1,
            "inner_group_num": 1,
            "type_vocab_size": 2,
        },
        fixed=_ABSOLUTE,
        spare=("pooler.",),
    ),
    _bert_like(
        "deberta-v2",
        "DebertaV3Backbone",
        "DebertaV2",
        "deberta.",
        arguments=_SIZES | {"bucket_size": "position_buckets"},
        defaults={
            "layer_norm_eps": 1e-7,
            "relative_attention": False,
            "position_buckets": -1,
            "share_att_key": False,
            "pos_att_type": None,
            "position_biased_input": True,
            "type_vocab_size": 0,
            "norm_rel_ebd": "none",
            "max_relative_positions": -1,
            "conv_kernel_size": 0,
            "pooler_hidden_act": "gelu",
        },
        fixed={
            "relative_attention": (True,),
            "share_att_key": (True,),
            "pos_att_type": ("c2p|p2c",),
            "position_biased_input": (False,),
            "type_vocab_size": (0,),
            "norm_rel_ebd": ("layer_norm",),
            "conv_kernel_size": (0,),
        },
        extra={
            "relative_attention": True,
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "position_biased_input": False,
            "type_vocab_size": 0,
            "norm_rel_ebd": "layer_norm",
            "max_relative_positions": -1,
            "pooler_hidden_act": "gelu",
            "pooler_dropout": 0,
        },
    ),
    _bert_like(
        "electra",
        "ElectraBackbone",
        "Electra",
        "electra.",
        arguments={"vocab_size": "vocab_size"}
        | {k: v for k, v in _SIZES.items() if k != "vocabulary_size"}
        | _SEGMENTS
        | {"embedding_dim": "embedding_size"},
        defaults={"type_vocab_size": 2, "embedding_size": 128},
        fixed=_ABSOLUTE,
    ),
    Layout(
        "gpt2",
        "GPT2Backbone",
        "GPT2",
        "transformer.",
        "wte.weight",
        _SIZES
        | {
            "num_layers": "n_layer",
            "num_heads": "n_head",
            "hidden_dim": "n_embd",
            "intermediate_dim": "n_inner",
            "max_sequence_length": "n_positions",
            "dropout": "resid_pdrop",
        },
        {
            "n_positions": 1024,
            "resid_pdrop": 0.1,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
        },
        {
            "scale_attn_weights": (None, True),
            "scale_attn_by_inverse_layer_idx": (None, False),
            "add_cross_attention": (None, False),
        },
        activation="activation_function",
        epsilon="layer_norm_epsilon",
    ),
    Layout(
        "bart",
        "BartBackbone",
        "Bart",
        "model.",
        "shared.weight",
        {
            "vocabulary_size": "vocab_size",
            "num_layers": "encoder_layers",
            "num_heads": "encoder_attention_heads",
            "hidden_dim": "d_model",
            "intermediate_dim": "encoder_ffn_dim",
            "max_sequence_length": "max_position_embeddings",
            "dropout": "dropout",
        },
        {
            "encoder_layers": 12,
            "encoder_attention_heads": 16,
            "encoder_ffn_dim": 4096,
            "decoder_layers": 12,
            "decoder_attention_heads": 16,
            "decoder_ffn_dim": 4096,
            "d_model": 1024,
            "max_position_embeddings": 1024,
            "dropout": 0.1,
            "activation_function": "gelu",
            "scale_embedding": False,
        },
        {
            "scale_embedding": (False,),
            "normalize_before": (None, False),
            "add_final_layer_norm": (None, False),
            "normalize_embedding": (None, True),
            "static_position_embeddings": (None, False),
            "tie_word_embeddings": (None, True),
        },
        activation="activation_function",
    ),
    _llama_like("llama", "Llama3Backbone", "Llama", **_LLAMA),
    _llama_like("llama", "LlamaBackbone", "Llama", **_LLAMA),
    _llama_like(
        "mistral",
        "MistralBackbone",
        "Mistral",
        arguments=_ROPE | _HEAD | {"sliding_window": "sliding_window"},
        defaults={
            "hidden_act": "silu",
            "attention_bias": False,
            "sliding_window": 4096,
            "num_key_value_heads": 8,
            "head_dim": None,
        },
        extra={"hidden_act": "silu", "tie_word_embeddings": False},
    ),
    _llama_like(
        "qwen2",
        "QwenBackbone",
        "Qwen2",
        arguments=_ROPE | _TIE,
        defaults={
            "tie_word_embeddings": False,
            "hidden_act": "silu",
            "attention_bias": False,
            "num_key_value_heads": 32,
        },
        fixed={"use_sliding_window": (None, False)},
        extra={"hidden_act": "silu", "use_sliding_window": False},
        answers_prefix="transformer.",
    ),
    _llama_like(
        "qwen3",
        "Qwen3Backbone",
        "Qwen3",
        arguments=_ROPE | _TIE | _HEAD,
        defaults={
            "tie_word_embeddings": False,
            "hidden_act": "silu",
            "attention_bias": False,
            "head_dim": 128,
            "num_key_value_heads": 32,
        },
        fixed={"use_sliding_window": (None, False)},
        extra={"hidden_act": "silu", "use_sliding_window": False},
        answers_prefix="transformer.",
    ),
    _llama_like(
        "gemma",
        "GemmaBackbone",
        "Gemma",
        defaults={
            "hidden_act": _TANH[0],
            "attention_bias": False,
            "head_dim": 256,
            "num_key_value_heads": 16,
        },
        extra=_GEMMA_EXTRA,
        **_GEMMA,
    ),
    _llama_like(
        "gemma2",
        "GemmaBackbone",
        "Gemma2",
        defaults={
            "hidden_act": _TANH[0],
            "attention_bias": False,
            "head_dim": 256,
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        extra=_GEMMA_EXTRA,
        **(
            _GEMMA
            | {
                "arguments": _HEAD
                | {
                    "sliding_window_size": "sliding_window",
                    "attention_logit_soft_cap": "attn_logit_softcapping",
                    "final_logit_soft_cap": "final_logit_softcapping",
                }
            }
        ),
    ),
)


def layout_of_model_type(model_type: str) -> Layout:
    """The row by which a folder of that model type is loaded."""
    return next(row for row in LAYOUTS if row.model_type == model_type)


def layout_of(backbone: Any) -> Layout:
    """The row by which a backbone is written; `InputError` if Transformers cannot hold it."""
    name = type(backbone).__name__
    rows = [row for row in LAYOUTS if row.backbone == name]
    if not rows:
        raise InputError(
            f"A {name} cannot be written as a Hugging Face folder: KerasHub and Transformers "
            "compute its family differently, and kerasft has no converter for it. Received: "
            f"{name}. Save it as a run or a KerasHub preset."
        )
    later = bool(getattr(backbone, "use_post_ffw_norm", False))
    return rows[-1] if later and name == "GemmaBackbone" else rows[0]
