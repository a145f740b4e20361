"""Load a backbone and its tokenizer from anything that is called a preset."""

import os
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any

from kerasft._core import files, stack
from kerasft._core.checks import nearest
from kerasft._core.errors import InputError, KerasftError
from kerasft._core.extras import require
from kerasft.backbones import _surgery
from kerasft.backbones.families import FAMILIES, family_of
from kerasft.backbones.saved import RECORD, load_saved, saved_folder

EMBEDDED = {"bert_tiny": "BERT-Tiny, 2 layers of 128 units, 4.4 M parameters, English uncased"}
REMOTE = ("hf://", "kaggle://", "modelscope://")


def presets() -> dict[str, str]:
    """Name and description of the embedded presets and of KerasHub's text presets."""
    stack.ensure()
    import keras_hub

    found = {name: f"[embedded] {text}" for name, text in EMBEDDED.items()}
    for family in FAMILIES:
        for name, preset in getattr(keras_hub.models, family.backbone).presets.items():
            text = preset.get("metadata", {}).get("description", "")
            words = " ".join(text.split()) or "KerasHub gives no description"
            found.setdefault(name, f"[{family.name}] {words}")
    return found


def folder_of(preset: str) -> str | None:
    """The local folder that a preset stands for, or None if KerasHub has to fetch it."""
    if preset in EMBEDDED:
        return str(resources.files("kerasft.backbones") / "presets" / preset)
    if preset.startswith("hf://"):
        hub = require("huggingface_hub", "hf")
        try:
            return hub.snapshot_download(preset.removeprefix("hf://"))
        except Exception as error:  # the hub's client raises many types, all mean "not to be had"
            raise InputError(
                f"The preset {preset!r} could not be fetched: {_one_line(error)}. "
                "Check the name and the network, or give a local folder."
            ) from None
    if not preset.startswith(REMOTE) and files.exists(preset):
        return saved_folder(preset) or preset.rstrip("/") or "/"
    return None


def load(
    preset: str | os.PathLike, *, dtype: str | None = None, dropout: float | None = None
) -> tuple[Any, Any]:
    """Load a pretrained backbone and its tokenizer.

    Args:
        preset: `bert_tiny` (embedded), the name of a KerasHub preset, a KerasHub preset folder,
            a Hugging Face checkpoint folder, `hf://user/name` or `kaggle://user/...`; or a run
            folder, whose backbone is taken as training left it.
        dtype: a dtype policy such as `mixed_bfloat16`; float32 by default.
        dropout: share of units dropped in training, 0 to 1; the checkpoint's own by default.

    Returns:
        (backbone, tokenizer), both KerasHub's.

    Raises:
        InputError: if there is no such preset, or it is of a family that kerasft does not know.

    Example:
        >>> backbone, tokenizer = load("bert_tiny")
        >>> backbone.num_layers
        2
    """
    stack.ensure()
    preset = os.fspath(preset)
    options: dict[str, Any] = {"dtype": dtype or "float32"}
    if dropout is not None:
        options["dropout"] = dropout
    folder = folder_of(preset)
    if folder is None:
        return _from_keras_hub(preset, _known_name(preset), options)
    if is_saved(folder):
        return load_saved(folder, **options)
    with files.local_copy(folder) as local:
        if is_hugging_face(local):
            from kerasft.backbones.huggingface import load_folder

            return load_folder(str(local), **options)
        return _from_keras_hub(preset, str(local), options)


def is_saved(folder: str | Path) -> bool:
    """Whether a folder is what `Pipeline.save` writes."""
    return files.exists(files.join(folder, RECORD))


def is_hugging_face(folder: str | Path) -> bool:
    """Whether a folder is a Hugging Face checkpoint (its config.json has a `model_type`)."""
    if is_saved(folder):
        return False
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(
            "A preset folder holds a config.json, or the model of a run that came to its end. "
            f"Received: {folder}, which has none."
        )
    config = files.read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold a JSON object. Received: {config!r:.60}.")
    return "model_type" in config


def _known_name(preset: str) -> str:
    if preset.startswith(REMOTE):
        return preset
    known = presets()
    if preset not in known:
        raise InputError(
            f"There is no preset {preset!r}: it is neither a folder nor a known name."
            f"{nearest(preset, known)} `kerasft presets` lists the names."
        )
    return preset


def _from_keras_hub(preset: str, source: str, options: dict[str, Any]) -> tuple[Any, Any]:
    import keras_hub

    if Path(source).is_dir():
        _refuse_foreign_class(source)
    try:
        backbone = keras_hub.models.Backbone.from_preset(source, **options)
        family_of(backbone)
        tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(source)
    except KerasftError:
        raise
    except Exception as error:  # KerasHub's loaders raise many types for a preset not to be had
        raise InputError(
            f"The preset {preset!r} could not be loaded: {_one_line(error)}"
        ) from error
    _drop_accents_if_uncased(tokenizer)
    return backbone, _surgery.in_graph(tokenizer)


def _drop_accents_if_uncased(tokenizer: Any) -> None:
    """Let an uncased WordPiece tokenizer take accents off, if no entry of its vocabulary has one.

    BERT's uncased vocabularies were made so, but KerasHub's presets only lower: "café" would be
    [UNK].
    """
    if not getattr(tokenizer, "lowercase", False) or not hasattr(tokenizer, "strip_accents"):
        return
    signs = unicodedata.normalize("NFD", "".join(tokenizer.vocabulary))
    if not any(unicodedata.category(sign) == "Mn" for sign in set(signs)):
        tokenizer.strip_accents = True


def _refuse_foreign_class(folder: str) -> None:
    """Keras would import whatever module a config names; only KerasHub's own are let through."""
    for name in ("config.json", "tokenizer.json"):
        path = Path(folder) / name
        if not path.is_file():
            raise InputError(f"A KerasHub preset folder holds {name}. Received: {folder}.")
        _check_modules(files.read_json(path), path)


def _check_modules(value: Any, path: Path) -> None:
    if isinstance(value, dict):
        module = value.get("module")
        if isinstance(module, str) and module.split(".")[0] not in (
            "keras",
            "keras_hub",
            "builtins",
        ):
            raise InputError(
                f"{path} names code outside Keras and KerasHub, which is never run. "
                f"Received: module={module!r}."
            )
        for inner in value.values():
            _check_modules(inner, path)
    elif isinstance(value, list):
        for inner in value:
            _check_modules(inner, path)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
