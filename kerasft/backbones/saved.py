"""What `Pipeline.save` wrote: its record, weights and tokenizer, read without running its code."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft._core import files, weights
from kerasft._core.errors import InputError, KerasftError
from kerasft.backbones.describe import build_backbone, load_tokenizer

FORMAT = 1
RECORD, WEIGHTS = "kerasft.json", "model.safetensors"
_BROKEN = (
    ArithmeticError,
    AttributeError,
    FileNotFoundError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Saved:
    """A saved pipeline.

    Args:
        place: its folder.
        record: what `kerasft.json` holds.
        arrays: the weights by path.
        tokenizer: the KerasHub tokenizer.
    """

    place: str
    record: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tokenizer: Any

    @property
    def source(self) -> str:
        """The path of the weights, for messages."""
        return files.join(self.place, WEIGHTS)

    def backbone(self, **overrides: Any) -> Any:
        """The backbone as it was before the method, with fresh weights; `overrides` as of
        `build_backbone`."""
        return build_backbone(self.record["backbone"], **overrides)


def saved_folder(folder: str | os.PathLike) -> str | None:
    """The folder of the saved pipeline that a folder is, or that lies in it as `model`, or None."""
    for place in (os.fspath(folder), files.join(folder, "model")):
        if files.exists(files.join(place, RECORD)):
            return place
    return None


def model_folder(folder: str | os.PathLike) -> str:
    """As `saved_folder`; `InputError` where there is none."""
    place = saved_folder(folder)
    if place is None:
        raise InputError(
            f"{os.fspath(folder)} holds no model: kerasft.json is neither there nor in its folder "
            "`model`. Give the folder that `kerasft train --out` or `Pipeline.save` wrote; a run "
            "that was interrupted has none yet."
        )
    return place


def read_saved(place: str) -> Saved:
    """Read a saved pipeline; only JSON, numbers and vocabularies are read, within their bounds.

    Raises:
        InputError: if it is of another format, names code, or asks for more than it holds.
    """
    record = files.read_json(files.join(place, RECORD))
    if record["format"] != FORMAT:
        raise InputError(
            f"{place} was written in format {record['format']!r:.40}; this kerasft reads "
            f"format {FORMAT}. Install the version of kerasft that wrote it."
        )
    with files.local_copy(place) as local:
        spelled = files.read_json(local / "tokenizer" / "tokenizer.json")
        _check_plain(spelled["config"], files.join(place, "tokenizer", "tokenizer.json"))
        tokenizer = load_tokenizer(str(local / "tokenizer"))
        arrays, _ = weights.read(str(local / WEIGHTS))
    for part in ("config", "fixes"):
        _check_plain(record["backbone"][part], files.join(place, RECORD))
    saved = Saved(place, record, arrays, tokenizer)
    _check_size(record["backbone"]["config"], arrays, saved.source)
    return saved


def load_saved(place: str, **overrides: Any) -> tuple[Any, Any]:
    """The backbone and the tokenizer of a saved pipeline, as training left them.

    Args:
        place: the folder (see `saved_folder`).
        overrides: arguments of the backbone's constructor, e.g. `dtype` or `dropout`.

    Returns:
        (backbone, tokenizer), both KerasHub's.

    Raises:
        InputError: if the folder is damaged, or its method has put weights of its own beside the
            backbone's that were not merged.
    """
    with damage_told(place):
        saved = read_saved(place)
        if saved.record["adapter"]:
            name = saved.record["method"]["name"]
            raise InputError(
                f"{place} holds an adapter that is not merged into the backbone. Received: "
                f"method={name!r:.40}. Merge it, where the method can be merged, and use that "
                f"folder as preset: kerasft.load({place!r}).merged().save('merged')."
            )
        backbone = saved.backbone(**overrides)
        wanted = weights.named(backbone.weights)
        own = {path: saved.arrays[path] for path in wanted if path in saved.arrays}
        weights.assign(backbone, own, saved.source)
        return backbone, saved.tokenizer


@contextlib.contextmanager
def damage_told(place: str) -> Iterator[None]:
    """Turn whatever a damaged or foreign record leads to into one `InputError`."""
    import tensorflow as tf

    try:
        yield
    except (KerasftError, tf.errors.ResourceExhaustedError):
        raise
    # It can be wrong in any way.
    except (*_BROKEN, tf.errors.OpError) as error:
        raise InputError(
            f"{place} is damaged, or was not written by kerasft: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


def _check_plain(config: dict[str, Any], path: str) -> None:
    """Refuse a mapping in a configuration: Keras would read it as the name of code to import.

    A tokenizer's vocabulary comes from the files beside its record, never from a path in it.
    """
    for key, value in config.items():
        inner = value if isinstance(value, list) else [value]
        vocabulary = key in ("vocabulary", "merges", "proto") and value is not None
        if vocabulary or any(isinstance(v, (dict, list)) for v in inner):
            raise InputError(f"{path}: {key!r} holds what is never loaded. Received: {value!r:.80}")


def _check_size(config: dict[str, Any], arrays: dict[str, np.ndarray], path: str) -> None:
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
