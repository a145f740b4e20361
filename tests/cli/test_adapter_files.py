"""Adapter files on the command line: what comes out of them, and what is refused."""

import json

import pytest
import tensorflow as tf
from small_files import written

from kerasft.methods import adapter_weights, set_adapter_weights
from kerasft.tasks import TextClassification
from kerasft.testing import _rig

TASK = TextClassification(labels=("ham", "spam"), max_length=16)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A run without an adapter, two adapter files on its base, and a run that holds one of them."""
    place = tmp_path_factory.mktemp("adapters")
    _rig.pipeline("bert", "full", TASK).save(place / "base")
    for name, method in (("one", "lora"), ("two", "ia3"), ("soft", "prompt-tuning")):
        pipe = _rig.pipeline("bert", method, TASK)
        own = {n: v + 0.1 for n, v in adapter_weights(pipe.backbone).items()}
        set_adapter_weights(pipe.backbone, own, "numbers")
        pipe.save_adapter(place / f"{name}.safetensors")
        pipe.save(place / f"run-{name}")
    other = _rig.pipeline("bert", "lora", TASK, seed=5)
    other.save_adapter(place / "other.safetensors")
    whole = (place / "one.safetensors").read_bytes()
    (place / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (place / "foreign.safetensors").write_bytes((place / "base/model.safetensors").read_bytes())
    return place


def test_predict_and_export_with_adapters(kerasft, places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = written(tmp_path / "new.csv", [{"text": "free prize"}, {"text": "good film"}])
    alone = kerasft("predict", places / "run-one", data)
    for adapter in ("one.safetensors", "run-one"):
        said = kerasft("predict", places / "base", data, "--adapter", places / adapter)
        assert (said.code, said.out) == (0, alone.out)
    assert alone.out != kerasft("predict", places / "base", data).out
    names = f"{places}/one.safetensors,two={places}/run-two"
    said = kerasft("export", places / "base", "served", "--adapters", names)
    assert (said.code, said.out) == (0, "served/1\n"), said.err
    serve = tf.saved_model.load("served/1").signatures["serving_default"]
    got = serve(text=tf.constant(["free prize"] * 2), adapter=tf.constant(["one", "two"]))
    first = json.loads(alone.out.splitlines()[0])["probabilities"]
    assert got["probabilities"][0].numpy() == pytest.approx(first, abs=1e-5)
    assert got["probabilities"][1].numpy() != pytest.approx(first, abs=1e-3)


@pytest.mark.parametrize(
    "adapter, message",
    [
        ("other.safetensors", "other weights of the same shape"),
        ("cut.safetensors", "not a whole safetensors file"),
        ("foreign.safetensors", "no adapter file of this release"),
        ("nowhere.safetensors", "There is no file"),
        ("soft.safetensors", "function of one row"),
        ("base", "has no adapter"),
    ],
)
def test_what_is_no_adapter_of_the_base_is_refused(refuses, places, adapter, message):
    assert message in refuses("export", places / "base", "served", "--adapters", places / adapter)


def test_one_adapter_alone_may_be_any(kerasft, places, tmp_path):
    data = written(tmp_path / "new.csv", [{"text": "free prize"}])
    said = kerasft("predict", places / "base", data, "--adapter", places / "soft.safetensors")
    assert (said.code, said.out) == (0, kerasft("predict", places / "run-soft", data).out)


def test_predict_refuses_them_too(refuses, places, tmp_path):
    data = written(tmp_path / "new.csv", [{"text": "free prize"}])
    said = refuses("predict", places / "base", data, "--adapter", places / "other.safetensors")
    assert "other.safetensors was trained on other weights" in said
