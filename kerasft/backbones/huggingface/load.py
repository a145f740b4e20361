"""A Hugging Face checkpoint folder to a KerasHub backbone and its tokenizer."""

import os
from typing import Any

from kerasft._core import stack
from kerasft._core.errors import InputError, KerasftError
from kerasft.backbones import _surgery
from kerasft.backbones.huggingface import ports
from kerasft.backbones.huggingface.config import arguments_of, fixes_of, read_config
from kerasft.backbones.huggingface.layouts import Layout
from kerasft.backbones.huggingface.store import Store, open_store


def load_folder(folder: str, **overrides: Any) -> tuple[Any, Any]:
    """Load the backbone and the tokenizer of a Hugging Face checkpoint folder.

    Args:
        folder: a local folder with config.json, the weights (model.safetensors, its shards, or
            tf_model.h5) and the tokenizer's files.
        overrides: arguments of KerasHub's class, e.g. `dtype` or `dropout`; the checkpoint's own
            by default.

    Returns:
        (backbone, tokenizer), both KerasHub's; the answers are those of Transformers.

    Raises:
        InputError: if a file is missing or damaged, or KerasHub's class cannot represent what
            config.json asks for.

    Example:
        >>> backbone, tokenizer = load_folder("all-MiniLM-L6-v2", dtype="float32")
        >>> backbone.num_layers
        6
    """
    stack.ensure()
    from kerasft.backbones.huggingface.tokenizers import load_tokenizer

    folder = os.fspath(folder).rstrip("/") or "/"
    path = f"{folder}/config.json"
    layout, config = read_config(folder)
    arguments = arguments_of(layout, config, path)
    fixes = fixes_of(layout, config, path)
    store = open_store(folder)
    ports.check_size(layout, arguments, store, path)
    tokenizer = load_tokenizer(folder, layout, config)
    backbone = _build(layout, _tied(arguments, store) | overrides, path)
    _surgery.apply_fixes(backbone, fixes)
    ports.fill(layout, backbone, config, store)
    return backbone, tokenizer


def _tied(arguments: dict[str, Any], store: Store) -> dict[str, Any]:
    """A classifier's checkpoint has no language model head: none is made then."""
    if "tie_word_embeddings" in arguments and "lm_head.weight" not in store:
        return arguments | {"tie_word_embeddings": True}
    return arguments


def _build(layout: Layout, arguments: dict[str, Any], path: str) -> Any:
    import keras_hub

    try:
        return getattr(keras_hub.models, layout.backbone)(**arguments)
    except KerasftError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path} does not make a {layout.backbone}: {text[:300]}") from error
