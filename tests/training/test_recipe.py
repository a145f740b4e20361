"""The recipe: defaults, YAML both ways, overrides, and one line for every mistake."""

import os
import pickle
import textwrap

import numpy as np
import pandas as pd
import pytest
import yaml

from kerasft._core.errors import InputError
from kerasft.training.recipe import Recipe

DATA = {"train": "mails.csv"}


def complaint(call, *args, **kwargs) -> str:
    """The message of the `InputError` that the call raises; it has to be one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def written(folder, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return str(path)


# Values


def test_defaults():
    recipe = Recipe(data=DATA)
    assert recipe.task == {"name": "text-classification"}
    assert recipe.method == {"name": "full"}
    assert (recipe.preset, recipe.strategy, recipe.seed) == ("bert_tiny", "auto", 0)
    assert (recipe.data.validation, recipe.data.test, recipe.data.max_length) == (0.1, None, 256)
    training = recipe.training
    assert (training.epochs, training.batch_size, training.warmup) == (3, 32, 0.1)
    assert (training.weight_decay, training.clip_norm, training.dropout) == (0.01, 1.0, None)
    assert (training.precision, training.schedule, training.optimizer) == (
        "float32",
        "linear",
        "adamw",
    )
    assert training.early_stopping is None
    assert training.tensorboard is False


@pytest.mark.parametrize(
    "spec",
    [
        {"freeze": {"train_top_blocks": 2}},
        {"name": "freeze", "train_top_blocks": 2},
    ],
)
def test_a_method_in_short_and_in_full(spec):
    assert Recipe(data=DATA, method=spec).method == {"name": "freeze", "train_top_blocks": 2}


@pytest.mark.parametrize("spec", ["lora", {"lora": None}, {"lora": {}}, {"name": "lora"}])
def test_a_method_by_name_alone(spec):
    assert Recipe(data=DATA, method=spec).method == {"name": "lora"}


def test_a_member_becomes_its_mapping():
    from kerasft.methods import registry

    member = registry.build({"name": "lora", "rank": 4})
    recipe = Recipe(data=DATA, method=member)
    assert recipe.method["rank"] == 4
    assert recipe.method_value() == member


def test_the_registries_build_task_and_method():
    recipe = Recipe(data=DATA, task={"text-classification": {"labels": ["ham", "spam"]}})
    assert recipe.task_value().labels == ("ham", "spam")
    assert recipe.method_value().name == "full"


def test_an_unknown_method_is_found_when_it_is_built():
    recipe = Recipe(data=DATA, method={"name": "lora", "rnk": 8})
    assert "Did you mean 'rank'?" in complaint(recipe.method_value)
    assert "Did you mean 'lora'?" in complaint(recipe.replace("method=lor").method_value)


@pytest.mark.parametrize(
    ("method", "rate"),
    [("full", 5e-5), ("freeze", 5e-5), ("lora", 1e-3), ("lora.v1", 1e-3), ({"name": "lora"}, 1e-3)],
)
def test_the_rate_suits_the_method(method, rate):
    recipe = Recipe(data=DATA)
    assert recipe.training.rate_for(method) == rate
    assert recipe.replace("training.learning_rate=1e-3").training.rate_for(method) == 1e-3


def test_the_rate_of_the_recipe_is_that_of_its_method():
    assert Recipe(data=DATA, method="lora").learning_rate() == 1e-3


def test_texts_of_numbers_and_numbers_of_numpy_are_numbers():
    training = {"learning_rate": "5e-5", "epochs": "2", "batch_size": np.int64(8), "warmup": 0}
    recipe = Recipe(data=DATA, training=training)
    assert recipe.training.learning_rate == 5e-5
    assert (recipe.training.epochs, recipe.training.batch_size) == (2, 8)
    assert type(recipe.training.batch_size) is int


def test_a_path_object_is_a_path(tmp_path):
    recipe = Recipe(data={"train": tmp_path / "a.csv"}, preset=tmp_path)
    assert recipe.data.train == os.fspath(tmp_path / "a.csv")
    assert recipe.preset == os.fspath(tmp_path)


@pytest.mark.parametrize("none", [None, 0, 0.0, "0"])
def test_no_share_means_no_such_split(none):
    recipe = Recipe(data={"train": "a.csv", "validation": none, "test": none})
    assert recipe.data.validation is None
    assert recipe.data.test is None


def test_every_strategy_is_accepted():
    for name in ("auto", "one-device", "mirrored", "tpu", "multi-worker"):
        assert Recipe(data=DATA, strategy=name).strategy == name


def test_a_recipe_is_a_frozen_value():
    recipe = Recipe(data=DATA)
    assert "replace" in complaint(setattr, recipe, "seed", 3)
    assert "replace" in complaint(setattr, recipe.training, "epochs", 9)
    assert recipe == Recipe(data=DATA)
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_an_empty_section_means_its_defaults():
    assert Recipe(data=DATA, training=None).training == Recipe(data=DATA).training


# Mistakes


@pytest.mark.parametrize(
    ("sections", "parts"),
    [
        ({"epochs": 3}, ["`epochs`", "Did you mean `training.epochs`?"]),
        ({"stratgy": "tpu"}, ["`stratgy`", "Did you mean `strategy`?"]),
        ({"training": {"epoch": 3}}, ["`training.epoch`", "Did you mean `training.epochs`?"]),
        ({"training": {"max_length": 9}}, ["Did you mean `data.max_length`?"]),
        ({"training": {"zzz": 1}}, ["`training.zzz`", "The section `training` has the keys: epo"]),
        ({"data": {"train": "a", 1: "b"}}, ["Unknown key `data.1`"]),
        ({"data": {}}, ["`data.train` is missing", "a path"]),
        ({"training": {"epochs": "many"}}, ["whole number, at least 1", "training.epochs='many'"]),
        ({"training": {"epochs": 0}}, ["`training.epochs`", "Received: training.epochs=0."]),
        ({"training": {"epochs": True}}, ["Received: training.epochs=True."]),
        ({"training": {"epochs": 2.5}}, ["Received: training.epochs=2.5."]),
        ({"training": {"learning_rate": 0}}, ["a number above 0, or null"]),
        ({"training": {"learning_rate": float("nan")}}, ["Received: training.learning_rate=nan."]),
        ({"training": {"warmup": 1}}, ["below 1", "Received: training.warmup=1."]),
        ({"training": {"dropout": 1.0}}, ["below 1, or null"]),
        ({"training": {"tensorboard": "maybe"}}, ["true or false"]),
        ({"training": {"schedule": "cosin"}}, ["linear, cosine, constant", "mean 'cosine'?"]),
        ({"training": {"precision": "float16"}}, ["mixed_float16"]),
        ({"training": 5}, ["`training` must be a mapping with the keys: epochs", "training=5"]),
        ({"strategy": "mirored"}, ["Did you mean 'mirrored'?"]),
        ({"seed": -1}, ["`seed`", "Received: seed=-1."]),
        ({"seed": 2**32}, ["from 0 to 4294967295"]),
        ({"preset": ""}, ["`preset`", "Received: preset=''."]),
        ({"task": None}, ["`task` must be a name", "Received: task=None."]),
        ({"method": {"rank": 8}}, ["`method` must be a name", "key `name`"]),
        ({"method": {"rank": 8, "alpha": 2}}, ["key `name`"]),
        ({"data": {"train": 3}}, ["`data.train` must be a path", "Received: data.train=3."]),
        ({"data": {"train": None}}, ["Received: data.train=None."]),
        (
            {"data": {"train": "a", "validation": 1}},
            ["share (at least 0, below 1", "on=1."],
        ),
        ({"data": {"train": "a", "test": True}}, ["Received: data.test=True."]),
        ({"data": {"train": "a", "validation": 0.5, "test": 0.5}}, ["leave rows to train on"]),
        ({"data": {"train": "a", "columns": {"label": False}}}, ["quote", "data.columns.label=Fa"]),
        ({"data": {"train": "a", "max_length": 2}}, ["at least 8", "Received: data.max_length=2."]),
        ({"task": {"name": "text-classification", 1: "x"}}, ["`task`", "Received: task.1=1"]),
        ({"data": {"train": "a", "separator": ""}}, ["at least one character", "separator=''"]),
    ],
)
def test_a_mistake_is_told_in_one_line(sections, parts):
    message = complaint(Recipe, **({"data": DATA} | sections))
    for part in parts:
        assert part in message


def test_an_unknown_key_comes_before_what_it_causes():
    assert "`data.trian`" in complaint(Recipe, data={"trian": "a.csv"})


def test_a_long_value_is_cut():
    message = complaint(Recipe, data=DATA, training={"epochs": ["x" * 500]})
    assert len(message) < 250


# Files


def test_what_is_saved_is_complete_and_comes_back(tmp_path):
    recipe = Recipe(
        task={"name": "text-classification", "labels": ["yes", "no", "5e-5", "012", "真"]},
        data=DATA | {"columns": {"label": "y"}, "separator": " ", "test": 0.2},
        training={"learning_rate": 1e-5},
    )
    path = tmp_path / "new" / "recipe.yaml"
    recipe.save(path)
    assert Recipe.load(path) == recipe
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(tree) == set(Recipe.model_fields)
    assert set(tree["training"]) == set(type(recipe.training).model_fields)
    assert set(tree["data"]) == set(type(recipe.data).model_fields)
    assert "真" in path.read_text(encoding="utf-8")
    assert os.listdir(path.parent) == ["recipe.yaml"]


def test_a_recipe_file_as_people_write_it(tmp_path):
    path = written(
        tmp_path,
        """
        task: {name: text-classification, labels: [no, yes]}
        method:
          freeze: {train_top_blocks: 2}
        data: {train: train.csv, validation: .2, columns: {text: body}}
        training:
          learning_rate: 5e-5   # a text to YAML 1.1
        seed: 7
        """,
    )
    recipe = Recipe.load(path)
    assert recipe.task["labels"] == ["no", "yes"]
    assert recipe.method == {"name": "freeze", "train_top_blocks": 2}
    assert recipe.data.validation == 0.2
    assert recipe.training.learning_rate == 5e-5
    assert recipe.seed == 7


def test_overrides_are_put_in_before_the_file_is_checked(tmp_path):
    path = written(tmp_path, "preset: bert_tiny\nmethod: lora\n")
    recipe = Recipe.load(path, "data.train=a.csv", "method.rank=4", "data.columns.text=body")
    assert recipe.data.train == "a.csv"
    assert recipe.method == {"name": "lora", "rank": 4}
    assert recipe.data.columns == {"text": "body"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: {train: a\nseed: 1", ["line 2", "not valid YAML"]),
        ("data: {train: a}\nseed: 1\nseed: 2", ["line 3", "'seed' is given twice"]),
        ("data: {train: a, train: b}", ["line 1", "'train' is given twice"]),
        ("data: !!python/name:os.system\n", ["line 1", "not valid YAML"]),
        ("data: {train: a}\nseed: \x07", ["line 2", "not allowed"]),
        ("task: &a {name: x, o: *a}", ["not valid YAML", "Circular"]),
        ("[" * 5000, ["nested too deeply"]),
        ("- a\n- b\n", ["a mapping of sections", "a list"]),
        ("", ["an empty file"]),
        ("1: 2", ["Unknown key `1`"]),
        ("data: {train: a}\ntraining: {epoch: 3}", ["Did you mean `training.epochs`?"]),
    ],
)
def test_a_broken_file_is_told_with_its_name(tmp_path, text, parts):
    path = written(tmp_path, text)
    message = complaint(Recipe.load, path)
    for part in [path, *parts]:
        assert part in message


def test_a_broken_byte_is_told_with_its_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"data: {train: a}\npreset: caf\xe9\n")
    assert "line 2: UTF-8" in complaint(Recipe.load, path)


def test_no_file_and_a_folder(tmp_path):
    assert "There is no recipe file" in complaint(Recipe.load, tmp_path / "none.yaml")
    assert "the folder" in complaint(Recipe.load, tmp_path)


def test_a_byte_order_mark_is_no_matter(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {train: a}", encoding="utf-8-sig")
    assert Recipe.load(path).data.train == "a"


# Overrides


def test_replace_gives_a_new_recipe():
    recipe = Recipe(data=DATA)
    other = recipe.replace("training.epochs=5", "data.test=0.2", "seed=1", "data.validation=null")
    assert (other.training.epochs, other.data.test, other.seed) == (5, 0.2, 1)
    assert other.data.validation is None
    assert recipe == Recipe(data=DATA)


def test_replace_of_a_method_and_of_its_options():
    recipe = Recipe(data=DATA, method={"name": "lora", "rank": 8})
    assert recipe.replace("method.rank=2").method == {"name": "lora", "rank": 2}
    assert recipe.replace("method=full").method == {"name": "full"}
    assert recipe.replace("method={name: lora, targets: [query]}").method["targets"] == ["query"]
    assert recipe.method["rank"] == 8


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.epochs", ["section.key=value", "'training.epochs'"]),
        ("=3", ["section.key=value"]),
        ("training..epochs=3", ["section.key=value"]),
        ("training.epoch=3", ["Did you mean `training.epochs`?"]),
        ("trainin.epochs=3", ["Did you mean `training`?"]),
        ("training.epochs=soon", ["Received: training.epochs='soon'."]),
        ("seed.x=3", ["`seed.x` cannot be set"]),
        ("data.columns={a: b", ["not valid YAML", "data.columns={a: b"]),
    ],
)
def test_a_wrong_override_is_told_in_one_line(override, parts):
    message = complaint(Recipe(data=DATA).replace, override)
    for part in parts:
        assert part in message


# Rows in memory


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (pd.DataFrame({"text": list("abc"), "label": list("xyx")}), "<in memory: 3 rows>"),
        ([{"text": "a", "label": "x"}] * 4, "<in memory: 4 rows>"),
        ({"text": list("abcde"), "label": list("xyxyx")}, "<in memory: 5 rows>"),
        ((["a", "b"], ["x", "y"]), "<in memory: 2 rows>"),
        (iter(["a"]), "<in memory>"),
    ],
)
def test_rows_in_memory_are_kept_as_they_are_and_saved_as_a_note(tmp_path, rows, note):
    recipe = Recipe(data={"train": rows}).replace("seed=1")
    assert recipe.data.source("train") is rows
    recipe.save(tmp_path / "recipe.yaml")
    again = Recipe.load(tmp_path / "recipe.yaml")
    assert again.data.train == note
    message = complaint(again.data.source, "train")
    assert "Give a path: data.train=FILE" in message


def test_sources_that_a_file_can_hold():
    recipe = Recipe(data=DATA | {"validation": 0.2, "test": "gs://b/test.csv"})
    assert recipe.data.source("train") == "mails.csv"
    assert recipe.data.source("validation") == 0.2
    assert recipe.data.source("test") == "gs://b/test.csv"


def test_an_option_that_has_no_yaml_is_refused(tmp_path):
    recipe = Recipe(data=DATA, task={"name": "text-classification", "labels": [object()]})
    assert "of type object" in complaint(recipe.save, tmp_path / "recipe.yaml")
    assert os.listdir(tmp_path) == []
