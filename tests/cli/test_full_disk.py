"""A disk that is full, a loss that is no number, an export that fails: what is left, and said."""

import builtins
import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_files import listing, rows, written

from kerasft._core import files, weights
from kerasft.cli import output
from kerasft.export import saved_model

MESSAGE = "error: The disk is full: free some space"


class Half:
    """A file on a disk that fills up: half of the first write arrives."""

    def __init__(self, file, path):
        self.file, self.path = file, path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", self.path)


@contextlib.contextmanager
def full(module, name):
    """What `module` writes to paths with `name` in them breaks off."""
    hit = []

    def opened(path, mode="r", **options):
        file = builtins.open(path, mode, **options)  # noqa: SIM115 (who asked for it closes it)
        if "w" not in mode or name not in os.fspath(path):
            return file
        hit.append(path)
        return Half(file, os.fspath(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open", opened, raising=False)
        yield
    assert hit, f"nothing was written to {name}"


def scores(run):
    return json.loads(Path(run, "metrics.json").read_text(encoding="utf-8")) | {"fit_seconds": 0}


def aside(folder):
    return [name for name in listing(folder) if ".tmp" in name]


@pytest.fixture(scope="module")
def plan(recipe, tmp_path_factory):
    """A recipe of two epochs of two steps, with a checkpoint at each step."""
    mails = written(tmp_path_factory.mktemp("full") / "mails.csv", rows())
    return recipe({"train": mails}, epochs=2, checkpoint_steps=1)


@pytest.fixture(scope="module")
def whole(plan, run_of, tmp_path_factory):
    """The run without any mishap."""
    return run_of(plan, tmp_path_factory.mktemp("whole") / "run")


# Training


@pytest.mark.slow
def test_before_the_first_checkpoint_nothing_is_left(refuses, plan):
    with full(files, "step-000000001"):
        line = refuses("train", plan, "--out", "deep/run", begun=True)
    assert line.startswith(MESSAGE) and "run again" in line


@pytest.mark.parametrize(
    "name",
    [
        "confusion.png",
        pytest.param("step-000000003", marks=pytest.mark.slow),
        pytest.param("history.csv", marks=pytest.mark.slow),
        pytest.param("model.safetensors", marks=pytest.mark.slow),
        pytest.param("kerasft.json", marks=pytest.mark.slow),
        pytest.param("report.txt", marks=pytest.mark.slow),
        pytest.param("metrics.json", marks=pytest.mark.slow),
    ],
)
def test_the_checkpoint_stands_and_the_run_goes_on(kerasft, plan, whole, tmp_path, name):
    """Whatever was being written, the same command with --resume ends the run."""
    run = tmp_path / "run"
    with full(files, name):
        said = kerasft("train", plan, "--out", run)
    assert said.code == 2
    (line,) = said.err.splitlines()
    assert line.startswith(MESSAGE) and line.endswith("with --resume to go on.")
    assert list((run / "checkpoints").glob("step-*.safetensors"))
    assert aside(run) == [] and not (run / "metrics.json").exists()
    said = kerasft("train", plan, "--out", run, "--resume")
    assert (said.code, said.err) == (0, "")
    assert scores(run) == scores(whole)
    assert {p.name for p in run.iterdir()} == {p.name for p in whole.iterdir()}


def test_a_loss_that_is_no_number(refuses, plan):
    """Not the user's input alone can be the cause, so the code is 1."""
    wild = ("training.learning_rate=1.0e+30", "training.warmup=0", "training.checkpoint_steps=null")
    line = refuses("train", plan, *wild, "--out", "deep/run", code=1, begun=True)
    assert "error: The loss became" in line or "error: A weight became" in line
    assert "Lower training.learning_rate" in line


# Answers and scores


def test_answers_are_whole_or_not_there(refuses, trained, tmp_path):
    mails = written(tmp_path / "mails.csv", rows())
    Path(tmp_path, "old.jsonl").write_text("old\n", encoding="utf-8")
    for out in ("old.jsonl", "new/deep/answers.jsonl"):
        with full(output, "jsonl"):
            assert refuses("predict", trained, mails, "--out", out).startswith(MESSAGE)


def test_a_report_has_its_scores_last(kerasft, trained, tmp_path):
    """Files are whole or not there, and metrics.json comes when all the others are."""
    mails = written(tmp_path / "mails.csv", rows())
    with full(files, "confusion.png"):
        said = kerasft("evaluate", trained, mails, "--out", tmp_path / "scores")
    assert (said.code, said.out) == (2, "") and said.err.startswith(MESSAGE)
    assert {p.name for p in (tmp_path / "scores").iterdir()} == {
        "report.txt",
        "report.json",
        "worst.jsonl",
    }


# Export


def full_while_saving(module, folder, **_):
    """How TensorFlow says it: an error of its own, with the reason in words."""
    Path(folder, "variables").mkdir(parents=True)
    Path(folder, "variables", "variables.data-00000-of-00001").write_bytes(b"half")
    raise tf.errors.ResourceExhaustedError(None, None, f"{folder}/v; No space left on device")


def full_in_python(module, folder, **_):
    Path(folder, "variables").mkdir(parents=True)
    raise OSError(errno.ENOSPC, "No space left on device", folder)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("save", [full_while_saving, full_in_python])
def test_no_half_an_export(refuses, trained, monkeypatch, tmp_path, there, save):
    if there:
        (tmp_path / "models" / "m" / "4").mkdir(parents=True)
    monkeypatch.setattr(tf.saved_model, "save", save)
    assert refuses("export", trained, "models/m").startswith(MESSAGE)


@pytest.fixture
def sloppy(monkeypatch):
    """An export that is written in no time: what is checked afterwards is the matter here."""

    def write(pipe, folder, adapters, rounded):
        Path(folder, "saved_model.pb").write_bytes(b"x")

    monkeypatch.setattr(saved_model, "write_saved_model", write)
    monkeypatch.setattr(saved_model, "check_saved_model", lambda *_: None)


class Answers:
    """A loaded SavedModel with other answers than the pipeline's."""

    def __init__(self, shift):
        self.shift = shift
        self.signatures = {"serving_default": self.serve, "token_ids": self.serve}
        self.signatures["classify"] = self.classify

    def classify(self, inputs):
        answers = self.serve(inputs=inputs)
        return {"classes": answers["label"][:, None], "scores": answers["probabilities"]}

    def serve(self, **inputs):
        count = int(tf.shape(next(iter(inputs.values())))[0])
        values = tf.fill([count, 2], np.float32(self.shift))
        return {"label": tf.fill([count], b"ham"), "probabilities": values, "logits": values}


@pytest.mark.parametrize("shift", [7.0, np.nan])
def test_an_export_that_answers_otherwise_is_taken_away(
    refuses, trained, sloppy, monkeypatch, shift
):
    monkeypatch.setattr(tf.saved_model, "load", lambda folder: Answers(shift))
    line = refuses("export", trained, "models/m", code=1)
    assert "does not answer as the trained one" in line and "Nothing was left behind" in line


@pytest.mark.slow
def test_a_weight_that_is_no_number_is_not_exported(refuses, trained, tmp_path):
    """A model that answers NaN is not handed over."""
    shutil.copytree(trained / "model", tmp_path / "spoilt")
    path = tmp_path / "spoilt" / "model.safetensors"
    arrays, notes = weights.read(str(path))
    name = next(n for n in arrays if n.startswith("logits") and n.endswith("bias"))
    path.write_bytes(weights.to_bytes(arrays | {name: arrays[name] * np.nan}, notes))
    assert "error: " in refuses("export", "spoilt", "models/m", code=1)
