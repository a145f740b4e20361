"""AdamW as it is used for fine-tuning."""

from collections.abc import Mapping
from typing import Any

from kerasft.optimizers.paced import EVEN, Pace, PacedAdamW


def adamw(
    learning_rate: Any,
    model: Any,
    *,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
    paces: Mapping[str, Pace] | None = None,
    steps_per_epoch: int | None = None,
) -> Any:
    """AdamW without decay on biases and norms, with the gradient's global norm clipped.

        w <- w - rate * (m / (sqrt(v) + eps) + decay * w),   decay = 0 on biases and norms

    Args:
        learning_rate: a number or a schedule.
        model: the model that is trained. (What decays is told by the weights themselves.)
        weight_decay: decay per unit of learning rate.
        clip_norm: the largest global norm of the gradients; None to leave them. Those of weights
            that stand still as yet are part of it.
        paces: path of a trained weight -> its own pace (see `PacedAdamW`).
        steps_per_epoch: updates in an epoch, where a pace has an epoch.

    Returns:
        `PacedAdamW`, a keras.optimizers.AdamW, to be given to `compile`. Keras' own train step
        hands it the gradient of an embedding as one row a position, which Keras 3.15 squares before
        it adds the rows of a repeated token, and clips on each replica before it sums;
        `kerasft.train` adds first in both. LoRA and a frozen embedding on one device are not
        touched by it.

    Example:
        >>> model.compile(optimizer=adamw(2e-5, model), loss=task.loss())

    Reference: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
    """
    options = {"weight_decay": weight_decay, "epsilon": 1e-8, "global_clipnorm": clip_norm}
    uneven = {path: pace for path, pace in (paces or {}).items() if pace != EVEN}
    return PacedAdamW(learning_rate, uneven, steps_per_epoch, **options)
