"""Variables to safetensors and back, by path, with checks; no pickle anywhere."""

import json
from typing import Any

import numpy as np

from kerasft._core import files
from kerasft._core.errors import InputError


def to_bytes(arrays: dict[str, np.ndarray], notes: dict[str, Any] | None = None) -> bytes:
    """A safetensors file of arrays, with JSON notes in its header."""
    from safetensors.numpy import save

    meta = {key: json.dumps(value) for key, value in (notes or {}).items()}
    return save({k: np.asarray(v, order="C") for k, v in arrays.items()}, meta or None)


def read(path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and notes of a safetensors file; `InputError` if it is none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = files.read_bytes(path)
        arrays = load(data)
        size = int.from_bytes(data[:8], "little")
        meta = json.loads(data[8 : 8 + size]).get("__metadata__", {})
        # Transformers' files say {"format": "pt"}, which is no JSON; our notes are.
        notes = {k: v for k, v in meta.items() if k != "format" or not v.isalpha()}
        return arrays, {key: json.loads(value) for key, value in notes.items()}
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}.") from None


def named(variables: list[Any]) -> dict[str, Any]:
    """Variables by path; a path that comes twice gets #2, #3, ... in order."""
    found: dict[str, Any] = {}
    for variable in variables:
        path, count = variable.path, 1
        while path in found:
            count += 1
            path = f"{variable.path}#{count}"
        found[path] = variable
    return found


def state_of(model: Any) -> dict[str, np.ndarray]:
    """The weights of a model by path, without random states."""
    return {path: np.asarray(v) for path, v in named(model.weights).items()}


def assign(model: Any, arrays: dict[str, np.ndarray], source: str) -> None:
    """Set the weights of a model; `InputError` unless every one is there with its shape."""
    wanted = named(model.weights)
    odd = sorted(set(wanted) ^ set(arrays)) or [
        p for p, v in wanted.items() if tuple(v.shape) != arrays[p].shape
    ]
    if odd:
        raise InputError(
            f"{source} does not fit the model: {len(odd)} weights are missing, unknown or of "
            f"another shape, first: {odd[0]}."
        )
    for path, variable in wanted.items():
        variable.assign(arrays[path])
