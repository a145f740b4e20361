"""The adapter alone in one safetensors file, which refuses a base that it was not trained on."""

import hashlib
from typing import Any

import numpy as np

from kerasft._core import files, stack, weights
from kerasft._core.errors import InputError
from kerasft.methods._site_layers import (
    adapter_variables,
    adapter_weights,
    set_adapter_weights,
)
from kerasft.methods._trainable import is_random_state, is_record

FORMAT = 1
# The options of a task that a head is made for; an adapter of other ones answers something else.
_TASK = ("name", "problem", "labels", "pooling", "scheme", "objective", "format", "through")


def fingerprint(adapted: Any) -> str:
    """SHA-256 of the weights of a backbone that its method leaves as they are, by path."""
    own = {id(v) for v in adapter_variables(adapted.backbone).values()}
    digest = hashlib.sha256()
    for path, variable in sorted(weights.named(adapted.weights).items()):
        noted = is_random_state(variable) or is_record(variable)
        if id(variable) not in own and not noted:
            digest.update(path.encode())
            digest.update(np.asarray(variable, np.float32).tobytes())
    return digest.hexdigest()


def save_adapter(
    path: str, adapted: Any, head: dict[str, np.ndarray], facts: dict[str, Any]
) -> str:
    """Write an adapter and the head it was trained with.

    Args:
        path: the file.
        adapted: the backbone with its method.
        head: the weights above the backbone by path.
        facts: what else it is for: `tokenizer`, a digest, and `task`, its configuration.

    Raises:
        InputError: if the method moves every weight, so that there is no base.
    """
    own = adapter_weights(adapted.backbone)
    if not own or len(own) == len(adapted.weights):
        what = "every weight moves" if own else "none of the backbone's weights move"
        raise InputError(
            f"The method {adapted.method_config['name']!r} has no adapter: {what}. `save` writes "
            "the whole model."
        )
    arrays = {f"adapter/{name}": values for name, values in own.items()}
    arrays |= {f"head/{k}": v for k, v in head.items()}
    notes = {
        "adapter_format": FORMAT,  # "format" is a word of safetensors' own
        "versions": stack.versions(),
        "method": adapted.method_config,
        "base": adapted.description,
        "fingerprint": fingerprint(adapted),
        **facts,
    }
    files.write_bytes(path, weights.to_bytes(arrays, notes))
    return path


def read_adapter(path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of an adapter file, `adapter/...` and `head/...`, and its notes.

    Raises:
        InputError: if it is no whole adapter file.
    """
    arrays, notes = weights.read(path)
    if notes.get("adapter_format") != FORMAT:
        raise InputError(
            f"{path} is no adapter file of this release (format {FORMAT}). "
            f"Received: {notes.get('adapter_format')!r:.40}. `save_adapter` writes one."
        )
    return arrays, notes


def load_adapter(
    path: str,
    adapted: Any,
    head: dict[str, Any],
    facts: dict[str, Any],
    told: str | None = None,
) -> None:
    """Set an adapter's weights and its head's, all or none.

    Args:
        path: the file.
        adapted: the backbone with the same method.
        head: the variables above the backbone by path.
        facts: as in `save_adapter`.
        told: what messages call the file.

    Raises:
        InputError: says what differs.
    """
    arrays, notes = read_adapter(path)
    path = told or path
    for key, here in (("method", adapted.method_config), ("base", adapted.description)):
        there = notes.get(key)
        if key == "base":
            there, here = _shape_of(there), _shape_of(here)
        if there != here:
            raise InputError(
                f"{path} was trained with another {key}. Expected: {here}. Received: {there}."
            )
    if notes.get("fingerprint") != fingerprint(adapted):
        raise InputError(
            f"{path} was trained on other weights of the same shape: the fingerprints of the "
            "base differ. Load the preset that the adapter was trained on."
        )
    if notes.get("tokenizer") != facts["tokenizer"]:
        raise InputError(
            f"{path} was trained with another tokenizer: its vocabulary or options differ. Load "
            "the preset that the adapter was trained on."
        )
    here, there = (_head_of(config) for config in (facts["task"], notes.get("task")))
    if there != here:
        raise InputError(
            f"{path} was trained for another task, or for other labels. Expected: {here}. "
            f"Received: {there}."
        )
    groups: dict[str, dict[str, np.ndarray]] = {"adapter": {}, "head": {}}
    for name, values in arrays.items():
        kind, _, key = name.partition("/")
        groups.setdefault(kind, {})[key] = values
    shapes = {name: tuple(v.shape) for name, v in head.items()}
    if {name: v.shape for name, v in groups["head"].items()} != shapes:
        raise InputError(f"{path}: the head of the adapter does not fit this task.")
    for name, values in arrays.items():
        if values.dtype.kind != "f" or not np.isfinite(values.astype(np.float32)).all():
            raise InputError(
                f"{path}: {name} holds numbers that are no finite float32. A run whose loss became "
                "NaN leaves such an adapter; train it again."
            )
    set_adapter_weights(adapted.backbone, groups["adapter"], path)
    for name, variable in head.items():
        variable.assign(groups["head"][name])


def _head_of(task: Any) -> Any:
    """What of a task's configuration its head is made for."""
    return {k: task[k] for k in _TASK if k in task} if isinstance(task, dict) else task


def _shape_of(description: Any) -> Any:
    """A description without what does not change the weights' meaning."""
    if not isinstance(description, dict) or not isinstance(description.get("config"), dict):
        return description
    config = {k: v for k, v in description["config"].items() if k not in ("dtype", "dropout")}
    return description | {"config": config}
