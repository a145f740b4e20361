"""Weights in 8 bits: stored as codes and scales, and made floats once, when a server loads them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft._core.errors import InputError
from kerasft._core.int8 import to_int8
from kerasft.backbones._surgery import own_weights

stack.ensure()
import tensorflow as tf  # noqa: E402  (after the backend is chosen)

# Fewer numbers (biases of heads, a head of two classes, types of segments) stay as they are: they
# take no room.
LEAST = 4096


@dataclass(frozen=True)
class Rounded:
    """A weight in 8 bits: value ~ code * scale.

    Args:
        variable: the weight, which holds code * scale.
        codes: int8, in its shape.
        scales: float32, one an output of a kernel, one a row of an embedding.
    """

    variable: Any
    codes: np.ndarray
    scales: np.ndarray


def round_weights(pipe: Any) -> list[Rounded]:
    """Round the large matrices of a pipeline to 8 bits, in place.

    Kernels have one scale an output, embeddings one a row; biases, norms, small matrices and what
    is not held in floats (codes of `qlora`) stay as they are.

    Args:
        pipe: a pipeline of its own (`Pipeline.copied`).

    Raises:
        InputError: if the model has no large matrix of floats.
    """
    found = []
    for layer, held in own_weights(pipe.model).values():
        for _, variable in held.values():
            axes = _shared(layer, variable)
            if axes is not None:
                values = np.asarray(variable).astype(np.float32)
                one = Rounded(variable, *to_int8(values, axes))
                variable.assign(_decoded(one.codes, one.scales, variable.dtype))
                found.append(one)
    if not found:
        raise InputError(
            f"int8 rounds float matrices of at least {LEAST:,} numbers. Received: a model that has "
            "none, so nothing would be saved. Export it without int8."
        )
    return found


def _shared(layer: Any, variable: Any) -> tuple[int, ...] | None:
    """The axes along which numbers share a scale; None of a weight that stays as it is."""
    shape, name = tuple(variable.shape), variable.name
    if "float" not in str(variable.dtype) or len(shape) < 2 or np.prod(shape) < LEAST:
        return None
    if name == "bias":  # of heads and their units
        return None
    if "embedding" in name and name != "reverse_embeddings":  # that one is a kernel
        return (len(shape) - 1,)
    equation = getattr(layer, "equation", None)
    if name == "kernel" and equation:
        left, produced = equation.replace(" ", "").split("->")
        return tuple(i for i, c in enumerate(left.split(",")[1]) if c not in produced)
    return tuple(range(len(shape) - 1))


def _decoded(codes: Any, scales: Any, dtype: Any) -> Any:
    return tf.cast(tf.cast(codes, tf.float32) * scales, dtype)


class _Decoded(tf.saved_model.experimental.TrackableResource):
    """A variable that a SavedModel does not store, but fills from codes when it is loaded.

    What reads the variable in Python reads in the SavedModel one of the same shape, which the
    initialiser sets after the codes have been restored: a request costs what it does with floats.
    Nothing destroys it before its session or, where Python loads it, the process ends: who keeps
    the signatures alone of what `tf.saved_model.load` gives would be left without weights.
    """

    def __init__(self, variable: Any, codes: Any, scales: Any, name: str):
        super().__init__()
        self.variable, self.codes, self.scales, self.name = variable, codes, scales, name
        # Asked for here, outside any graph: it is what the functions have captured.
        assert self.resource_handle is variable.handle

    def _create_resource(self):
        if tf.executing_eagerly():
            return self.variable.handle
        # Each session has names of its own, and `tf.saved_model.load` adds a number to them.
        return tf.raw_ops.VarHandleOp(
            dtype=self.variable.dtype, shape=self.variable.shape, shared_name=self.name
        )

    def _initialize(self):
        value = _decoded(self.codes, self.scales, self.variable.dtype)
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=value)


def tracked(rounded: list[Rounded]) -> list[tuple[Any, ...]]:
    """What a SavedModel of rounded weights holds in place of their variables."""
    found = []
    for number, one in enumerate(rounded):
        held = tf.Variable(one.codes, trainable=False), tf.Variable(one.scales, trainable=False)
        found.append((_Decoded(one.variable.value, *held, name=f"decoded_{number}"), *held))
    return found
