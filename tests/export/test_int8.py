"""Exports in 8 bits: what is rounded and by how much, a quarter of the size, the same answers as
the model with those weights."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from asking import expected, fields_of, served_form

from kerasft import InputError
from kerasft.backbones import FAMILIES
from kerasft.backbones._surgery import own_weights
from kerasft.export import export_saved_model, int8
from kerasft.export.saved_model import write_saved_model
from kerasft.tasks import TextToText, registry
from kerasft.testing import _rig, tiny

# One export of each task, the first three by default: they cost seconds each.
EXPORTS = {
    "text-classification": "a score, lora",
    "token-classification": "entities",
    "causal-lm": "completions",
    "question-answering": "answers",
    "relation-extraction": "relations",
    "text-similarity": "embeddings",
    "masked-lm": "masks",
    "text-to-text": "translations",
    "zero-shot-classification": "asked labels",
}
DEFAULT = 2
QUICK = ("bert", "gpt2", "llama3")
METHODS = ("full", "lora", "qlora", "prefix-tuning", "p-tuning")


@pytest.fixture
def small(monkeypatch):
    """Tiny models have small matrices."""
    monkeypatch.setattr(int8, "LEAST", 100)


def slow(names, quick):
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


def before_and_after(pipe):
    """A copy that is rounded; by the id of its weights what they were, and what is rounded."""
    copy = pipe.copied()
    before = {id(v): np.array(v) for v in copy.model.variables}
    return copy, before, {id(one.variable): one for one in int8.round_weights(copy)}


def check_rounded(pipe):
    copy, before, rounded = before_and_after(pipe)
    for layer, held in own_weights(copy.model).values():
        for name, (_, variable) in held.items():
            was, now = before[id(variable)], np.asarray(variable)
            one = rounded.get(id(variable))
            if one is None:
                assert was.ndim < 2 or name == "bias" or was.size < 100 or was.dtype.kind != "f"
                np.testing.assert_array_equal(now, was)
                continue
            assert was.ndim > 1 and name != "bias"
            np.testing.assert_array_equal(now, one.codes.astype(np.float32) * one.scales)
            steps = np.abs(was - now) / one.scales
            assert steps.max() <= 0.5 + 1e-4, variable.path
            # Dropping the scale would be found.
            assert not was.any() or (np.abs(was - one.codes) / one.scales).max() > 1
            assert one.scales.size == channels(layer, name, was.shape), variable.path
    assert rounded


def channels(layer, name, shape):
    """Scales that a matrix should have: one an output of a kernel, one a row of a table."""
    if "embedding" in name and name != "reverse_embeddings":
        return shape[0]
    equation = getattr(layer, "equation", None)
    if name != "kernel" or equation is None:
        return shape[-1]
    kernel, outputs = equation.split(",")[1].split("->")
    return int(np.prod([n for c, n in zip(kernel, shape, strict=True) if c in outputs]))


@pytest.mark.parametrize("name", slow([f.name for f in FAMILIES], QUICK))
def test_matrices_of_a_family_are_rounded_by_output_or_row(small, name):
    family = tiny.family(name)
    writes = TextToText(max_length=24) if family.kind == "encoder-decoder" else None
    check_rounded(_rig.pipeline(family, "full", writes))


@pytest.mark.parametrize("method", slow(METHODS, ("lora", "qlora")))
def test_matrices_of_a_method_are_rounded_and_codes_stay(small, method):
    pipe = _rig.pipeline("bert", method)
    check_rounded(pipe)
    if method == "qlora":
        codes = [v for v in pipe.model.variables if v.name == "kernel_codes"]
        rounded = before_and_after(pipe)[2].values()
        assert codes and not any("quantised" in one.variable.path for one in rounded)


def check_export(pipe, folder):
    """Export in 8 bits; the gate, and the golden answers here and in the C runtime, are in it."""
    before = {v.path: np.array(v) for v in pipe.model.variables}
    made = Path(pipe.export(folder, int8=True))
    for variable in pipe.model.variables:
        np.testing.assert_array_equal(variable, before[variable.path])
    told = json.loads((made / "assets.extra/c_runtime.json").read_text())
    assert told["checked"] > 0 and told["difference"] < 1e-5
    copy = pipe.copied()
    int8.round_weights(copy)
    fields = fields_of(pipe.task, list(tiny.ODD_TEXTS))
    serve = tf.saved_model.load(str(made)).signatures["serving_default"]
    got = serve(**{n: tf.constant(v) for n, v in served_form(fields).items()})
    for name, want in expected(copy, fields).items():
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got[name], want, atol=1e-5)
        else:
            np.testing.assert_array_equal(got[name], want)
    return made, got, fields


@pytest.mark.contract("tasks in 8 bits", of=DEFAULT)
@pytest.mark.parametrize("task", list(EXPORTS)[:DEFAULT])
def test_an_export_answers_as_the_rounded_model(small, kind, tmp_path, task):
    check_export(kind(EXPORTS[task]), tmp_path / "m")


@pytest.mark.slow
@pytest.mark.contract("further tasks in 8 bits", of=len(EXPORTS) - DEFAULT)
@pytest.mark.parametrize("task", list(EXPORTS)[DEFAULT:])
def test_an_export_of_a_further_task_answers_as_the_rounded_model(small, kind, tmp_path, task):
    check_export(kind(EXPORTS[task]), tmp_path / "m")


@pytest.mark.slow
def test_an_encoder_decoder_is_exported(small, tmp_path):
    task = TextToText(max_length=24, max_new_tokens=4)
    check_export(_rig.pipeline("bart", "full", task), tmp_path / "m")


def test_every_task_is_among_them(kind):
    assert set(EXPORTS) == set(registry.names())
    assert {kind(name).task.name for name in list(EXPORTS.values())[:DEFAULT]} == set(
        list(EXPORTS)[:DEFAULT]
    )


def test_a_quarter_of_the_size_and_told_in_the_card(tmp_path):
    """64 wide units make what is not rounded small."""
    sizes = {"hidden_dim": 64, "intermediate_dim": 256, "max_sequence_length": 512}
    pipe = _rig.pipeline("bert", "full", None, **sizes)
    folders = [tmp_path / "floats", Path(pipe.export(tmp_path / "m", int8=True))]
    write_saved_model(pipe, str(folders[0]))
    large, small = (sum(p.stat().st_size for p in (f / "variables").iterdir()) for f in folders)
    assert small < 0.33 * large
    assert "are stored in 8 bits" in (folders[1] / "assets.extra/model_card.md").read_text("utf-8")
    # The rounding is seen in the answers, and two loads in one process keep to their own weights.
    asked = {"text": tf.constant(["the film was good"])}
    loads = [tf.saved_model.load(str(f)) for f in (*folders, folders[1])]
    first, second, third = (
        load.signatures["serving_default"](**asked)["logits"].numpy() for load in loads
    )
    assert 1e-6 < np.abs(first - second).max() < 0.1 * np.abs(first).max()
    np.testing.assert_array_equal(second, third)
    del loads[1]
    np.testing.assert_array_equal(loads[1].signatures["serving_default"](**asked)["logits"], third)


def test_a_model_without_large_matrices_is_refused(kind, tmp_path):
    with pytest.raises(InputError, match="at least 4,096 numbers.*Export it without int8"):
        kind("one text").export(tmp_path / "m", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_several_adapters_are_refused(kind, tmp_path):
    adapters = SimpleNamespace(names=["acme", "birch"])
    with pytest.raises(InputError, match="int8 with 2 adapters.*Leave int8 out"):
        export_saved_model(kind("one text"), tmp_path / "m", adapters=adapters, int8=True)
    assert list(tmp_path.iterdir()) == []
