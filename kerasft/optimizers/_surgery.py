"""The private names of Keras' optimizers are touched here only."""

from collections.abc import Callable
from typing import Any


def at_once(optimizer: type) -> type:
    """Have a class of optimizers move all variables by its `update_all(gradients, variables)`.

    Where that says no, it goes the way of Keras. What Keras does before (gradients that are None,
    loss scale) and after it (constraints, the count of updates) stays.
    """
    one_by_one = optimizer._backend_apply_gradients

    def apply(self: Any, gradients: list[Any], variables: list[Any]) -> None:
        if not self.update_all(gradients, variables):
            one_by_one(self, gradients, variables)

    optimizer._backend_apply_gradients = apply
    return optimizer


def moments_of(optimizer: Any) -> list[tuple[Any, Any]]:
    """First and second moment of each variable of a built Adam, in the order of the variables."""
    return list(zip(optimizer._momentums, optimizer._velocities, strict=True))


def summed(optimizer: Any, gradients: list[Any], variables: list[Any]) -> list[Any]:
    """The gradients as the optimizer sums them over the replicas, which it may be kept from."""
    return [g for g, _ in optimizer._all_reduce_sum_gradients(list(zip(gradients, variables)))]


def across_replicas(update: Callable[..., None], *args: Any) -> None:
    """Call `update(strategy, *args)` where variables may be updated, as Keras' optimizers do."""
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    tf.__internal__.distribute.interim.maybe_merge_call(update, strategy, *args)
