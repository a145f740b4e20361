"""config.json to the arguments of KerasHub's class, checked, and back."""

from typing import Any

from kerasft._core import files
from kerasft._core.checks import one_of
from kerasft._core.errors import InputError
from kerasft.backbones import _surgery
from kerasft.backbones.families import family_of_model_type
from kerasft.backbones.huggingface.layouts import Layout, layout_of_model_type

_FLOATS = {"dropout", "layer_norm_epsilon", "rope_max_wavelength"}
_FLOATS |= {"attention_logit_soft_cap", "final_logit_soft_cap"}
_OPTIONAL = {"head_dim", "sliding_window", "attention_logit_soft_cap", "final_logit_soft_cap"}
_ROPE_SCALING = {
    "rope_frequency_adjustment_factor": "factor",
    "rope_low_freq_factor": "low_freq_factor",
    "rope_high_freq_factor": "high_freq_factor",
    "rope_pretraining_sequence_length": "original_max_position_embeddings",
}
# Options of KerasHub's classes that config.json has no key for, and what they must be.
_NEUTRAL = {
    "rope_scaling_factor": 1.0,
    "rope_position_scaling_factor": 1.0,
    "use_sliding_window_attention": False,
}


def read_config(folder: str) -> tuple[Layout, dict[str, Any]]:
    """The row of the table for a folder, and its config.json checked and completed.

    Raises:
        InputError: if config.json is missing, asks for something that KerasHub's class cannot
            represent, or holds a value that makes no sense.
    """
    path = files.join(folder, "config.json")
    found = files.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise InputError(f"{path} must be an object with a `model_type`. Received: {found!r:.80}.")
    family_of_model_type(found["model_type"])
    layout = layout_of_model_type(found["model_type"])
    config = _canonical(layout, layout.defaults | found, path)
    for key, allowed in layout.fixed.items():
        if config.get(key) not in allowed:
            known = " or ".join(repr(v) for v in allowed if v is not None)
            raise InputError(
                f"{path}: KerasHub's {layout.backbone} can do {key}={known} only. "
                f"Received: {key}={config.get(key)!r}."
            )
    return layout, config


def _canonical(layout: Layout, config: dict[str, Any], path: str) -> dict[str, Any]:
    """One spelling for what versions of Transformers have spelled in several ways."""
    if layout.model_type == "gpt2" and config.get("n_inner") is None:
        config["n_inner"] = 4 * _number("n_embd", config.get("n_embd"), path)
    if layout.model_type.startswith("gemma"):
        config["hidden_act"] = config.get("hidden_activation") or config["hidden_act"]
    if layout.model_type == "llama" and config.get("num_key_value_heads") is None:
        config["num_key_value_heads"] = config.get("num_attention_heads")
    if layout.model_type == "deberta-v2":
        kinds = config["pos_att_type"] or []
        kinds = kinds.lower().split("|") if isinstance(kinds, str) else kinds
        config["pos_att_type"] = "|".join(sorted(str(k).strip() for k in kinds))
        _check_deberta(config, path)
    if layout.model_type == "bart":
        _check_bart(config, path)
    return config | _rope(config, path)


def _check_bart(config: dict[str, Any], path: str) -> None:
    for name in ("layers", "attention_heads", "ffn_dim"):
        encoder, decoder = (config[f"{side}_{name}"] for side in ("encoder", "decoder"))
        if encoder != decoder:
            raise InputError(
                f"{path}: encoder and decoder of KerasHub's BartBackbone are of one size. "
                f"Received: encoder_{name}={encoder!r}, decoder_{name}={decoder!r}."
            )


def _check_deberta(config: dict[str, Any], path: str) -> None:
    width = config.get("hidden_size")
    for key in ("embedding_size", "pooler_hidden_size"):
        if config.get(key) not in (None, width):
            raise InputError(
                f"{path}: `{key}` must equal `hidden_size`={width!r} for KerasHub's "
                f"DebertaV3Backbone. Received: {key}={config[key]!r}."
            )
    reach = config["max_relative_positions"]
    if isinstance(reach, int) and reach >= 1 and reach != config["max_position_embeddings"]:
        raise InputError(
            f"{path}: `max_relative_positions` must be -1 or equal `max_position_embeddings` for "
            f"KerasHub's DebertaV3Backbone. Received: max_relative_positions={reach}."
        )


def _rope(config: dict[str, Any], path: str) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling`, which Transformers 5 writes as `rope_parameters`."""
    if "rope_theta" not in config:
        return {}
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise InputError(f"{path}: `rope_scaling` must be an object. Received: {given!r:.80}.")
    kind = given.get("rope_type", given.get("type", "default"))
    theta = given.get("rope_theta", config["rope_theta"])
    allowed = ("default", "llama3") if config["model_type"] == "llama" else ("default",)
    if kind not in allowed:
        raise InputError(
            f"{path}: the rotary positions must be of rope_type {' or '.join(allowed)} for "
            f"KerasHub's class. Received: rope_type={kind!r}."
        )
    return {"rope_theta": theta, "rope_scaling": given if kind == "llama3" else None}


def arguments_of(layout: Layout, config: dict[str, Any], path: str) -> dict[str, Any]:
    """The arguments of KerasHub's class; `InputError` names a key that is missing or absurd."""
    found: dict[str, Any] = {}
    for argument, key in layout.arguments.items():
        if key not in config:
            raise InputError(f"{path} lacks the key `{key}`, which every {layout.model_type} has.")
        value = config[key]
        if argument == "tie_word_embeddings":
            found[argument] = one_of(key, value, (True, False))
        elif value is None and argument in _OPTIONAL:
            found[argument] = None
        elif argument in _FLOATS:
            found[argument] = _number(key, value, path, whole=False)
        else:
            number = _number(key, value, path)
            factor, offset = layout.factor.get(argument, 1), layout.offset.get(argument, 0)
            found[argument] = number * factor + offset
    found |= _special_arguments(layout, config, found, path)
    _check_divisions(layout, found, path)
    return found


def _special_arguments(layout: Layout, config: dict, found: dict, path: str) -> dict[str, Any]:
    """What stands in no single key."""
    if layout.model_type == "qwen3":
        return {"sliding_window_size": None}
    if layout.model_type == "llama":
        heads, width = found["num_query_heads"], found["hidden_dim"]
        if config.get("head_dim") not in (None, width // heads):
            raise InputError(
                f"{path}: `head_dim` must be hidden_size / num_attention_heads = {width // heads} "
                f"for KerasHub's Llama3Backbone. Received: head_dim={config['head_dim']!r}."
            )
        scaling = config["rope_scaling"] or {}
        names = _ROPE_SCALING if scaling else {}
        return {a: _number(k, scaling.get(k), path, whole=False) for a, k in names.items()}
    if layout.model_type == "gemma2":
        scale, own = config["query_pre_attn_scalar"], found["head_dim"]
        other = found["hidden_dim"] // found["num_query_heads"]
        if scale not in (own, other):
            raise InputError(
                f"{path}: `query_pre_attn_scalar` must be {own} or {other} for KerasHub's "
                f"GemmaBackbone. Received: query_pre_attn_scalar={scale!r}."
            )
        return {
            "query_head_dim_normalize": scale == own,
            "use_post_ffw_norm": True,
            "use_post_attention_norm": True,
            "use_sliding_window_attention": True,
        }
    return {}


def _check_divisions(layout: Layout, found: dict[str, Any], path: str) -> None:
    pairs = [("hidden_dim", "num_heads"), ("num_query_heads", "num_key_value_heads")]
    pairs.append(("num_layers", "num_groups"))
    if found.get("head_dim") is None:
        pairs.append(("hidden_dim", "num_query_heads"))
    for whole, part in pairs:
        if whole in found and part in found and found[whole] % found[part]:
            names = layout.arguments[whole], layout.arguments[part]
            raise InputError(
                f"{path}: `{names[0]}` must be a multiple of `{names[1]}`. "
                f"Received: {names[0]}={found[whole]}, {names[1]}={found[part]}."
            )


def _number(key: str, value: Any, path: str, whole: bool = True) -> Any:
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if right and (value >= 0 if not whole else value >= 1) and value < 1e12:
        return value
    kind = "a whole number, at least 1" if whole else "a number, at least 0"
    raise InputError(f"{path}: `{key}` must be {kind}. Received: {key}={value!r:.80}.")


def fixes_of(layout: Layout, config: dict[str, Any], path: str) -> dict[str, Any]:
    """What the checkpoint asks for and KerasHub's class fixes (see `_surgery.apply_fixes`)."""
    fixes: dict[str, Any] = {}
    if layout.activation:
        name = one_of(layout.activation, config[layout.activation], _surgery.ACTIVATIONS)
        fixes["activation"] = _surgery.ACTIVATIONS[name]
    if layout.epsilon:
        value = _number(layout.epsilon, config[layout.epsilon], path, whole=False)
        fixes["layer_norm_epsilon"] = float(value)
    if layout.model_type == "gemma2":
        own = config["head_dim"]
        fixes["query_head_dim_normalize"] = config["query_pre_attn_scalar"] == own
    return fixes


def config_of(layout: Layout, backbone: Any) -> dict[str, Any]:
    """The config.json of a backbone, without what its head and tokenizer add."""
    for name, value in _NEUTRAL.items():
        own = getattr(backbone, name, value)
        if own != value and layout.model_type != "gemma2":
            raise InputError(
                f"A {layout.backbone} is written as a Hugging Face folder with {name}={value!r} "
                f"only. Received: {name}={own!r}."
            )
    config: dict[str, Any] = {"model_type": layout.model_type, **layout.extra}
    for argument, key in layout.arguments.items():
        value = getattr(backbone, argument)
        if argument in layout.factor or argument in layout.offset:
            value = value - layout.offset.get(argument, 0)
            value //= layout.factor.get(argument, 1)
        config[key] = value
    fixes = _surgery.read_fixes(backbone)
    if layout.activation:
        config[layout.activation] = _surgery.activation_key(fixes["activation"])
    if layout.epsilon:
        config[layout.epsilon] = fixes["layer_norm_epsilon"]
    return config | _special_keys(layout, backbone, config)


def _special_keys(layout: Layout, backbone: Any, config: dict[str, Any]) -> dict[str, Any]:
    if layout.model_type == "llama":
        names = {key: getattr(backbone, argument) for argument, key in _ROPE_SCALING.items()}
        scaled = names["factor"] is not None
        return {"rope_scaling": {"rope_type": "llama3", **names} if scaled else None}
    if layout.model_type == "gemma2":
        own, other = config["head_dim"], config["hidden_size"] // config["num_attention_heads"]
        normal = _surgery.read_fixes(backbone)["query_head_dim_normalize"]
        return {"query_pre_attn_scalar": own if normal else other}
    if layout.model_type == "electra":
        return {"summary_activation": "gelu"}
    if config.get("head_dim", 0) is None:
        return {"head_dim": config["hidden_size"] // config["num_attention_heads"]}
    return {}
