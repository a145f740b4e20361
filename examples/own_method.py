"""A method of one's own: scale and shift of what the projections give.

    python examples/own_method.py

The class is all that it takes: `register` makes it known, its layer at a site brings names of
weights, adapter file, reload and merge with it, and `kerasft.testing` holds it to the contract of
every method.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from kerasft.backbones import sites
from kerasft.methods import ProjectionLayer, put, registry
from kerasft.testing import check_method


@registry.register
@dataclass(frozen=True)
class ScaleShift:
    """SSF: what a projection gives is scaled and shifted, and only these vectors learn.

        y = gain * (x W + b) + shift,   gain = 1 and shift = 0 at the start

    A projection without a bias, as in Llama, gets the gain alone: nothing to merge a shift into.

    Args:
        targets: the projections, of `query`, `key`, `value`, `output`, `gate`, `up`, `down`.
        blocks: numbers or names of the blocks; all where empty.

    Reference: Lian et al. 2022, "Scaling & Shifting Your Features",
    https://arxiv.org/abs/2210.08823
    """

    name: ClassVar[str] = "scale-shift"
    learning_rate: ClassVar[float] = 1e-3
    targets: tuple[str, ...] = ("query", "value", "up", "down")
    blocks: tuple[int | str, ...] = ()

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put the vectors at the projections."""
        chosen = sites(backbone).targets(self.targets, self.blocks)
        return put(backbone, chosen, ScaleShiftLayer, lambda s: ScaleShiftLayer(s.layer, s.path))


class ScaleShiftLayer(ProjectionLayer):
    """A projection with its two vectors, in the shape of its bias."""

    def __init__(self, base: Any, site: str):
        super().__init__(base, site, "ssf")
        size = (self.shape.outputs,)
        self.gain = self.add_weight(name="gain", shape=size, initializer="ones")
        self.shift = None
        if self.biased:
            self.shift = self.add_weight(name="shift", shape=size, initializer="zeros")
        self.built = True

    def call(self, inputs):
        """Project, scale, shift."""
        y = self.base(inputs)
        size = y.shape[2:]  # [heads, size] or [width]
        y = y * keras.ops.reshape(keras.ops.cast(self.gain, y.dtype), size)
        if self.shift is not None:
            y += keras.ops.reshape(keras.ops.cast(self.shift, y.dtype), size)
        return self.activation(y)

    def change(self, inner):
        """The same as numbers, given the change of what is wrapped: the merge follows from it, and
        that many adapters can share one SavedModel."""
        scaled = inner.scaled(np.asarray(self.gain, float))
        return scaled if self.shift is None else scaled.shifted(np.asarray(self.shift, float))


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2  # for the part about replicas
    tf.config.set_logical_device_configuration(cpu, two)
    for family in ("bert", "llama"):
        for part, result in check_method(ScaleShift(), family).items():
            print(f"{family:5} {part:12} {result}")
