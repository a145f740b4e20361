"""A run trained on with new rows: what is learned, what is compared, and what is exported."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from kerasft import InputError, Recipe, load, retrain, train
from kerasft._core import weights
from kerasft._core.errors import Interrupted
from kerasft.data import open_source, text_key
from kerasft.evaluation import Comparison
from kerasft.export.deploy import versions
from kerasft.testing.tiny import LETTERS
from kerasft.training.added import Rows, gather
from kerasft.training.callbacks.keeper import Keeper
from kerasft.training.paces import run_paces
from kerasft.training.prepare import build_model, prepare_data
from kerasft.training.retrain import Retrained, _data_of, _exported, _plan

HAM, SPAM = ("film", "story", "good"), ("free", "prize", "call")
FIELDS = {"text": "text", "label": "label"}
QUICK = ("training.epochs=6", "training.learning_rate=0.02")
# Spam as it is written now: in the words of honest mails, and known by words that no old row holds.
NEW = {"spam": ("bad you", HAM), "ham": ("was the", SPAM)}


def wording(count=40, seed=1):
    """Rows of a new wording, which the old model gets wrong; no two are alike."""
    random, found = np.random.default_rng(seed), {}
    while len(found) < count:
        label = ("spam", "ham")[len(found) % 2]
        mark, words = NEW[label]
        text = f"{mark} {' '.join(random.choice(words, 4))} {mark} {LETTERS[seed]}"
        found[text] = label
    return [{"text": text, "label": label} for text, label in found.items()]


@pytest.fixture(scope="module")
def run(make_recipe, make_rows, write_csv, tmp_path_factory):
    """The folder of a run that has learned the old words."""
    folder = tmp_path_factory.mktemp("old")
    rows = write_csv(folder / "rows.csv", make_rows(80))
    training = {"epochs": 8, "learning_rate": 2e-2}
    train(make_recipe(data={"train": rows}, training=training), out=folder / "run", verbose=0)
    return folder / "run"


@pytest.fixture(scope="module")
def better(run, tmp_path_factory):
    """What rows of a new wording make of it."""
    place = tmp_path_factory.mktemp("better")
    held = held_out_texts(run)
    leak = {"text": held[0].upper(), "label": "spam"}
    added = [*wording(), leak]
    served = place / "saved_models" / "mails"
    (served / "1").mkdir(parents=True)  # a version that is there already
    out = place / "new"
    found = retrain(run, added, out, overrides=QUICK, export=served, label="canary", verbose=0)
    return found, out, served, leak


def held_out_texts(run):
    """The texts of the old test rows, from split.csv and the rows."""
    parts = (run / "split.csv").read_text().splitlines()[1:]
    rows = open_source(Recipe.load(run / "recipe.yaml").data.train, FIELDS)
    (chunk,) = rows.chunks()
    return [t for t, p in zip(chunk["text"], parts, strict=True) if p.endswith(",test")]


def texts(path):
    return [json.loads(line)["text"] for line in Path(path).read_text().splitlines()]


def test_new_wording_is_learned_and_exported_as_version_2(better, run):
    found, out, served, _ = better
    new = found.compared["held-out new rows"]
    assert new.gain > 0.2 and new.interval[0] > 0 and new.metric == "macro_f1"
    assert found.passed and found.exported == f"{served}/2" and found.label == "canary"
    assert "canary" in (served / "deploy" / "models.config").read_text()
    said = json.loads((out / "comparison.json").read_text())
    assert said["passed"] and said["exported"] == found.exported and said["old"] == str(run)
    assert said["compared"]["held-out new rows"]["gain"] == new.gain
    # The score of the new run is that of its report.
    report = json.loads((out / "metrics.json").read_text())
    assert report["rows"] == new.rows + found.compared["old test rows"].rows


def test_held_out_rows_stay_held_out_and_leaks_are_counted(better, run):
    found, out, _, leak = better
    learned = texts(out / "data" / "train.jsonl") + texts(out / "data" / "validation.jsonl")
    held = held_out_texts(run)
    assert found.rows["leaks"] == 1
    keys = set(map(text_key, learned))
    assert not keys & set(map(text_key, held)) and text_key(leak["text"]) not in keys
    assert texts(out / "data" / "test.jsonl")[: len(held)] == held
    rows = found.rows
    assert rows["train"] + rows["validation"] + rows["held_out"] + rows["leaks"] == rows["added"]
    assert rows["held_out"] == found.compared["held-out new rows"].rows == 8
    assert not keys & set(map(text_key, texts(out / "data" / "test.jsonl")))


def test_it_starts_from_the_old_weights(better, run, tmp_path):
    """With a learning rate of nearly nothing the new model is the old one."""
    found = retrain(
        run,
        wording(),
        tmp_path / "new",
        overrides=("training.epochs=1", "training.learning_rate=1e-12"),
        verbose=0,
    )
    one, other = (weights.state_of(p.model) for p in (load(run), found.pipe))
    assert one.keys() == other.keys()
    assert all(np.allclose(one[k], other[k], atol=1e-8) for k in one)
    assert all(c.gain == 0 and c.interval == (0, 0) for c in found.compared.values())
    assert found.passed
    moved = weights.state_of(better[0].pipe.model)
    assert not all(np.allclose(one[k], moved[k], atol=1e-3) for k in one)


def test_flipped_labels_make_it_worse_and_nothing_is_exported(run, tmp_path, make_rows):
    added = make_rows(60, seed=5)
    for row in added:
        row["label"] = {"ham": "spam", "spam": "ham"}[row["label"]]
    served = tmp_path / "saved_models" / "mails"
    found = retrain(run, added, tmp_path / "new", overrides=QUICK, export=served, verbose=0)
    assert not found.passed and "old test rows" in found.worse
    # On the new rows, whose labels are flipped too, it has gained: one set is enough to refuse.
    assert found.compared["held-out new rows"].gain > 0
    assert found.exported is None and not served.exists()
    assert json.loads((tmp_path / "new" / "comparison.json").read_text())["worse"] == [
        "old test rows"
    ]


def test_a_retrained_run_is_retrained_again(better, run, tmp_path):
    """Its rows lie in the run, also where that has moved; what was held out stays so."""
    moved = shutil.copytree(better[1], tmp_path / "moved")
    recipe = _data_of(str(moved), Recipe.load(moved / "recipe.yaml"))
    assert recipe.data.test == str(moved / "data" / "test.jsonl")
    rows = gathered(moved, wording(20, seed=3), recipe=recipe)
    before = texts(moved / "data" / "test.jsonl")
    assert len(rows.compared["old test rows"]) == len(before)
    rows.write(tmp_path / "data")
    assert texts(tmp_path / "data" / "test.jsonl")[: len(before)] == before
    assert Recipe.load(moved / "recipe.yaml").start == str(run)


def test_validation_rows_stand_for_test_rows(run, tmp_path):
    """And new rows that were held out are compared too from then on."""
    recipe = Recipe.load(run / "recipe.yaml", "data.test=null")
    begun(recipe, tmp_path / "run")
    rows = gathered(tmp_path / "run", wording(), model=run)
    assert list(rows.compared) == ["old validation rows", "held-out new rows"]
    rows.write(tmp_path / "second" / "data")
    plan = _plan("run", recipe, rows, str(tmp_path / "second"))
    begun(plan.replace("start=null"), tmp_path / "second")
    rows = gathered(tmp_path / "second", wording(seed=9), model=run)
    assert list(rows.compared) == ["old validation rows", "old test rows", "held-out new rows"]


def begun(recipe, folder):
    """What a run leaves of its recipe and its split."""
    recipe.save(folder / "recipe.yaml")
    split = prepare_data(recipe).split.to_json()
    (folder / "split.json").write_text(json.dumps(split), encoding="utf-8")


def gathered(folder, added, model=None, recipe=None, held_out=None, share=0.2):
    """The rows of a retraining that is not made."""
    recipe = recipe or Recipe.load(folder / "recipe.yaml")
    return gather(str(folder), load(model or folder), recipe, recipe.seed, added, held_out, share)


@pytest.mark.parametrize("method", ["lora", pytest.param("prompt-tuning", marks=pytest.mark.slow)])
def test_the_same_adapter_goes_on(make_recipe, make_rows, write_csv, tmp_path, method):
    rows = write_csv(tmp_path / "rows.csv", make_rows())
    options = {"name": method} | ({"virtual_tokens": 4} if method == "prompt-tuning" else {})
    train(make_recipe({"train": rows}, method=options), out=tmp_path / "run", verbose=0)
    found = retrain(
        tmp_path / "run",
        wording(),
        tmp_path / "new",
        overrides=("training.epochs=1", "training.learning_rate=1e-12"),
        share=0,
        verbose=0,
    )
    one, other = (weights.state_of(p.model) for p in (load(tmp_path / "run"), found.pipe))
    assert one.keys() == other.keys()
    assert all(np.allclose(one[k], other[k], atol=1e-8) for k in one)
    assert list(found.compared) == ["old test rows"] and found.method == method


def learned_texts(run):
    """The texts of the old training rows."""
    parts = (run / "split.csv").read_text().splitlines()[1:]
    (chunk,) = open_source(Recipe.load(run / "recipe.yaml").data.train, FIELDS).chunks()
    return [t for t, p in zip(chunk["text"], parts, strict=True) if p.endswith(",train")]


def test_rows_of_the_same_text_make_room(run, tmp_path):
    """An added row with the text of a training row takes its place, with its own label."""
    learned = learned_texts(run)
    corrected = [{"text": t.upper(), "label": "spam"} for t in dict.fromkeys(learned[:3])]
    rows = gathered(run, corrected)
    assert rows.counts["train"] == rows.counts["added"] == len(corrected)
    assert rows.counts["replaced"] == sum(learned.count(t) for t in dict.fromkeys(learned[:3]))
    rows.write(tmp_path / "data")
    now = texts(tmp_path / "data" / "train.jsonl")
    assert now[-len(corrected) :] == [row["text"] for row in corrected]
    assert not set(now) & set(learned[:3]) and len(now) == len(learned)
    assert list(rows.compared) == ["old test rows"]
    every = [{"text": text, "label": "spam"} for text in dict.fromkeys(learned)]
    gathered(run, every).write(tmp_path / "all")
    assert texts(tmp_path / "all" / "train.jsonl") == [row["text"] for row in every]


def test_a_held_out_file(run, tmp_path):
    """Its rows are not trained on, and those that were trained on are not compared."""
    own, added, path = wording(10, seed=20), wording(30), tmp_path / "held.jsonl"
    lines = [json.dumps(row) for row in (*own, {"text": learned_texts(run)[0], "label": "ham"})]
    path.write_text("\n".join(lines), encoding="utf-8")
    rows = gathered(run, [*added, *own[:4]], held_out=path)
    assert rows.counts["leaks"] == 4 and rows.counts["seen"] == 1
    assert list(rows.compared) == ["old test rows", str(path), "held-out new rows"]
    assert len(rows.compared[str(path)]) == 10
    rows.write(tmp_path / "data")
    written = [t for file in (tmp_path / "data").glob("*.jsonl") for t in texts(file)]
    assert not set(written) & {row["text"] for row in own}
    assert set(written) > {row["text"] for row in added}
    seen = [{"text": text, "label": "ham"} for text in learned_texts(run)]
    with pytest.raises(InputError, match="has not learned"):
        gathered(run, added, held_out=seen)
    assert list(gathered(run, added, share=0).compared) == ["old test rows"]


def test_few_rows_are_for_learning(run):
    rows = gathered(run, wording(2), share=0)
    assert (rows.counts["train"], rows.counts["validation"]) == (2, 0)


ROUND = {
    "question-answering": (
        {"question": "text", "context": "text", "answers": "answers"},
        [
            {
                "question": "who?",
                "context": "Ann in Oslo",
                "answers": {"text": ["Ann", "gone"], "answer_start": [0, -1]},
            },
            {"question": "what?", "context": "Ann in Oslo", "answers": []},
        ],
    ),
    "token-classification": (
        {"text": "text", "spans": "spans", "words": "words"},
        [{"tokens": ["Ann", "in", "Oslo"], "tags": ["B-PER", "O", "B-LOC"]}],
    ),
    "causal-lm": (
        {"messages": "messages"},
        [{"messages": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}],
    ),
    "text-classification": (
        {"text": "text", "text_pair": "optional text", "label": "labels"},
        [{"text": "a|b", "label": "x|y"}, {"text": "很好", "label": []}],
    ),
    "text-similarity": (
        {"text": "texts", "score": "number", "place": "whole"},
        [{"text": "a|b", "score": "0.1", "place": 3.0}],
    ),
}


@pytest.mark.parametrize("task", ROUND)
def test_rows_of_every_kind_are_read_as_they_were_written(task, tmp_path):
    fields, given = ROUND[task]
    columns = {"text": "body"} if task == "text-classification" else {}
    given = [{columns.get(name, name): value for name, value in row.items()} for row in given]
    source = open_source(given, fields, columns)
    Rows({"train": [source]}, {}, (), {}).write(tmp_path / "data")
    again = open_source(tmp_path / "data" / "train.jsonl", fields, columns)
    assert list(again.chunks()) == list(source.chunks())
    assert list(again.every_row().chunks()) == list(source.every_row().chunks())


# --- labels, and runs to start from -------------------------------------------------------------


def test_a_label_that_stands_elsewhere_waits_until_its_version_is_loaded(better, tmp_path):
    """TF Serving refuses the file if a label moves to a version that is not loaded."""
    found, _, served, _ = better
    copy = shutil.copytree(served, tmp_path / "mails")

    class Exported:
        def export(self, folder, run):
            return str(shutil.copytree(copy / "2", copy / "3"))

    found = dataclasses.replace(found, pipe=Exported(), exported=None, label=None)
    found = _exported(found, str(copy), "canary", "run")
    assert (found.exported, found.label, found.waits) == (str(copy / "3"), None, "canary")
    labels = {v.number: (v.labels, v.served) for v in versions.versions(copy)}
    assert labels[2] == (("canary",), True) and labels[3] == ((), True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("method=lora",), "own task and method"),
        (("task=token-classification",), "own task and method"),
        (("start=nowhere",), "came to its end"),
        (("data.max_length=4096",), "reads at most"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(run, changes, said):
    recipe = Recipe.load(run / "recipe.yaml", f"start={run}", *changes)
    with pytest.raises(InputError, match=said):
        build_model(prepare_data(recipe), "float32")


def test_a_start_has_its_labels_and_a_head_that_is_not_new(run):
    """The doctor sees the same model, and labels keep their places."""
    recipe = Recipe.load(run / "recipe.yaml", f"start={run}", "training.learning_rate=1e-4")
    prepared = prepare_data(recipe.replace("preset=nowhere", "task.class_weights=balanced"))
    model, _ = build_model(prepared, "float32")
    assert prepared.task.labels == load(run).task.labels
    assert np.allclose(prepared.task.class_weights, 1, atol=0.1)
    assert {p.multiplier for p in run_paces(prepared, model, model).values()} == {1.0}
    fresh = prepare_data(Recipe.load(run / "recipe.yaml", "training.learning_rate=1e-4"))
    model, _ = build_model(fresh, "float32")
    assert len({p.multiplier for p in run_paces(fresh, model, model).values()}) == 2


# --- stopped ------------------------------------------------------------------------------------


def test_the_comparison_that_is_left_is_made(better, run, tmp_path):
    """Of a run that was stopped after its training."""
    found, whole, _, leak = better
    out = shutil.copytree(whole, tmp_path / "new")
    (out / "comparison.json").unlink()
    added = [*wording(), leak]
    with pytest.raises(InputError, match="not those that the run and the added file give"):
        retrain(run, added[:-1], out, overrides=QUICK, resume=True, verbose=0)
    again = retrain(run, added, out, overrides=QUICK, resume=True, verbose=0)
    assert again.compared == found.compared and (out / "comparison.json").exists()
    with pytest.raises(InputError, match="nothing to resume"):
        retrain(run, added, out, overrides=QUICK, resume=True, verbose=0)


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(better, run, tmp_path, monkeypatch):
    found, whole, _, leak = better
    out, added = tmp_path / "new", [*wording(), leak]

    def stop(keeper, *_, **__):
        if (keeper.epoch, keeper.step) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "on_train_batch_begin", stop, raising=False)
        with pytest.raises(Interrupted):
            retrain(run, added, out, overrides=QUICK, verbose=0)
    again = retrain(run, added, out, overrides=QUICK, resume=True, verbose=0)
    assert again.compared == found.compared
    assert (out / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


# --- the rule -----------------------------------------------------------------------------------


def judged(*gains, tolerance=0.0):
    compared = {str(i): Comparison("f1", 9, 0.5, 0.5, g, None) for i, g in enumerate(gains)}
    return Retrained("run", None, compared, tolerance, {}, "full")


@pytest.mark.parametrize(
    ("gains", "tolerance", "worse"),
    [
        ((0.0, 0.0), 0.0, ()),
        ((0.5, -0.001), 0.0, ("1",)),
        ((-0.1, 0.1), 0.1, ()),
        ((-0.11, 0.1), 0.1, ("0",)),
        ((None, 0.1), 0.0, ()),
    ],
)
def test_the_rule(gains, tolerance, worse):
    found = judged(*gains, tolerance=tolerance)
    assert found.worse == worse and found.passed == (not worse)


def test_without_a_defined_score_it_does_not_pass():
    assert not judged(None, None).passed


# --- what is refused ----------------------------------------------------------------------------


def refused(run, out, added=None, **options):
    with pytest.raises(InputError) as error:
        retrain(run, wording() if added is None else added, out, verbose=0, **options)
    assert not Path(out).exists() and "\n" not in str(error.value)
    return str(error.value)


def test_unknown_labels_are_refused(run, tmp_path):
    said = refused(run, tmp_path / "new", [*wording(), {"text": "the film", "label": "spma"}])
    assert "row 41" in said and "'spam'?" in said and "train anew on all rows" in said


def test_old_data_that_are_gone_are_refused(run, make_recipe, make_rows, tmp_path, write_csv):
    old = shutil.copytree(run, tmp_path / "run")
    recipe = (old / "recipe.yaml").read_text()
    there = Recipe.load(old / "recipe.yaml").data.train
    (old / "recipe.yaml").write_text(recipe.replace(there, str(tmp_path / "gone.csv")))
    said = refused(old, tmp_path / "new")
    assert "gone.csv" in said and "data.train=FILE" in said
    (old / "recipe.yaml").write_text(recipe.replace(there, "'<in memory: 80 rows>'"))
    assert "in memory: 80 rows" in refused(old, tmp_path / "new")
    other = write_csv(tmp_path / "other.csv", make_rows(80, seed=3))
    said = refused(old, tmp_path / "new", overrides=(f"data.train={other}",))
    assert "have changed" in said
    # Where they are found again, it goes on.
    found = Recipe.load(old / "recipe.yaml", f"data.train={there}")
    assert gathered(old, wording(), recipe=found).compared


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overrides": ("method=lora",)}, "goes on with the method"),
        ({"overrides": ("preset=bert_tiny",)}, "goes on with the preset"),
        ({"overrides": ("training.epoch=1",)}, "training.epoch"),
        ({"label": "canary"}, "saved_models/NAME"),
        ({"label": "a b", "export": "saved_models/x"}, "label"),
        ({"export": "saved_models/a b"}, "a b"),
        ({"tolerance": -1}, "tolerance"),
        ({"share": 1}, "share"),
        ({"added": [{"text": "the film"}]}, "label"),
        ({"added": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_wrong_input_is_refused(run, tmp_path, options, said):
    assert said in refused(run, tmp_path / "new", **options)


def test_rows_that_are_all_held_out_are_refused(run, tmp_path):
    added = [{"text": text, "label": "spam"} for text in held_out_texts(run)]
    assert "has no row to learn from" in refused(run, tmp_path / "new", added)


def test_what_is_no_finished_run_is_refused(run, tmp_path):
    assert "recipe.yaml" in refused(run / "model", tmp_path / "new")
    assert "recipe.yaml" in refused(tmp_path / "nowhere", tmp_path / "new")
