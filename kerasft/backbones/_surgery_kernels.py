"""The only file that takes the kernel out of a projection of Keras, and puts one back."""

from functools import partial
from typing import Any

# What a Dense does to save itself asks for its kernel; any layer's own way saves what is there.
_FILED = ("save_own_variables", "load_own_variables")


def take_kernel(layer: Any) -> Any:
    """Take the kernel out of a built `Dense` or `EinsumDense`, and give it; it has none then.

    Nothing of the layer holds it any more, so its memory is free once the caller lets it go.
    (`del` of Keras does the same, but collects garbage each time, which takes seconds in all.)
    """
    kernel = layer._kernel
    layer._untrack_variable(kernel)
    layer._delete_tracking("_kernel")
    layer._kernel = None
    import keras

    for name in _FILED:
        setattr(layer, name, partial(getattr(keras.layers.Layer, name), layer))
    return kernel


def put_kernel(layer: Any, values: Any, path: str) -> None:
    """Give a layer that has none a kernel of these values, first of its weights, at its old path.

    Args:
        layer: a layer from which `take_kernel` has taken it.
        values: an array in the kernel's shape.
        path: the path that the kernel had.
    """
    for name in _FILED:
        delattr(layer, name)
    tracker = layer._tracker
    tracker.unlock()
    try:
        layer._kernel = layer.add_weight(
            name="kernel", shape=values.shape, initializer=lambda shape, dtype=None: values
        )
        layer._kernel._path = path
        held = layer._trainable_variables
        others = [v for v in held if v is not layer._kernel]
        held[:] = [layer._kernel, *others]
    finally:
        tracker.lock()
