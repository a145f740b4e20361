"""Backbones and tokenizers as plain JSON and files, and back, without running foreign code."""

import inspect
from typing import Any

from kerasft._core import files
from kerasft._core.checks import one_of
from kerasft._core.errors import InputError
from kerasft.backbones import _surgery
from kerasft.backbones.families import FAMILIES, family_of
from kerasft.backbones.words import Splitting
from kerasft.preprocessing import Template

# Tokenizers that no family names as its own, but checkpoints of a family may come with.
_EXTRA_TOKENIZERS = ("MistralTekkenTokenizer",)
_CLASSIC = (
    "BertTokenizer",
    "ElectraTokenizer",
    "DistilBertTokenizer",
    "AlbertTokenizer",
    "DebertaV3Tokenizer",
    "FNetTokenizer",
)
_DOUBLE = ("RobertaTokenizer", "XLMRobertaTokenizer", "BartTokenizer")
_NO_START = ("GPT2Tokenizer", "QwenTokenizer", "Qwen3Tokenizer")


def describe_backbone(backbone: Any) -> dict[str, Any]:
    """Return what `build_backbone` needs: class, configuration, and what the class forgets."""
    family = family_of(backbone)
    config = {k: v for k, v in backbone.get_config().items() if k not in ("name", "trainable")}
    config |= {key: getattr(backbone, key) for key in family.config}
    config["dtype"] = backbone.dtype_policy.name
    fixes = _surgery.read_fixes(backbone)
    if "activation" in fixes:  # T5's has the name of a function, or code that no record may hold
        config.pop("activation", None)
    return {"class": family.backbone, "config": config, "fixes": fixes}


def build_backbone(description: dict[str, Any], **overrides: Any) -> Any:
    """Build the backbone of a description with fresh weights.

    Only classes in the table of families are ever built. `overrides` replace single arguments
    of the constructor, e.g. `dtype` or `dropout`.
    """
    import keras_hub

    one_of("class", description.get("class"), [f.backbone for f in FAMILIES])
    config = dict(description["config"]) | overrides
    known = inspect.signature(getattr(keras_hub.models, description["class"]).__init__).parameters
    for key in config:
        if key not in known:
            raise InputError(f"{description['class']} has no argument {key!r}.")
    backbone = _surgery.steady_paths(getattr(keras_hub.models, description["class"])(**config))
    _surgery.apply_fixes(backbone, description.get("fixes", {}))
    return backbone


def default_template(tokenizer: Any) -> Template:
    """The special ids that a tokenizer's family puts around texts."""
    name = type(tokenizer).__name__
    end, pad = tokenizer.end_token_id, getattr(tokenizer, "pad_token_id", None) or 0
    if name in _CLASSIC:
        return Template((tokenizer.start_token_id,), (end,), (end,), pad)
    if name in _DOUBLE:
        return Template((tokenizer.start_token_id,), (end, end), (end,), pad, second_segment=0)
    if name == "T5Tokenizer":  # what KerasHub calls its start token is its end token
        return Template((), (end,), (end,), pad, second_segment=0)
    start = () if name in _NO_START else (tokenizer.start_token_id,)
    return Template(start, (end,), (), pad, second_segment=0)


def template_of(tokenizer: Any) -> Template:
    """The special ids around texts: those its checkpoint asked for, else its family's."""
    return getattr(tokenizer, "kerasft_template", None) or default_template(tokenizer)


def decoder_start(tokenizer: Any) -> tuple[int, ...]:
    """The ids that the decoder of an encoder-decoder begins with; () for any other tokenizer."""
    name = type(tokenizer).__name__
    starts = next((family.starts for family in FAMILIES if family.tokenizer == name), ())
    return tuple(int(getattr(tokenizer, attribute)) for attribute in starts)


def set_template(tokenizer: Any, template: Template) -> None:
    """Let a checkpoint's own special ids go with its tokenizer."""
    tokenizer.kerasft_template = template


def save_tokenizer(tokenizer: Any, folder: str) -> None:
    """Write `tokenizer.json` and the vocabulary files into a local folder."""
    from pathlib import Path

    config = {k: v for k, v in tokenizer.get_config().items() if _is_plain(v)}
    config = {k: v for k, v in config.items() if k not in ("name", "trainable", "config_file")}
    for key, attribute in (
        ("bos_token", "start_token"),
        ("eos_token", "end_token"),
        ("pad_token", "pad_token"),
    ):
        if key in inspect.signature(type(tokenizer).__init__).parameters:
            config[key] = getattr(tokenizer, attribute)
    if "misc_special_tokens" in inspect.signature(type(tokenizer).__init__).parameters:
        config["misc_special_tokens"] = sorted(set(tokenizer.special_tokens))
    template = template_of(tokenizer)
    Path(folder).mkdir(parents=True, exist_ok=True)
    tokenizer.save_assets(str(folder))
    record = {"class": type(tokenizer).__name__, "config": config, "template": vars(template)}
    splitting = _surgery.splitting_of(tokenizer)
    if splitting is not None:
        record["splitting"] = vars(splitting)
    files.write_json(files.join(folder, "tokenizer.json"), record)


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer's record and vocabulary files."""
    import hashlib
    import tempfile
    from pathlib import Path

    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, folder)
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def load_tokenizer(folder: str) -> Any:
    """Read what `save_tokenizer` wrote; only tokenizers of known families are ever built."""
    import keras_hub

    record = files.read_json(files.join(folder, "tokenizer.json"))
    known = [f.tokenizer for f in FAMILIES] + list(_EXTRA_TOKENIZERS)
    name = one_of("class", record["class"], known)
    config = dict(record["config"])
    if "misc_special_tokens" in config:
        config["misc_special_tokens"] = set(config["misc_special_tokens"])
    cls = getattr(keras_hub.tokenizers, name)
    if "proto" in inspect.signature(cls).parameters:
        proto = files.read_bytes(files.join(folder, "vocabulary.spm"))
        tokenizer = cls(**_without_empty(config | {"proto": proto}))
    else:
        tokenizer = cls(**_without_empty(config), vocabulary=None)
        tokenizer.load_assets(str(folder))
    set_template(tokenizer, Template(**_with_tuples(record["template"])))
    splitting = record.get("splitting")
    return _surgery.in_graph(tokenizer, splitting and Splitting(**_with_tuples(splitting)))


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def _without_empty(config: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if v is not None}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, (str, int, float, bool))
