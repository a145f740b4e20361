"""Warm-up requests beside real exports: TensorFlow runs every one of them."""

import numpy as np
import pytest
from asking import load

from kerasft.export.deploy.signatures import read_signatures
from kerasft.export.deploy.warmup import read_warmup, write_warmup


@pytest.mark.parametrize("name", ["a pair", "asked labels"])
def test_every_request_is_answered(kind, exported, name, tmp_path):
    import tensorflow as tf

    folder = str(tmp_path / "1")
    tf.io.gfile.mkdir(folder)
    tf.io.gfile.copy(f"{exported(name)}/saved_model.pb", f"{folder}/saved_model.pb")
    served = load(exported(name)).signatures
    found = read_signatures(folder)
    assert set(found) == set(served) and {s.method for s in found.values()} == {"predict"}
    asked = [(n, "predict", {i: sample(v) for i, v in s.inputs.items()}) for n, s in found.items()]
    write_warmup(folder, asked)
    for signature, _, inputs in read_warmup(folder):
        # Fails if an input has another name, dtype or rank than the graph's.
        answers = served[signature](**{n: tf.constant(v) for n, v in inputs.items()})
        assert all(len(value) == 2 for value in answers.values())


def sample(wanted):
    """Two rows that fit an input."""
    fill = {"string": "good", "bool": True}.get(wanted.dtype, 1)
    shape = [2, *[size or 3 for size in wanted.shape[1:]]]
    return np.full(shape, fill, object if wanted.dtype == "string" else wanted.dtype)
