"""`kerasft retrain`: what it prints, and the codes it ends with."""

import dataclasses
import json

import pytest
from small_files import rows, written

from kerasft.evaluation import Comparison
from kerasft.training import retrain as module
from kerasft.training.retrain import Retrained

ROWS = {
    "added": 9,
    "train": 5,
    "validation": 1,
    "held_out": 2,
    "leaks": 1,
    "replaced": 0,
    "seen": 0,
}
BETTER = Comparison("macro_f1", 1200, 0.9, 0.95, 0.05, (-0.01, 0.11))
ERROR = Comparison("mae", 2, 0.5, 0.25, 0.25, (0.2, 0.3))
MADE = Retrained(
    "runs/a", None, {"old test rows": BETTER, "held-out new rows": ERROR}, 0.0, ROWS, "lora"
)


@pytest.fixture
def made(kerasft, monkeypatch):
    """The command on a comparison that is made up."""

    def call(*words, **changes):
        asked = {}

        def retrain(*args, **options):
            asked.update(options, args=args)
            return dataclasses.replace(MADE, **changes)

        monkeypatch.setattr(module, "retrain", retrain)
        return kerasft("retrain", "runs/a", "--add", "b.csv", "--out", "runs/b", *words), asked

    return call


def test_a_better_model(made):
    said, asked = made("training.epochs=2", "--tolerance", "0.01", "--share", "0.5")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert (
        "Of 9 added rows 5 were learned, 1 are for validation, 2 are held out; 1 stand" in said.out
    )
    table = {line[:17].strip(): " ".join(line[17:].split()) for line in lines}
    assert table["old test rows"] == "macro_f1 0.9000 0.9500 +0.0500 -0.0100 to +0.1100 1,200"
    # Of an error less is better, and that is a gain too.
    assert table["held-out new rows"] == "mae 0.5000 0.2500 +0.2500 +0.2000 to +0.3000 2"
    assert lines[-2].endswith("the gain, above 0 if better, is at least 0.")
    assert lines[-1] == (
        "Not worse. The run is in runs/b. Next: kerasft export runs/b saved_models/NAME"
    )
    assert asked["args"] == ("runs/a", "b.csv", "runs/b")
    assert asked["overrides"] == ("training.epochs=2",)
    assert (asked["tolerance"], asked["share"], asked["resume"]) == (0.01, 0.5, False)


def test_a_worse_model_ends_with_4(made):
    worse = dataclasses.replace(BETTER, new=0.8, gain=-0.1, interval=(-0.2, -0.1))
    said, asked = made("--export", "served/a", compared={"old test rows": worse})
    assert said.code == 4 and asked["export"] == "served/a"
    assert said.out.splitlines()[-1] == (
        "Worse on old test rows. Nothing was exported. The run is in runs/b."
    )


def test_no_score_is_no_better_model(made):
    nothing = Comparison("entity_f1", 1, None, None, None, None)
    said, _ = made(compared={"old test rows": nothing})
    assert said.code == 4 and "no score is defined" in said.out
    line = next(line for line in said.out.splitlines() if line.startswith("old test rows"))
    assert " ".join(line.split()) == "old test rows entity_f1 - - - - 1"


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({}, "Not worse: exported served/a/2. The run is in runs/b."),
        ({"label": "canary"}, "exported served/a/2 with the label canary."),
        ({"waits": "canary"}, "kerasft versions served/a --label canary=2"),
    ],
)
def test_what_was_exported(made, changes, last):
    said, _ = made("--export", "served/a", exported="served/a/2", **changes)
    assert said.code == 0 and last in said.out.splitlines()[-1]


def test_a_retraining(kerasft, trained, tmp_path):
    new = [{"text": f"{row['text']} bad", "label": row["label"]} for row in rows(12)]
    added, out = written(tmp_path / "new.jsonl", new), tmp_path / "new"
    said = kerasft(
        "retrain", trained, "--add", added, "--out", out, "--tolerance", 1, "training.epochs=1"
    )
    assert (said.code, said.err) == (0, "")
    assert "macro_f1" in said.out and "held-out new rows" in said.out
    compared = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert compared["passed"] and compared["tolerance"] == 1 and compared["exported"] is None


def test_wrong_input_is_one_line(refuses, trained, tmp_path):
    new = [{"text": "film good now", "label": "spma"}]
    added = written(tmp_path / "new.csv", new)
    line = refuses("retrain", trained, "--add", added, "--out", "new")
    assert "new.csv, line 2" in line and "Did you mean 'spam'?" in line
    line = refuses("retrain", trained, "--add", added, "--out", "new", "data.train=gone.csv")
    assert "gone.csv" in line and "data.train=FILE" in line
    line = refuses("retrain", trained, "more.csv", "--add", added, "--out", "new")
    assert "section.key=value" in line
    refuses("retrain", trained, "--add", added)
