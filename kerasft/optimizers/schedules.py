"""Learning-rate schedules: linear warm-up, then decay."""

import math
from typing import Any

from kerasft._core import stack
from kerasft._core.checks import in_range, one_of, whole

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
from keras import ops  # noqa: E402

SCHEDULES = ("linear", "cosine", "constant")


@keras.saving.register_keras_serializable("kerasft")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then decay to 0.

        t < w:  peak * t / w
        else, with u = (t - w) / (steps - w):
                linear peak * (1 - u),  cosine peak * (1 + cos(pi u)) / 2,  constant peak

    Args:
        peak: the highest learning rate.
        steps: the number of updates in all.
        warmup: w, the number of updates of warm-up.
        shape: `linear`, `cosine` or `constant`.

    Example:
        >>> float(WarmupDecay(1e-3, steps=100, warmup=10)(5))
        0.0005
    """

    def __init__(self, peak: float, steps: int, warmup: int = 0, shape: str = "linear"):
        self.peak = in_range("peak", float(peak), 0, above=True)
        self.steps, self.warmup = whole("steps", int(steps), 1), whole("warmup", int(warmup))
        self.shape = one_of("shape", shape, SCHEDULES)

    def __call__(self, step):
        """The rate at a step, from 0."""
        step = ops.cast(step, "float32")
        rising = step / max(self.warmup, 1)
        part = ops.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        falling = {
            "linear": 1.0 - part,
            "cosine": (1.0 + ops.cos(math.pi * part)) / 2,
            "constant": ops.ones_like(part),
        }[self.shape]
        return self.peak * ops.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup": self.warmup,
            "shape": self.shape,
        }
