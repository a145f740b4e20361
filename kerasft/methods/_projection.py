"""A `Dense` or `EinsumDense` seen as one matrix [inputs, outputs]."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from kerasft._core.errors import InputError


@dataclass(frozen=True)
class Projection:
    """Letters and sizes of a projection's axes.

    Args:
        equation: (letters of x, letters of the kernel, letters of y), e.g. ("abc", "cde", "abde").
        sizes: size of each letter of the kernel.
    """

    equation: tuple[str, str, str]
    sizes: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, layer: Any) -> "Projection":
        """Read a built `Dense` or `EinsumDense`; `InputError` for anything else."""
        shape = tuple(layer.kernel.shape)
        equation = getattr(layer, "equation", None)
        if equation is None:
            x, kernel, y = "abi", "io", "abo"
        else:
            left, y = equation.replace(" ", "").split("->")
            x, kernel = left.split(",")
        if "." in x or len(kernel) != len(shape):
            raise InputError(
                f"A low-rank update needs a projection with plain axes. Received: {layer.name}, "
                f"equation {equation!r}."
            )
        return cls((x, kernel, y), tuple(zip(kernel, shape, strict=True)))

    @property
    def contracted(self) -> str:
        """Letters that x and the kernel share and y lacks, in x's order."""
        x, kernel, y = self.equation
        return "".join(c for c in x if c in kernel and c not in y)

    @property
    def produced(self) -> str:
        """Letters of the kernel that y holds, in y's order."""
        _, kernel, y = self.equation
        return "".join(c for c in y if c in kernel)

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return prod(self.dims(self.contracted))

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return prod(self.dims(self.produced))

    @property
    def produced_sizes(self) -> tuple[int, ...]:
        """Sizes of `produced`: heads and their size, of a query, a key or a value."""
        return self.dims(self.produced)

    def low_rank(self, x: Any, a: Any, b: Any) -> Any:
        """x A B for x in the layer's own shape, A [inputs, rank], B [rank, outputs]."""
        from keras import ops

        letters, _, y = self.equation
        rank = next(c for c in "zyxwvu" if c not in letters + y)
        lead = "".join(c for c in letters if c not in self.contracted)
        a = ops.reshape(a, (*self.dims(self.contracted), a.shape[-1]))
        b = ops.reshape(b, (b.shape[0], *self.dims(self.produced)))
        inner = ops.einsum(f"{letters},{self.contracted}{rank}->{lead}{rank}", x, a)
        return ops.einsum(f"{lead}{rank},{rank}{self.produced}->{y}", inner, b)

    def beside_x(self, vector: Any) -> Any:
        """A vector [inputs] in a shape that multiplies x."""
        return self._spread(vector, self.equation[0], self.contracted)

    def beside_y(self, vector: Any) -> Any:
        """A vector [outputs] in a shape that multiplies y."""
        return self._spread(vector, self.equation[2], self.produced)

    def lengths(self, kernel: Any, a: Any, b: Any, scale: float) -> Any:
        """Lengths [outputs] of the columns of a kernel + scale A B as a matrix, float32, not 0."""
        from keras import ops

        contracted, produced = self.contracted, self.produced
        rank = next(c for c in "zyxwvu" if c not in contracted + produced)
        a = ops.reshape(ops.cast(a, "float32"), (*self.dims(contracted), a.shape[-1]))
        b = ops.reshape(ops.cast(b, "float32"), (b.shape[0], *self.dims(produced)))
        letters = contracted + produced
        update = ops.einsum(f"{contracted}{rank},{rank}{produced}->{letters}", a, b)
        order = [self.equation[1].index(c) for c in letters]
        whole = ops.transpose(ops.cast(kernel, "float32"), order) + scale * update
        matrix = ops.reshape(whole, (self.inputs, self.outputs))
        return ops.sqrt(ops.maximum(ops.sum(ops.square(matrix), axis=0), 1e-24))

    def as_kernel(self, matrix: np.ndarray) -> np.ndarray:
        """A matrix [inputs, outputs] in the shape of the kernel."""
        order = self.contracted + self.produced
        _, kernel, _ = self.equation
        full = matrix.reshape((*self.dims(self.contracted), *self.dims(self.produced)))
        return full.transpose([order.index(c) for c in kernel])

    def as_matrix(self, kernel: np.ndarray) -> np.ndarray:
        """A kernel as the matrix [inputs, outputs]; the inverse of `as_kernel`."""
        order = self.contracted + self.produced
        _, letters, _ = self.equation
        return kernel.transpose([letters.index(c) for c in order]).reshape(self.inputs, -1)

    def _spread(self, vector: Any, letters: str, own: str) -> Any:
        from keras import ops

        sizes = dict(self.sizes)
        return ops.reshape(vector, [sizes[c] if c in own else 1 for c in letters])

    def dims(self, letters: str) -> tuple[int, ...]:
        """Sizes of axes by their letters."""
        sizes = dict(self.sizes)
        return tuple(sizes[c] for c in letters)
