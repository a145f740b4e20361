"""Weights that a method makes: dense and recurrent layers, and weights that start as given."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from kerasft._core import stack

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
from keras import ops  # noqa: E402


def fixed(values: np.ndarray) -> Callable[..., Any]:
    """An initializer that gives these values."""
    return lambda shape, dtype=None: ops.convert_to_tensor(values, dtype)


def dense_layers(
    owner: Any, name: str, sizes: tuple[int, ...], activation: str, random: np.random.Generator
) -> list[Any]:
    """Dense layers from the first of `sizes` to the last, an activation between them.

    Their weights are named below the layer that owns them, and drawn from `random`.
    """
    layers = []
    for number, (width, size) in enumerate(pairwise(sizes)):
        last = number == len(sizes) - 2
        layer = keras.layers.Dense(
            size,
            activation=None if last else activation,
            kernel_initializer=keras.initializers.GlorotUniform(int(random.integers(2**31))),
            dtype=owner.dtype_policy,
            name=f"{name}_{number}",
        )
        with keras.name_scope(owner.name):
            layer.build((None, width))
        layers.append(layer)
    return layers


def lstm_layers(
    owner: Any, name: str, width: int, units: int, count: int, random: np.random.Generator
) -> list[Any]:
    """Bidirectional LSTMs on each other, of [rows, steps, width] to [rows, steps, 2 units].

    Their weights are named below the layer that owns them, and drawn from `random`.
    """

    def one(direction: str) -> Any:
        seeds = (int(random.integers(2**31)) for _ in range(2))
        return keras.layers.LSTM(
            units,
            return_sequences=True,
            go_backwards=direction == "backward",
            kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
            # A SavedModel that is written beside a GPU would need one.
            use_cudnn=False,
            dtype=owner.dtype_policy,
            name=f"{direction}_lstm",
        )

    layers = []
    for number in range(count):
        layer = keras.layers.Bidirectional(
            one("forward"),
            backward_layer=one("backward"),  # by itself it would start as the forward one does
            dtype=owner.dtype_policy,
            name=f"{name}_{number}",
        )
        with keras.name_scope(owner.name):
            layer.build((None, None, 2 * units if number else width))
        layers.append(layer)
    return layers
