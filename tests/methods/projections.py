"""Projections as inside a block, and methods with weights that do something."""

import keras
import numpy as np

from kerasft.testing import tiny
from kerasft.testing._rig import answers


def dense(inputs, outputs, bias=True, **options):
    """A projection with random weights, as inside a block."""
    layer = keras.layers.Dense(outputs, use_bias=bias, **options)
    layer.build((None, None, inputs))
    random = np.random.default_rng(7)
    for variable in layer.weights:
        variable.assign(random.standard_normal(variable.shape).astype(np.float32))
    return layer


def numbers(*variables):
    """Variables as arrays."""
    return [np.array(variable) for variable in variables]


def random_like(*shape, seed=0):
    """Standard normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def moved(backbone, scale=0.3):
    """Add random numbers to what is trained: a fresh method shows nothing."""
    random = np.random.default_rng(5)
    for variable in backbone.trainable_variables:
        noise = random.standard_normal(variable.shape)
        variable.assign_add((scale * noise).astype(np.float32))
    return backbone


def said(backbone):
    """The vectors that a backbone gives for a few random rows."""
    out = answers(backbone, tiny.features(backbone))
    return out.get("sequence_output", out.get("output"))
