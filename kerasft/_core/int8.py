"""Numbers in 8 bits: codes of -127 to 127, and the scales that they stand for."""

import numpy as np


def to_int8(values: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The nearest codes, with one scale for all that lies along some axes.

        code = round(value / scale),  scale = max |value| / 127,  |value - code scale| <= scale / 2

    Args:
        values: float array.
        axes: the axes along which a scale is shared.

    Returns:
        Codes, int8 in the shape of the values, and scales, float32, of size 1 along `axes`.

    Example:
        >>> to_int8(np.array([[1.0, -20.0], [2.0, 10.0]]), axes=(0,))[0]
        array([[  64, -127],
               [ 127,   64]], dtype=int8)
    """
    most = np.abs(values).max(axis=axes, keepdims=True)
    scales = (np.maximum(most, 1e-30) / np.float32(127)).astype(np.float32)
    return np.rint(values / scales).astype(np.int8), scales
