"""The parts of a BERT-like encoder, as converters of ours port them."""

from typing import Any

import numpy as np

from kerasft.backbones import _surgery


def port_dense(loader: Any, layer: Any, key: str) -> None:
    """A Linear [out, in] into a Dense or EinsumDense kernel of any rank, and its bias."""
    loader.port_weight(layer.kernel, f"{key}.weight", _turn)
    loader.port_weight(layer.bias, f"{key}.bias", _reshape)


def port_norm(loader: Any, layer: Any, key: str) -> None:
    """The two vectors of a layer normalisation."""
    loader.port_weight(layer.gamma, f"{key}.weight")
    loader.port_weight(layer.beta, f"{key}.bias")


def port_encoder_block(loader: Any, block: Any, key: str, attention: str) -> None:
    """One block; `attention` names the three projections in it."""
    query, k, value = attention.split()
    names = {
        "query": f"attention.self.{query}",
        "key": f"attention.self.{k}",
        "value": f"attention.self.{value}",
        "output": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    }
    roles, norms = _surgery.LAYOUTS[type(block).__name__]
    for role, path in roles.items():
        owner, name = _surgery.resolve(block, path)
        port_dense(loader, getattr(owner, name), f"{key}.{names[role]}")
    for path, name in zip(norms, ("attention.output.LayerNorm", "output.LayerNorm")):
        port_norm(loader, getattr(*_surgery.resolve(block, path)), f"{key}.{name}")


def _turn(value: np.ndarray, shape: list[int]) -> np.ndarray:
    return np.reshape(np.transpose(value), shape)


def _reshape(value: np.ndarray, shape: list[int]) -> np.ndarray:
    return np.reshape(value, shape)
