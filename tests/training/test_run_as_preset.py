"""A run folder is the preset of another run: its backbone goes on as training left it."""

import json
import shutil

import numpy as np
import pytest

from kerasft import InputError, Recipe, train
from kerasft._core import weights
from kerasft.backbones import load
from kerasft.pipeline import Pipeline
from kerasft.tasks import MaskedLM, TextClassification
from kerasft.testing import _rig, tiny
from kerasft.training.doctor import doctor
from kerasft.training.prepare import build_model, prepare_data

TEXTS = [{"text": f"the {word} was good"} for word in ("film", "story", "prize", "call")] * 3


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """The folder of a run of masked-lm, from its recipe."""
    preset = tmp_path_factory.mktemp("preset") / "model"
    task = TextClassification(labels=("a", "b"), max_length=16)
    _rig.pipeline(tiny.family("bert"), "full", task).save(preset)
    folder = tmp_path_factory.mktemp("runs") / "masked"
    recipe = Recipe(
        task={"name": "masked-lm", "share": 0.3},
        preset=str(preset),
        data={"train": TEXTS, "validation": 0.25, "max_length": 16},
        training={"epochs": 2, "batch_size": 4, "learning_rate": 3e-3},
    )
    train(recipe, out=folder, verbose=0)
    return folder


def of_backbone(pipe):
    return weights.state_of(pipe.backbone)


def same(one, other):
    return one.keys() == other.keys() and all((one[k] == other[k]).all() for k in one)


def test_a_masked_run_lowers_perplexity(masked):
    scores = json.loads((masked / "metrics.json").read_text(encoding="utf-8"))
    assert scores["perplexity"] == scores["after"]["perplexity"] < scores["before"]["perplexity"]
    assert scores["before"]["tokens"] == scores["after"]["tokens"] > 0


@pytest.mark.parametrize("place", ["", "model"])
def test_another_task_goes_on_with_its_backbone(masked, place, make_rows, tmp_path):
    before = of_backbone(Pipeline.load(masked))
    recipe = Recipe(
        preset=str(masked / place),
        method={"name": "freeze"},
        data={"train": make_rows(), "validation": 0.25, "max_length": 16},
        training={"epochs": 1, "batch_size": 8},
    )
    model, tokenizer = build_model(prepare_data(recipe), "float32")
    assert same(weights.state_of(model.get_layer("backbone").backbone), before)
    assert tokenizer(["the film"])[0] == tiny.tokenizer("bert")(["the film"])[0]
    if not place:
        train(recipe, out=tmp_path / "spam", verbose=0)
        assert same(of_backbone(Pipeline.load(tmp_path / "spam")), before)
        shutil.rmtree(tmp_path / "spam" / "checkpoints")


def test_it_is_not_the_backbone_that_it_began_with(masked):
    began = json.loads((masked / "metrics.json").read_text(encoding="utf-8"))["extra"]["preset"]
    assert not same(weights.state_of(load(began)[0]), weights.state_of(load(masked)[0]))


def test_precision_and_dropout_are_those_that_are_asked_for(masked):
    backbone, _ = load(masked, dtype="mixed_bfloat16", dropout=0.3)
    assert (backbone.dtype_policy.name, backbone.dropout) == ("mixed_bfloat16", 0.3)
    assert same(weights.state_of(backbone), weights.state_of(load(masked)[0]))


def test_further_training_on_texts_goes_on_with_the_head(masked):
    recipe = Recipe(task="masked-lm", preset=str(masked), data={"train": TEXTS, "max_length": 16})
    prepared = prepare_data(recipe)
    model, _ = build_model(prepared, "float32")
    assert same(weights.state_of(model), weights.state_of(Pipeline.load(masked).model))
    assert np.any(model.get_layer("logits").bias)


def test_an_adapter_that_is_not_merged_is_refused(tmp_path):
    pipe = _rig.pipeline(tiny.family("bert"), "lora", MaskedLM(max_length=16))
    for variable in pipe.model.trainable_variables:
        variable.assign(variable + 0.1)
    folder = pipe.save(tmp_path / "lora")
    with pytest.raises(InputError) as error:
        load(folder)
    assert "method='lora'" in str(error.value) and ".merged().save(" in str(error.value)
    assert "\n" not in str(error.value)
    merged = pipe.merged()
    assert same(weights.state_of(load(merged.save(tmp_path / "merged"))[0]), of_backbone(merged))


CHANGES = {
    "another format": ("format", 99, "reads format 1"),
    "a class of no family": ("backbone.class", "os.system", "class"),
    "a size beyond the weights": ("backbone.config.vocabulary_size", 10**12, "too few"),
    "code as dtype": ("backbone.config.dtype", {"module": "evil"}, "never loaded"),
    "no word on adapters": ("adapter", None, "damaged"),
    "another shape": ("backbone.config.hidden_dim", 8, "does not fit"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_damaged_folders_are_refused_in_one_line(masked, tmp_path, change):
    shutil.copytree(masked / "model", tmp_path / "model")
    path, value, said = CHANGES[change]
    record = json.loads((tmp_path / "model" / "kerasft.json").read_text(encoding="utf-8"))
    *way, name = path.split(".")
    inner = record
    for key in way:
        inner = inner[key]
    if value is None:
        del inner[name]
    else:
        inner[name] = value
    (tmp_path / "model" / "kerasft.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=said) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_run_that_has_no_model_yet_is_no_preset(tmp_path):
    (tmp_path / "recipe.yaml").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="model of a run that came to its end.*has none"):
        load(tmp_path)


def test_the_doctor_reads_texts_without_labels(masked):
    recipe = Recipe(task="masked-lm", preset=str(masked), data={"train": TEXTS, "max_length": 16})
    found = doctor(recipe).data
    assert found["tokens"]["longest"] == 6 and found["labels"]["train"] == {}
    assert found["steps"]["per_epoch"] == 1
