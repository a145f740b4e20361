"""Numbers in 8 bits lie within half a step of what they were."""

import numpy as np
import pytest

from kerasft._core.int8 import to_int8

RANDOM = np.random.default_rng(3)


def off(values, decoded, scales):
    """The largest error, in steps; half a step and what float32 rounds is what there may be."""
    return (np.abs(values - decoded) / scales).max()


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (2,), (0, 1, 2)])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_no_number_is_off_by_more_than_half_a_step(axes, scale):
    values = (scale * RANDOM.standard_normal((6, 5, 40))).astype(np.float32)
    codes, scales = to_int8(values, axes)
    assert (codes.dtype, scales.dtype) == ("int8", "float32")
    assert scales.shape == tuple(1 if i in axes else n for i, n in enumerate(values.shape))
    assert 0.25 < off(values, codes * scales, scales) < 0.5 + 1e-4
    # A scale that is wrong, or none, would be found.
    assert off(values, codes * scales * 1.1, scales) > 1
    assert off(values, codes, scales) > 1


def test_the_largest_of_a_channel_is_exact_and_signs_are_alike():
    values = np.array([[1.0, -300.0, 0.0], [-1.0, 150.0, 0.0], [0.25, 300.0, 0.0]], np.float32)
    codes, scales = to_int8(values, (0,))
    assert codes.tolist() == [[127, -127, 0], [-127, 64, 0], [32, 127, 0]]
    np.testing.assert_array_equal(to_int8(-values, (0,))[0], -codes)
    np.testing.assert_allclose(127 * scales[0, :2], [1, 300], rtol=1e-6)
    assert np.isfinite(scales).all() and scales.min() > 0, "a channel of zeros has a scale too"
