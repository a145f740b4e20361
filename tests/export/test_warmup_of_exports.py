"""Warm-up requests of real exports: TensorFlow runs every one of them."""

import pytest
import tensorflow as tf
from asking import load

from kerasft.export.deploy.warmup import read_warmup
from kerasft.export.examples import examples


@pytest.mark.parametrize(
    "name",
    [
        "a pair",
        "a score, lora",
        pytest.param("asked labels", marks=pytest.mark.slow),
    ],
)
def test_every_request_is_answered(kind, exported, name):
    served, asked = load(exported(name)).signatures, read_warmup(exported(name))
    assert {signature for signature, *_ in asked} == set(served)
    for signature, method, inputs in asked:
        if method != "predict":
            columns = {n: [row[n] for row in inputs] for n in inputs[0]}
            inputs = {"inputs": examples(columns)}
        # Fails if an input has another name, dtype or rank than the graph's.
        answers = served[signature](**{n: tf.constant(v) for n, v in inputs.items()})
        assert answers and all(len(value) for value in answers.values())
