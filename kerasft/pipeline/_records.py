"""The record of a saved pipeline: where it is, and what in it is refused."""

import os
from typing import Any

import numpy as np

from kerasft._core import files
from kerasft._core.errors import InputError

# A damaged or foreign record can be wrong in any of these ways.
BROKEN = (
    ArithmeticError,
    AttributeError,
    FileNotFoundError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def model_folder(folder: str | os.PathLike) -> str:
    """The folder that holds the model: the one given, or the run folder's `model`."""
    for place in (os.fspath(folder), files.join(folder, "model")):
        if files.exists(files.join(place, "kerasft.json")):
            return place
    raise InputError(
        f"{os.fspath(folder)} holds no model: kerasft.json is neither there nor in its folder "
        "`model`. Give the folder that `kerasft train --out` or `Pipeline.save` wrote; a run that "
        "was interrupted has none yet."
    )


def check_plain(config: dict[str, Any], path: str) -> None:
    """Refuse a mapping in a configuration: Keras would read it as the name of code to import.

    A tokenizer's vocabulary comes from the files beside its record, never from a path in it.
    """
    for key, value in config.items():
        inner = value if isinstance(value, list) else [value]
        vocabulary = key in ("vocabulary", "merges", "proto") and value is not None
        if vocabulary or any(isinstance(v, (dict, list)) for v in inner):
            raise InputError(f"{path}: {key!r} holds what is never loaded. Received: {value!r:.80}")


def check_size(config: dict[str, Any], arrays: dict[str, np.ndarray], path: str) -> None:
    """Refuse sizes that need more weights than there are, before memory is taken for them."""
    held = sum(values.size for values in arrays.values())
    width = config.get("embedding_dim", config["hidden_dim"])
    products = {
        "vocabulary_size": width,
        "vocab_size": width,
        "max_sequence_length": width,
        "intermediate_dim": config["hidden_dim"],
    }
    for name, size in config.items():
        counts = name.startswith("num_") or name.endswith("_dim") or name in products
        if not counts or size is None:
            continue
        whole = isinstance(size, int) and isinstance(products.get(name, 1), int)
        if not (whole and 0 < size * products.get(name, 1) <= held):
            raise InputError(
                f"{path} holds {held:,} numbers, too few for the model that kerasft.json "
                f"describes. Received: {name}={size!r:.40}."
            )
