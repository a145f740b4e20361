"""Methods at projections in encoder-decoders: silent when fresh, in both halves, merged."""

import numpy as np
import pytest
from projections import moved

from kerasft.methods import IA3, AdaLoRA, Adapters, Compacter, VeRA, carried, merge, unmergeable
from kerasft.testing import tiny
from kerasft.testing._rig import answers

METHODS = (
    IA3(targets=("key", "value", "cross_key", "cross_value", "down")),
    AdaLoRA(rank=2, initial_rank=4, targets=("query", "value", "cross_query", "up")),
    VeRA(rank=4, targets=("query", "value", "cross_query", "up")),
    Adapters(size=4),
    Adapters("parallel", size=4),
    Compacter(size=8),
)


@pytest.mark.parametrize("family", ["bart", pytest.param("t5", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name}-{getattr(m, 'placement', '')}")
def test_on_an_encoder_decoder(method, family):
    backbone = tiny.backbone(family)
    # T5 does not scale its attention: with larger weights a kernel's last bit moves 2e-5 of this.
    tiny.randomize(backbone, scale=0.15)
    x = tiny.features(backbone)
    before = answers(backbone, x)
    method.apply(backbone)
    assert {site.block for site in carried(backbone)} == {0, 1, 2, 3}, "two and two blocks"
    for name, value in answers(backbone, x).items():
        np.testing.assert_array_equal(value, before[name])
    after = answers(moved(backbone), x)
    for name, value in after.items():  # what the encoder and what the decoder gives
        assert np.isfinite(value).all() and np.abs(value - before[name]).max() > 1e-2
    if not unmergeable(backbone):  # to forget the change would be to fall back to `before`
        merge(backbone)
        for name, value in answers(backbone, x).items():
            np.testing.assert_allclose(value, after[name], atol=1e-5)
