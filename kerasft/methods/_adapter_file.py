"""The adapter alone in one safetensors file, which refuses a base that it was not trained on."""

import hashlib
from typing import Any

import numpy as np

from kerasft._core import files, weights
from kerasft._core.errors import InputError
from kerasft.methods import registry
from kerasft.methods._trainable import is_random_state


def fingerprint(adapted: Any) -> str:
    """SHA-256 of the frozen weights of a backbone, by path."""
    digest = hashlib.sha256()
    for path, variable in sorted(weights.named(adapted.weights).items()):
        if not variable.trainable and not is_random_state(variable):
            digest.update(path.encode())
            digest.update(np.asarray(variable, np.float32).tobytes())
    return digest.hexdigest()


def save_adapter(path: str, adapted: Any, head: dict[str, np.ndarray]) -> str:
    """Write an adapter and the head it was trained with."""
    method = _with_state(adapted)
    arrays = {f"adapter/{k}": v for k, v in method.state(adapted.backbone).items()}
    arrays |= {f"head/{k}": v for k, v in head.items()}
    notes = {
        "method": adapted.method_config,
        "base": adapted.description,
        "fingerprint": fingerprint(adapted),
    }
    files.write_bytes(path, weights.to_bytes(arrays, notes))
    return path


def load_adapter(path: str, adapted: Any) -> dict[str, np.ndarray]:
    """Set an adapter's weights and return its head's; `InputError` says what differs."""
    arrays, notes = weights.read(path)
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
    groups: dict[str, dict[str, np.ndarray]] = {"adapter": {}, "head": {}}
    for name, values in arrays.items():
        kind, _, key = name.partition("/")
        groups[kind][key] = values
    _with_state(adapted).load_state(adapted.backbone, groups["adapter"])
    return groups["head"]


def _shape_of(description: Any) -> Any:
    """A description without what does not change the weights' meaning."""
    config = {k: v for k, v in description["config"].items() if k not in ("dtype", "dropout")}
    return description | {"config": config}


def _with_state(adapted: Any) -> Any:
    method = registry.build(adapted.method_config)
    if not callable(getattr(method, "state", None)):
        raise InputError(f"The method {method.name!r} has no adapter to save or load.")
    return method
