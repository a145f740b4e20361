"""Each example recipe fits its sample file; two train here, the others with -m slow."""

import csv
import json
import re
from pathlib import Path

import pytest

import kerasft as kf
from kerasft.training.prepare import prepare_data

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "examples").glob("*.yaml"))
SAMPLES = sorted((ROOT / "examples" / "data").glob("*.csv"))
# Presets that this machine need not have: the embedded one stands for them, and for a decoder a
# small one without training.
SMOLLM2 = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"
WRITERS = ("chat", "instructions", "summaries", "translation")
STANDS_FOR = {"sentiment-zh": "bert_base_zh", "from-hf-folder": "my-checkpoint"}
STANDS_FOR |= dict.fromkeys(WRITERS, SMOLLM2)
QUICK = ("lora", "multi-label")
TRAINED = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Paths in the examples are relative to the root of the clone."""
    monkeypatch.chdir(ROOT)


def recipe(name, *overrides):
    embedded = ["preset=bert_tiny"] if name in STANDS_FOR else []
    if name in WRITERS:
        embedded = ["preset=tests/golden/smollm2", "task.overlong=cut", "task.max_new_tokens=3"]
    return kf.Recipe.load(f"examples/{name}.yaml", *embedded, *overrides)


def test_every_example_is_here():
    expected = """chat freeze from-hf-folder instructions long-texts lora masked-lm multi-label ner
        pairs qa relations score search sentiment-zh similarity spam summaries topics translation
        zero-shot"""
    assert expected.split() == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_fits_its_sample(name):
    preset = kf.Recipe.load(f"examples/{name}.yaml").preset
    assert preset == STANDS_FOR.get(name, "bert_tiny")
    plan = recipe(name)
    plan.method_value()
    prepared = prepare_data(plan)
    rows = prepared.split.rows
    assert 25 <= sum(rows.values()) <= 35 and rows["validation"] >= 5
    seen = {label for label, count in prepared.split.counts["train"].items() if count}
    assert seen == set(prepared.task.labels)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_file_is_whole(path):
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert {len(row) for row in rows} == {len(head)}
    texts = [row[:-1] for row in rows]
    assert all(text.strip() for row in texts for text in row)
    assert len({tuple(row) for row in texts}) == len(rows)


def test_every_sample_is_told():
    """`examples/data/README.md` lists them; tests/data/test_samples.py reads those of each task."""
    page = (ROOT / "examples" / "data" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "examples").glob("*.yaml"):
        for name in re.findall(r"examples/data/([\w.-]+)", path.read_text(encoding="utf-8")):
            assert f"`{name}`" in page, name


@pytest.mark.parametrize("name", TRAINED)
def test_recipe_trains(name, tmp_path):
    run = tmp_path / "run"
    pipe = kf.train(recipe(name, "training.epochs=1"), out=run, verbose=0)
    scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert scores["rows"] == pipe.report.rows and scores["fit_seconds"] > 0
    assert set(scores["before"]) == set(scores["after"]) <= set(scores)
    kinds = pipe.task.fields() | getattr(pipe.task, "asked", {})
    values = {"text": "Where is my parcel?", "whole": 0, "texts": ["parcel", "price"]}
    text = {name: values[kinds[name]] for name in pipe.task.inputs}
    known = {"label", "labels", "score", "probabilities", "logits", "text", "answer"}
    assert set(pipe.predict([text])[0]) <= known | {
        "start",
        "end",
        "embedding",
        "token",
        "completion",
        "tokens",
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## What a run folder holds")[1].split("\n\n")[1]
    cells = " ".join(line.split("|")[1] for line in table.splitlines())
    assert {p.name for p in run.iterdir()} - set(re.findall(r"`([\w.]+)/?`", cells)) == set()


@pytest.mark.slow
def test_hugging_face_folder_goes_on_from_its_head(tmp_path):
    pipe = kf.train(recipe("spam", "training.epochs=1"), verbose=0)
    folder = pipe.save_hf(tmp_path / "my-checkpoint")
    plan = kf.Recipe.load("examples/from-hf-folder.yaml", f"preset={folder}", "training.epochs=1")
    again = kf.train(plan, verbose=0)
    assert again.task.labels == pipe.task.labels
    assert again.report.before["log_loss"] == pytest.approx(pipe.report.after["log_loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "score"), [("ner", "entity_f1"), ("qa", "best_f1_threshold")])
def test_tags_and_answers_go_on_from_their_heads(name, score, tmp_path):
    pipe = kf.train(recipe(name, "training.epochs=12"), verbose=0)
    folder = pipe.save_hf(tmp_path / "my-checkpoint")
    plan = recipe(name, "training.epochs=1").replace(f"preset={folder}")
    again = kf.train(plan, verbose=0)
    assert again.task.labels == pipe.task.labels
    assert again.report.before[score] == pytest.approx(pipe.report.after[score], rel=1e-4)
    assert abs(pipe.report.before[score] - pipe.report.after[score]) > 0.1
