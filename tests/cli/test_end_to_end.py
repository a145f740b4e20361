"""From a CSV file to an exported model that is asked strings, as a user goes through it."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_files import listing, rows, written

RUN_FILES = {
    "recipe.yaml",
    "split.json",
    "split.csv",
    "history.csv",
    "metrics.json",
    "reference.json",
    "report.json",
    "report.txt",
    "worst.jsonl",
    "confusion.png",
    "calibration.png",
    "learning_curves.png",
    "model",
    "checkpoints",
}


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def asked(folder, **texts):
    """What the exported model answers, as `kerasft predict` writes it."""
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    out = {k: v.numpy() for k, v in serve(**{k: tf.constant(v) for k, v in texts.items()}).items()}
    plain = {k: [b.decode() for b in v] if v.dtype == object else v for k, v in out.items()}
    count = len(next(iter(texts.values())))
    return [{k: v[row] for k, v in plain.items()} for row in range(count)]


def same_answers(got, expected):
    assert len(got) == len(expected) > 0
    for one, other in zip(got, expected):
        assert set(one) == set(other)
        for key, value in one.items():
            if isinstance(value, str):
                assert value == other[key]
            else:
                np.testing.assert_allclose(value, other[key], atol=1e-5)


def test_from_a_csv_to_a_model_that_is_asked_strings(kerasft, recipe, tmp_path, monkeypatch):
    """The whole way, each step with what the one before has left."""
    monkeypatch.chdir(tmp_path)
    mails = rows(32)
    own = [{"body": row["text"], "class": row["label"]} for row in mails]
    written(tmp_path / "mails.csv", own)
    columns = {"text": "body", "label": "class"}
    plan = recipe({"train": "mails.csv", "columns": columns}, epochs=8)
    before = listing(tmp_path)

    said = kerasft("doctor", plan)
    assert (said.code, said.err) == (0, "")
    assert "16 rows  ham 8 (50%), spam 8 (50%)" in said.out
    assert listing(tmp_path) == before

    said = kerasft("train", plan, "seed=3", "--out", "runs/mails")
    assert (said.code, said.err) == (0, "")
    run = tmp_path / "runs" / "mails"
    assert {p.name for p in run.iterdir()} == RUN_FILES
    scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert scores["accuracy"] == 1.0 and scores["before"]["accuracy"] < 1.0
    assert "The run is in runs/mails." in said.out and "accuracy" in said.out
    assert "seed: 3" in (run / "recipe.yaml").read_text(encoding="utf-8")

    held = [own[2] | {"class": "spam"}, own[3], own[4], own[5]]
    written(tmp_path / "held.csv", held)
    said = kerasft("evaluate", "runs/mails", "held.csv", "--out", "scores")
    assert (said.code, said.err) == (0, "")
    assert "held.csv" in said.out and "0.7500" in said.out
    assert "accuracy" in Path("scores/report.txt").read_text(encoding="utf-8")
    said = kerasft("evaluate", "runs/mails", "held.csv", "--json")
    assert json.loads(said.out) == json.loads(Path("scores/metrics.json").read_text("utf-8"))
    assert (json.loads(said.out)["accuracy"], json.loads(said.out)["rows"]) == (0.75, 4)

    # Texts alone, of another form than those of training.
    texts = [row["text"] for row in mails] + [
        "free, prize!",
        "café 😀 不好",
        'a "quote",\nand more',
    ]
    written(tmp_path / "new.jsonl", [{"body": text} for text in texts])
    printed = kerasft("predict", "runs/mails", "new.jsonl")
    assert (printed.code, printed.err) == (0, "")
    said = kerasft("predict", "runs/mails", "new.jsonl", "--out", "answers/new.jsonl")
    assert said.code == 0 and Path("answers/new.jsonl").read_text("utf-8") == printed.out
    answers = lines(printed.out)
    assert [a["label"] for a in answers[:32]] == [row["label"] for row in mails]
    assert all(math.isclose(sum(a["probabilities"]), 1, abs_tol=1e-5) for a in answers)

    said = kerasft("export", "runs/mails", "saved_models/mails")
    assert (said.code, said.out) == (0, "saved_models/mails/1\n"), said.err
    same_answers(asked("saved_models/mails/1", text=texts), answers)
    labels = json.loads(Path("saved_models/mails/1/assets.extra/labels.json").read_text("utf-8"))
    assert labels == ["ham", "spam"]


@pytest.fixture(scope="module")
def pairs(recipe, run_of, tmp_path_factory):
    """A run on pairs of texts, and their file."""
    folder = tmp_path_factory.mktemp("pairs")
    mails = [row["text"] for row in rows(16)]
    found = [
        {"text": one, "text_pair": other, "label": str(int(i % 2 == j % 2))}
        for i, one in enumerate(mails[:6])
        for j, other in enumerate(mails[6:10])
    ]
    path = written(folder / "pairs.csv", found)
    plan = recipe({"train": path, "test": 0}, {"pair": True})
    return run_of(plan, folder / "run", "method=lora"), path, found


@pytest.mark.slow
def test_pairs_of_texts(kerasft, pairs, refuses, tmp_path):
    run, path, found = pairs
    scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert (scores["split"], scores["labels"]) == ("validation", ["0", "1"])
    swapped = [row | {"text": row["text_pair"], "text_pair": row["text"]} for row in found]
    turned = lines(kerasft("predict", run, written(tmp_path / "turned.csv", swapped)).out)
    answers = lines(kerasft("predict", run, path).out)
    logits = [np.stack([row["logits"] for row in answers]) for answers in (answers, turned)]
    assert logits[0].shape == (24, 2) and np.abs(logits[0] - logits[1]).max() > 1e-3
    half = written(tmp_path / "half.csv", [{"text": "the film"}])
    assert "half.csv has no column 'text_pair'; it has: 'text'." in refuses("predict", run, half)


@pytest.mark.slow
def test_pairs_are_asked_as_strings(kerasft, pairs, tmp_path):
    run, path, found = pairs
    said = kerasft("export", run, tmp_path / "model", "--version", 7)
    assert said.out == f"{tmp_path}/model/7\n"
    fields = {name: [row[name] for row in found] for name in ("text", "text_pair")}
    same_answers(
        asked(tmp_path / "model" / "7", **fields), lines(kerasft("predict", run, path).out)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "field", "key", "score"),
    [("regression", "score", "score", "mse"), ("multi-label", "labels", "labels", "micro_f1")],
)
def test_other_problems(kerasft, recipe, tmp_path, problem, field, key, score):
    texts = [row["text"] for row in rows(16)]
    cells = {
        "regression": [len(t) / 10 for t in texts],
        "multi-label": ["|".join({t[:4].strip(), t[-4:].strip()}) for t in texts],
    }[problem]
    path = written(tmp_path / "x.csv", [{"text": t, field: c} for t, c in zip(texts, cells)])
    said = kerasft(
        "train", recipe({"train": path, "test": 0}, {"problem": problem}), "--out", tmp_path / "run"
    )
    assert (said.code, said.err) == (0, "")
    answers = lines(kerasft("predict", tmp_path / "run", path).out)
    assert len(answers) == 16 and {next(iter(a)) for a in answers} == {key}
    found = json.loads(kerasft("evaluate", tmp_path / "run", path, "--json").out)
    assert math.isfinite(found[score]) and found["rows"] == 16


# As processes of their own


DRIVER = "from kerasft.cli.main import main; main()"


def process(*words, cwd, **pipes):
    pipes = {"capture_output": True, "text": True, "encoding": "utf-8"} | pipes
    return subprocess.run([sys.executable, "-c", DRIVER, *map(str, words)], cwd=cwd, **pipes)


def test_another_process_answers_as_this_one(trained, kerasft, tmp_path):
    texts = ["free prize, call now", "很好看 😀", "a good film"]
    path = written(tmp_path / "new.jsonl", [{"text": text} for text in texts])
    here = kerasft("predict", trained, path)
    there = process("predict", trained, path, cwd=tmp_path)
    assert (there.returncode, there.stderr) == (0, "")
    same_answers(lines(there.stdout), lines(here.out))


@pytest.mark.slow
def test_a_full_pipe_is_closed_without_a_word(trained, tmp_path):
    """`kerasft predict run many.csv | head -1`"""
    path = written(tmp_path / "many.csv", rows() * 100)
    command = [sys.executable, "-c", DRIVER, "predict", str(trained), path]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert json.loads(child.stdout.readline())["label"] in ("ham", "spam")
    child.stdout.close()
    said = child.stderr.read()
    child.stderr.close()
    assert (child.wait(), said) == (141, b"")
