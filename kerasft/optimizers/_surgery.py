"""The private names of Keras' optimizers are touched here only."""

from collections.abc import Callable
from typing import Any


def update_together(optimizer: Any, update: Callable[[list[Any], list[Any]], bool]) -> None:
    """Have a built optimizer hand its gradients to `update`, and go its own way where that says no.

    What Keras does before it (gradients that are None, loss scale) and after it (constraints, the
    count of updates) stays.
    """
    alone = optimizer._backend_apply_gradients

    def apply(gradients: list[Any], variables: list[Any]) -> None:
        if not update(gradients, variables):
            alone(gradients, variables)

    optimizer._backend_apply_gradients = apply


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
