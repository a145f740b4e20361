"""Pooling and the head, against NumPy; every family's own head is in the family contract."""

import keras
import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES
from kerasft.heads import POOLINGS, ClassificationHead, Pool
from kerasft.testing import tiny

ROWS = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], np.int32)


def expected(pooling, mask):
    pick = {"cls": lambda r: r[0], "last": lambda r: r[-1], "mean": np.mean, "max": np.max}
    axis = {"mean": {"axis": 0}, "max": {"axis": 0}}.get(pooling, {})
    real = [row[keep.astype(bool)] for row, keep in zip(ROWS, mask, strict=True)]
    return np.stack([pick[pooling](row, **axis) for row in real])


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("masked", [True, False])
def test_pooling(pooling, masked):
    mask = MASK if masked else np.ones_like(MASK)
    pool = Pool(pooling)
    got = pool(ROWS, MASK if masked else None)
    np.testing.assert_allclose(got, expected(pooling, mask), rtol=1e-6)
    assert pool.compute_output_shape(ROWS.shape) == got.shape
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pool))
    assert (again(ROWS, mask) == pool(ROWS, mask)).numpy().all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_stands_on_padding_does_not_matter(pooling):
    spoiled = np.where(MASK[:, :, None] > 0, ROWS, 1e4).astype(np.float32)
    assert (Pool(pooling)(spoiled, MASK) == Pool(pooling)(ROWS, MASK)).numpy().all()


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_a_row_without_a_token_is_finite(pooling):
    assert np.isfinite(Pool(pooling)(ROWS, np.zeros_like(MASK))).all()


def test_pooling_is_in_float32_whatever_comes_in():
    for dtype in ("float16", "bfloat16"):
        many = keras.ops.cast(np.ones((1, 3000, 1), np.float32), dtype)
        assert Pool("mean")(many, np.ones((1, 3000), np.int32)).dtype == "float32"
        assert float(Pool("mean")(many, np.ones((1, 3000), np.int32))[0, 0]) == 1.0


def test_an_unknown_pooling_names_the_known_ones():
    with pytest.raises(InputError, match="must be one of: cls, mean, max, last"):
        Pool("first")
    with pytest.raises(InputError, match="Did you mean 'mean'"):
        ClassificationHead(2, "meen").resolved_pooling(tiny.family("bert"))


def test_own_pooling_of_the_families():
    for family in (f for f in FAMILIES if f.kind != "encoder-decoder"):
        own = "last" if family.kind == "decoder" else "cls"
        head = ClassificationHead(2)
        assert head.resolved_pooling(family) == own
        assert head.is_own(family)
        assert ClassificationHead(2, own).is_own(family)
        assert not ClassificationHead(2, "mean").is_own(family)


def test_dropout_of_the_head_is_used_in_training_only():
    backbone = tiny.backbone("bert")
    x = tiny.features(backbone)
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in x}
    head = ClassificationHead(2, dropout=0.5)
    model = keras.Model(inputs, head.build(tiny.family("bert"), backbone(inputs), inputs))
    assert (model(x).numpy() == model(x).numpy()).all()
    assert (model(x, training=True).numpy() != model(x, training=True).numpy()).any()
