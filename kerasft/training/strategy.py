"""Which devices train: names to tf.distribute strategies."""

import functools
from typing import Any

from kerasft._core.checks import one_of
from kerasft._core.errors import InputError

STRATEGIES = ("auto", "one-device", "mirrored", "tpu", "multi-worker")


def strategy_for(name: str) -> Any:
    """Return the tf.distribute strategy of that name.

    Args:
        name: `auto` (mirrored with two or more GPUs, else one device), `one-device`, `mirrored`,
            `tpu` or `multi-worker`.

    Raises:
        InputError: for another name, or where there is no such device.
    """
    import tensorflow as tf

    one_of("strategy", name, STRATEGIES)
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one-device"
    if name == "one-device":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = gpus or tf.config.list_logical_devices("CPU")
        return _mirrored(tuple(d.name for d in devices))
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver("")
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, tf.errors.OpError) as error:
            raise InputError(f"No TPU was found. Received: strategy='tpu' ({error}).") from None
        return tf.distribute.TPUStrategy(resolver)
    raise InputError(
        "`fit` on several machines is not part of this release. Received: "
        "strategy='multi-worker'. Use auto, one-device or mirrored."
    )


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    """One strategy a process: two of them number their exchanges alike, and TensorFlow mixes up
    those of a second training with those of the first."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(list(devices))


def dtype_for(precision: str) -> str:
    """Return the dtype policy of a precision; `auto` is 16 bits where an accelerator has them."""
    import tensorflow as tf

    if precision != "auto":
        return precision
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16"
    return "mixed_float16" if tf.config.list_logical_devices("GPU") else "float32"
