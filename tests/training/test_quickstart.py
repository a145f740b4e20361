"""The quickstart: one call from mails to a SavedModel that answers strings."""

import json

import numpy as np
import pytest

from kerasft import InputError, Recipe
from kerasft.training import quickstart as module


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty. Give a new folder with --out") as error:
        module.quickstart(tmp_path)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_the_recipe_can_be_saved_and_read_again(tmp_path):
    recipe = module.recipe()
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    assert recipe.preset == "bert_tiny"


def test_what_to_do_next_names_what_was_made(tmp_path):
    said = module._next("first", "first/run", "first/saved_models/spam/1", 12.3)
    assert "Done in 12 s" in said
    assert "cp first/run/recipe.yaml recipe.yaml" in said
    assert "kerasft doctor recipe.yaml data.train=my.csv" in said
    assert "--out first/my-run" in said and "kerasft export first/my-run" in said


@pytest.mark.slow
def test_the_whole_way(tmp_path, capsys):
    import tensorflow as tf

    out = tmp_path / "quickstart"
    pipe = module.quickstart(out, verbose=0)
    metrics = json.loads((out / "run" / "metrics.json").read_text())
    assert metrics["macro_f1"] >= 0.95
    assert metrics["before"]["macro_f1"] < 0.9, "what it has not learned it cannot know"
    assert metrics["split"] == "test" and 500 < metrics["rows"] < 650
    labels = [answer["label"] for answer in pipe.predict(list(module.QUESTIONS))]
    assert labels == ["spam", "ham"]
    version = out / "saved_models" / "spam" / "1"
    assert {"saved_model.pb", "variables"} <= {p.name for p in version.iterdir()}
    names = {p.name for p in (version / "variables").iterdir()}
    assert names == {"variables.index", "variables.data-00000-of-00001"}
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    answers = serve(text=tf.constant(module.QUESTIONS))
    assert [label.decode() for label in answers["label"].numpy()] == labels
    own = [answer["probabilities"] for answer in pipe.predict(list(module.QUESTIONS))]
    np.testing.assert_allclose(answers["probabilities"], own, atol=1e-5)
    said = capsys.readouterr().out
    for label, question in zip(labels, module.QUESTIONS, strict=True):
        assert any(label in line and question in line for line in said.splitlines())
    for name in ("report.txt", "confusion.png", "learning_curves.png", "recipe.yaml"):
        assert (out / "run" / name).is_file(), name
    assert str(version) in said
