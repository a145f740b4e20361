"""Keep one op out of the graph that only XLA knows."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from keras import ops

_LOCK = threading.RLock()


@contextmanager
def plain_ops() -> Iterator[None]:
    """Let KerasHub's cached attention write its cache with plain TensorFlow ops.

    On TensorFlow Keras' `slice_update` is `XlaDynamicUpdateSlice`, which TF Serving cannot run.
    Only the thread that is inside sees another function, and it only while a graph is traced.
    """
    with _LOCK:
        theirs, owner = ops.slice_update, threading.get_ident()

        def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Any:
            if threading.get_ident() != owner:
                return theirs(inputs, start_indices, updates)
            return write(inputs, start_indices[1], updates)

        ops.slice_update = slice_update
        try:
            yield
        finally:
            ops.slice_update = theirs


def write(inputs: Any, index: Any, updates: Any) -> Any:
    """`inputs` [rows, length, ...] with `updates` [rows, n, ...] in the places from `index` on."""
    after = index + tf.shape(updates)[1]
    parts = [inputs[:, :index], tf.cast(updates, inputs.dtype), inputs[:, after:]]
    written = tf.concat(parts, axis=1)
    written.set_shape(inputs.shape)
    return written
