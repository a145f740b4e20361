"""A projection whose kernel is held in 8 or in 4 bits."""

from typing import Any

import numpy as np

from kerasft._core.errors import InputError
from kerasft._core.int8 import to_int8
from kerasft.backbones._surgery_kernels import put_kernel, take_kernel
from kerasft.methods._projection import Projection
from kerasft.methods._site_layers import ProjectionLayer
from kerasft.methods._trainable import hold

import keras  # isort: skip  (kerasft.backbones has chosen the backend)

# NormalFloat: the 16 values of QLoRA's appendix E, quantiles of a normal distribution with a zero.
NF4 = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    np.float32,
)
_LEAST, _MOST = 16, 64


class Quantised(ProjectionLayer):
    """A projection with its kernel as codes and scales, which are decoded where they are needed.

        W[i, j] ~ scale[g(i), j] * level[code[i, j]]

    In 8 bits the levels are -127 to 127 and a column has one scale; in 4 bits they are those of
    NormalFloat, two codes to a byte, and each group g of at most 64 inputs has one scale a column.
    Gradients reach the inputs; the kernel itself is gone until `unwrap` puts the decoded one back.

    Args:
        base: a projection as the backbone has it, whose kernel is taken out.
        site: the site's path.
        bits: 8 or 4.
    """

    def __init__(self, base: Any, site: str, bits: int):
        super().__init__(base, site, "quantised")
        groups = 1 if bits == 8 else groups_of(self.shape, site)
        self.bits, kernel = bits, take_kernel(base)
        self.replaces = (kernel.path,)
        matrix = self.shape.as_matrix(np.asarray(kernel).astype(np.float32))
        codes, scales = to_int8(matrix, (0,)) if bits == 8 else _four(matrix, groups)
        self.codes = self._weight("kernel_codes", codes)
        self.scales = self._weight("kernel_scales", scales)
        self.built = True

    def _weight(self, name: str, values: np.ndarray) -> Any:
        made = self.add_weight(
            name=name,
            shape=values.shape,
            dtype=str(values.dtype),
            initializer=lambda shape, dtype=None: values,
            trainable=False,
            autocast=False,
        )
        return hold(made)

    @property
    def own(self) -> list[Any]:
        """Nothing: codes and scales are the base of an adapter, and not part of it."""
        return []

    def call(self, inputs):
        """Project with the decoded kernel, which is decoded anew for the gradient."""
        ops, dtype = keras.ops, self.compute_dtype
        x, _, y = self.shape.equation
        order = self.shape.contracted + self.shape.produced
        dims = self.shape.dims(order)

        @ops.custom_gradient
        def projected(seen, codes, scales):
            def kernel():
                return ops.cast(ops.reshape(decoded(codes, scales, self.bits), dims), dtype)

            def gradient(upstream):
                return ops.einsum(f"{y},{order}->{x}", upstream, kernel()), None, None

            return ops.einsum(f"{x},{order}->{y}", seen, kernel()), gradient

        held = [ops.convert_to_tensor(part) for part in (self.codes, self.scales)]
        out = projected(ops.cast(inputs, dtype), *held)
        return self.activation(out if self.base.bias is None else out + self.base.bias)

    def merged(self):
        """The decoded kernel, and the bias, float64."""
        matrix = decoded(np.asarray(self.codes), np.asarray(self.scales), self.bits)
        bias = self.base.bias
        kernel = self.shape.as_kernel(np.asarray(matrix, np.float64))
        return kernel, None if bias is None else np.asarray(bias, np.float64)

    def change(self, inner):
        """None: the kernel itself is another one, which stands in `merged`."""
        return None

    def wrap(self):
        """Take the activation over, and a kernel that `unwrap` has put back out again."""
        super().wrap()
        if self.built:
            take_kernel(self.base)

    def unwrap(self):
        """Give back the projection, with the decoded kernel."""
        put_kernel(self.base, self.merged()[0].astype(np.float32), self.replaces[0])
        return super().unwrap()


def groups_of(shape: Projection, site: str) -> int:
    """The number of groups of inputs that share a scale in 4 bits; `InputError` if there is none.

    The groups are equal, of at most 64 inputs and, but for narrow layers, at least 16.
    """
    inputs = shape.inputs
    least = -(-inputs // _MOST)
    for groups in range(least, max(inputs // _LEAST, least) + 1):
        if inputs % 2 == 0 and inputs % groups == 0:
            return groups
    raise InputError(
        f"4 bits need an even number of inputs that parts into equal groups of {_LEAST} to "
        f"{_MOST}. Received: {site} with {inputs} inputs. Use bits: 8."
    )


def _four(matrix: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes uint8 [inputs / 2, outputs], of two inputs each, and scales [groups, outputs]."""
    inputs, outputs = matrix.shape
    parts = matrix.reshape(groups, -1, outputs)
    scales = np.maximum(np.abs(parts).max(axis=1), 1e-30).astype(np.float32)
    # The nearest level, from the borders half way between them.
    borders = (NF4[1:] + NF4[:-1]) / 2
    codes = np.searchsorted(borders, (parts / scales[:, None]).reshape(inputs, outputs))
    low, high = codes.astype(np.uint8).reshape(2, inputs // 2, outputs)
    return low | high << 4, scales


def decoded(codes: Any, scales: Any, bits: int) -> Any:
    """The kernel as a matrix [inputs, outputs], float32."""
    ops, (groups, outputs) = keras.ops, scales.shape
    if bits == 8:
        levels = ops.cast(codes, "float32")
    else:
        low, high = ops.bitwise_and(codes, 15), ops.right_shift(codes, 4)
        both = ops.cast(ops.concatenate([low, high], axis=0), "int32")
        levels = ops.take(ops.convert_to_tensor(NF4), both, axis=0)
    parts = ops.reshape(levels, (groups, -1, outputs)) * ops.expand_dims(scales, 1)
    return ops.reshape(parts, (-1, outputs))
