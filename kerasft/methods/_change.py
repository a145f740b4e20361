"""What an adapter makes of a layer of the base, as a function of one row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasft._core.errors import InputError


@dataclass(frozen=True)
class Change:
    """What an adapter makes of a layer f of the base.

        y = o * f(i * x) + x A B + c          or, where `kernel` is there,    y = x K + c

    Arrays are float64, None where they change nothing.

    Args:
        inputs: i, [inputs].
        a, b: A [inputs, rank] and B [rank, outputs].
        outputs: o, [outputs].
        shift: c, [outputs].
        kernel: K, [inputs, outputs]: the layer is not the base's but another one.
    """

    inputs: np.ndarray | None = None
    a: np.ndarray | None = None
    b: np.ndarray | None = None
    outputs: np.ndarray | None = None
    shift: np.ndarray | None = None
    kernel: np.ndarray | None = None

    def reading(self, factors: np.ndarray) -> "Change":
        """Of a layer that reads factors * x."""
        a = None if self.a is None else factors[:, None] * self.a
        return replace(self, inputs=_times(self.inputs, factors), a=a)

    def scaled(self, factors: np.ndarray) -> "Change":
        """Of factors * y."""
        return replace(
            self,
            b=None if self.b is None else self.b * factors,
            outputs=_times(self.outputs, factors),
            shift=None if self.shift is None else self.shift * factors,
        )

    def plus(self, a: np.ndarray, b: np.ndarray) -> "Change":
        """With x A B added."""
        if self.a is None:
            return replace(self, a=a, b=b)
        return replace(self, a=np.concatenate([self.a, a], 1), b=np.concatenate([self.b, b], 0))

    def shifted(self, shift: np.ndarray) -> "Change":
        """With a vector added."""
        return replace(self, shift=shift if self.shift is None else self.shift + shift)

    def merged(self, matrix: np.ndarray, bias: np.ndarray | None) -> tuple:
        """Matrix [inputs, outputs] and bias of a projection alone that gives y.

        W' = diag(i) W diag(o) + A B,    b' = o b + c
        """
        if self.inputs is not None:
            matrix = self.inputs[:, None] * matrix
        if self.outputs is not None:
            matrix, bias = matrix * self.outputs, None if bias is None else bias * self.outputs
        if self.a is not None:
            matrix = matrix + self.a @ self.b
        if self.shift is not None:
            bias = self.shift if bias is None else bias + self.shift
        return matrix, bias


def summed(changes: Sequence[Change], weights: Sequence[float]) -> Change:
    """The weighted sum of changes of a layer: i and o are 1, A B and c are 0, plus what each adds.

    Raises:
        InputError: if some scale what the layer reads and some what it gives.

    Reference: Ilharco et al. 2022, "Editing Models with Task Arithmetic",
    https://arxiv.org/abs/2212.04089
    """
    total = Change()
    for change, weight in zip(changes, weights, strict=True):
        if change.a is not None:
            total = total.plus(change.a, weight * change.b)
        if change.shift is not None:
            total = total.shifted(weight * change.shift)
    read, given = ([c for c in changes if getattr(c, n) is not None] for n in ("inputs", "outputs"))
    if read and given:
        raise InputError(
            "A sum adds up what adapters do to the same layer, and one that scales what the layer "
            "reads and one that scales what it gives have no sum. Received: both. Sum adapters of "
            "one method."
        )
    parts: dict[str, Any] = {}
    for name in ("inputs", "outputs"):
        own = [(getattr(c, name), w) for c, w in zip(changes, weights, strict=True)]
        added = [w * (value - 1.0) for value, w in own if value is not None]
        parts[name] = 1.0 + sum(added) if added else None
    return replace(total, **parts)


def _times(known: np.ndarray | None, factors: np.ndarray) -> np.ndarray:
    return factors if known is None else known * factors
