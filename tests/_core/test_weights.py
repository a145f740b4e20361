"""Weights by path in safetensors files, checked name by name; seeds; versions."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasft._core import stack, weights
from kerasft._core.errors import InputError
from kerasft._core.seeds import set_seed


class Named:
    def __init__(self, path):
        self.path = path


def model():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, name="first")(inputs)
    x = keras.layers.Dropout(0.5, name="drop")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="second")(x))


def test_paths_that_come_twice_are_counted():
    names = list(weights.named([Named("a"), Named("b"), Named("a"), Named("a")]))
    assert names == ["a", "b", "a#2", "a#3"]


def test_a_file_keeps_arrays_and_notes(tmp_path):
    arrays = {
        "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "state": np.array([1, 2], np.uint32),
        "none": np.zeros((0, 3), np.float16),
    }
    path = tmp_path / "a.safetensors"
    path.write_bytes(weights.to_bytes(arrays, {"n": [1, None], "text": "很好"}))
    got, notes = weights.read(str(path))
    assert notes == {"n": [1, None], "text": "很好"}
    assert set(got) == set(arrays)
    for name, value in arrays.items():
        assert got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("keep", [0, 7, 40, -1])
def test_a_file_that_is_cut_short(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    path.write_bytes(weights.to_bytes({"a": np.ones(50, np.float32)})[:keep])
    with pytest.raises(InputError, match="is not a whole safetensors file") as caught:
        weights.read(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        weights.read(str(tmp_path / "a.safetensors"))


def test_assign_sets_every_weight_and_no_random_state():
    one, two = model(), model()
    state = weights.state_of(one)
    assert sorted(state) == ["first/bias", "first/kernel", "second/bias", "second/kernel"]
    weights.assign(two, state, "the file")
    for name, value in weights.state_of(two).items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_assign_refuses_what_does_not_fit(change):
    target = model()
    state, before = weights.state_of(model()), weights.state_of(target)
    if change == "missing":
        del state["second/bias"]
    elif change == "unknown":
        state["second/bias2"] = state["second/bias"]
    else:
        state["second/bias"] = np.zeros(3, np.float32)
    with pytest.raises(InputError, match="a.safetensors does not fit the model: 1 weights .*bias"):
        weights.assign(target, state, "a.safetensors")
    for name, value in weights.state_of(target).items():
        np.testing.assert_array_equal(value, before[name])


def test_one_seed_for_everything():
    found = []
    for seed in (1, 1, 2):
        set_seed(seed)
        drawn = keras.random.normal((3,)).numpy()
        found.append((random.random(), np.random.rand(), *drawn))
    assert found[0] == found[1] != found[2]


def test_versions():
    found = stack.versions()
    assert found["keras"] == keras.__version__
    assert {"kerasft", "tensorflow", "keras-hub", "tensorflow-text", "numpy"} <= set(found)


def test_another_backend_is_refused():
    code = (
        "import sys, types; k = types.ModuleType('keras');"
        "k.config = types.SimpleNamespace(backend=lambda: 'jax'); sys.modules['keras'] = k;"
        "from kerasft._core import stack\n"
        "try: stack.ensure()\n"
        "except ValueError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Received: KERAS_BACKEND='jax'" in done.stdout


def test_a_backend_is_chosen_where_the_user_chose_none():
    code = (
        "import os; os.environ.pop('KERAS_BACKEND', None); from kerasft._core import stack;"
        "stack.ensure(); print(os.environ['KERAS_BACKEND'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "tensorflow"
