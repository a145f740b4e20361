"""The layer around a backbone and its method."""

import keras
import pytest

from kerasft.backbones import FAMILIES
from kerasft.methods import adapt
from kerasft.testing import tiny

KINDS = ("bert", "gpt2", "gemma", "f_net")
EVERY = [f.name for f in FAMILIES if f.kind != "encoder-decoder"]


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "name", [*KINDS, *(pytest.param(n, marks=pytest.mark.slow) for n in EVERY if n not in KINDS)]
)
def test_the_shapes_that_are_known_are_those_of_a_trace(name, dtype):
    adapted = adapt(tiny.backbone(name, dtype=dtype), "full")
    names = [i.name for i in adapted.backbone.inputs]
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    for logits in (False, True)[: 1 + (tiny.family(name).kind == "decoder")]:
        known = adapted.compute_output_spec(inputs, logits=logits)
        traced = keras.layers.Layer.compute_output_spec(adapted, inputs, logits=logits)
        assert type(known) is type(traced)
        one, other = (
            [(x.shape, x.dtype) for x in keras.tree.flatten(found)] for found in (known, traced)
        )
        assert one == other
