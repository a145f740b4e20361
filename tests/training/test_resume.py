"""A run that was stopped goes on as if it had not been, bit for bit, or says why it cannot."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasft import InputError, Recipe, load, train
from kerasft._core import files, weights
from kerasft._core.errors import DivergedError, Interrupted
from kerasft.methods import registry
from kerasft.training.callbacks.checkpoints import Store
from kerasft.training.callbacks.keeper import Keeper
from kerasft.training.prepare import prepare_data
from kerasft.training.resume import check_folder, standing

# Three steps an epoch; the rate is so small that the accuracy stays, so that training stops
# after the third of four epochs, and the best weights are those of the first.
TRAINING = {
    "epochs": 4,
    "early_stopping": 2,
    "monitor": "val_accuracy",
    "learning_rate": 1e-5,
    "head_learning_rate": 1e-5,
    "dropout": 0.1,
}
EPOCHS = 3


@pytest.fixture(scope="module")
def recipe(make_recipe, make_rows, write_csv, tmp_path_factory):
    rows = write_csv(tmp_path_factory.mktemp("data") / "rows.csv", make_rows())
    return make_recipe(data={"train": rows}, training=TRAINING)


# What a process of its own trained is compared to the bit, and that runs in a graph.
pytestmark = pytest.mark.graph


@pytest.fixture(scope="module")
def uninterrupted(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(recipe, out=folder, verbose=0)
    rows = (folder / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + EPOCHS, "the training that the tests stop should stop by itself"
    return folder


@pytest.fixture(scope="module")
def stopped(recipe, tmp_path_factory):
    """A run that was stopped in the middle of an epoch."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, *MOMENTS["the middle of an epoch"])
        with pytest.raises(Interrupted, match="SIGTERM.*run the same command with --resume"):
            train(recipe, out=folder, verbose=0)
    return folder


def stop(monkeypatch, epoch, step, number=signal.SIGTERM):
    """Send a signal to this process when a batch, or (step None) a validation, begins."""
    sent = []

    def send(keeper, *_, **__):
        if keeper.epoch == epoch and (step is None or keeper.step == step) and not sent:
            sent.append(True)
            os.kill(os.getpid(), number)

    hook = "on_test_begin" if step is None else "on_train_batch_begin"
    monkeypatch.setattr(Keeper, hook, send, raising=False)


def scores(folder):
    """metrics.json without the one number that is a time."""
    found = json.loads((Path(folder) / "metrics.json").read_text())
    return found | {"fit_seconds": None}


def same(one, other):
    one, other = Path(one), Path(other)
    assert (one / "history.csv").read_text() == (other / "history.csv").read_text()
    assert scores(one) == scores(other)
    for name in ("model/model.safetensors", "checkpoints/best.safetensors", "split.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    last = [weights.read(Store(str(run / "checkpoints")).newest())[0] for run in (one, other)]
    assert last[0].keys() == last[1].keys()
    for key, value in last[0].items():
        np.testing.assert_array_equal(value, last[1][key], err_msg=key)


MOMENTS = {
    "the first step": (0, 0),
    "the middle of an epoch": (1, 1),
    "the last step of an epoch": (1, 2),
    "validation": (0, None),
    "the last epoch": (EPOCHS - 1, 1),
    "the very last step": (EPOCHS - 1, 2),
    "the last validation": (EPOCHS - 1, None),
}


def test_a_stopped_run_ends_like_an_unstopped_one(recipe, uninterrupted, stopped, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "run")
    assert not (folder / "model").exists() and not (folder / "metrics.json").exists()
    train(recipe, out=folder, resume=True, verbose=0)
    same(folder, uninterrupted)


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, marks=() if m == "validation" else pytest.mark.slow) for m in MOMENTS],
)
def test_whenever_it_was_stopped(recipe, uninterrupted, tmp_path, monkeypatch, moment):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop(patch, *MOMENTS[moment])
        with pytest.raises(Interrupted):
            train(recipe, out=folder, verbose=0)
    train(recipe, out=folder, resume=True, verbose=0)
    same(folder, uninterrupted)


# A prompt leaves room for a text.
OPTIONS = {
    "prompt-tuning": {"virtual_tokens": 4},
    "p-tuning": {"virtual_tokens": 4},
    "lora": {"rank": 2, "dropout": 0.2},
}
METHODS = registry.names()


@pytest.mark.slow
@pytest.mark.contract("methods, stopped and resumed", of=len(METHODS))
@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_bit_for_bit(recipe, tmp_path, monkeypatch, method):
    goes_on(recipe, {"name": method} | OPTIONS.get(method, {}), tmp_path, monkeypatch)


@pytest.mark.slow
def test_adapters_left_out_at_random_go_on_bit_for_bit(recipe, tmp_path, monkeypatch):
    """The model of the other tests has one block, and one has to keep its adapter."""
    method = {"name": "adapters", "drop_random_blocks": 1}
    goes_on(recipe.replace("preset=bert_tiny"), method, tmp_path, monkeypatch)


def goes_on(recipe, method, tmp_path, monkeypatch):
    """Train as a whole, and stopped and resumed, and compare."""
    own = recipe.replace(f"method={json.dumps(method)}")
    own = own.replace("training.epochs=2", "training.early_stopping=null")
    own = own.replace("training.learning_rate=0.01")
    train(own, out=tmp_path / "whole", verbose=0)
    with monkeypatch.context() as patch:
        stop(patch, 1, 1)
        with pytest.raises(Interrupted):
            train(own, out=tmp_path / "run", verbose=0)
    resumed = train(own, out=tmp_path / "run", resume=True, verbose=0)
    same(tmp_path / "run", tmp_path / "whole")
    saved = json.loads((tmp_path / "run" / "model" / "kerasft.json").read_text())
    again = load(tmp_path / "run")
    moving = sorted(v.path for v in again.model.trainable_variables)
    assert moving == sorted(v.path for v in resumed.model.trainable_variables)
    assert moving == saved["trainable"]


@pytest.mark.slow
def test_a_run_may_be_stopped_again_and_again(recipe, uninterrupted, tmp_path, monkeypatch):
    folder, resume = tmp_path / "run", False
    for moment in ((0, 1), (0, 2), (1, 0), (1, 2), (2, 1)):
        with monkeypatch.context() as patch:
            stop(patch, *moment)
            with pytest.raises(Interrupted):
                train(recipe, out=folder, resume=resume, verbose=0)
        resume = True
    train(recipe, out=folder, resume=True, verbose=0)
    same(folder, uninterrupted)


def test_without_the_random_states_the_end_is_another(
    recipe, uninterrupted, stopped, tmp_path, monkeypatch
):
    """What makes the other tests fail if a random state is not restored."""
    folder = shutil.copytree(stopped, tmp_path / "run")
    restore = Store.restore

    def without_random_states(store, fitted, path):
        states = [v for v in fitted.model.variables if "seed_generator" in v.path]
        fresh = [(v, np.array(v)) for v in states]
        assert len(fresh) > 2
        metrics = restore(store, fitted, path)
        for variable, value in fresh:
            variable.assign(value)
        return metrics

    monkeypatch.setattr(Store, "restore", without_random_states)
    train(recipe, out=folder, resume=True, verbose=0)
    with pytest.raises(AssertionError):
        same(folder, uninterrupted)


@pytest.mark.slow
def test_one_seed_is_one_run(recipe, uninterrupted, tmp_path):
    train(recipe, out=tmp_path / "again", verbose=0)
    same(tmp_path / "again", uninterrupted)


# In processes of their own, through the command line


DRIVER = """
import os, signal, sys
from kerasft.cli.main import main
from kerasft.cli.output import start_quietly

start_quietly()
from kerasft.training.callbacks.keeper import Keeper

number, epoch, step = sys.argv.pop(1), int(sys.argv.pop(1)), int(sys.argv.pop(1))

def send(keeper, *_, **__):
    if (keeper.epoch, keeper.step) == (epoch, step):
        os.kill(os.getpid(), getattr(signal, number))

Keeper.on_train_batch_begin = send
main()
"""


def command(*words, number="SIGTERM", epoch=99, step=0):
    """`kerasft` as a process of its own, which sends itself a signal at a step."""
    words = [sys.executable, "-c", DRIVER, number, str(epoch), str(step), *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def words(recipe, tmp_path_factory):
    """The command that makes the run."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    recipe.save(path)
    return ("train", path, "training.checkpoint_steps=1", "--out")


@pytest.mark.parametrize(
    ("number", "epoch", "step"),
    [
        ("SIGTERM", 1, 1),
        pytest.param("SIGINT", 0, 2, marks=pytest.mark.slow),
        pytest.param("SIGTERM", 2, 2, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_with_75_and_a_line_and_is_made_up_for(
    words, uninterrupted, tmp_path, number, epoch, step
):
    out = tmp_path / "run"
    done = command(*words, out, number=number, epoch=epoch, step=step)
    assert done.returncode == 75, done.stderr
    (line,) = done.stderr.splitlines()
    assert line == (
        f"interrupted: Stopped by {number}. The checkpoint in {out}/checkpoints stands; "
        "run the same command with --resume to go on."
    )
    done = command(*words, out, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert "accuracy" in done.stdout and f"The run is in {out}" in done.stdout
    same(out, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (2, 2)])
def test_a_killed_run_goes_on_from_its_last_checkpoint(words, uninterrupted, tmp_path, epoch, step):
    out = tmp_path / "run"
    done = command(*words, out, number="SIGKILL", epoch=epoch, step=step)
    assert done.returncode == -signal.SIGKILL
    assert Store(str(out / "checkpoints")).steps() == [3 * epoch + step]
    (out / "checkpoints" / "step-000000009.safetensors.abc.tmp").write_bytes(b"half")
    assert command(*words, out, "--resume").returncode == 0
    assert {p.name for p in (out / "checkpoints").iterdir()} == {
        p.name for p in (uninterrupted / "checkpoints").iterdir()
    }
    same(out, uninterrupted)


# What cannot be resumed


@pytest.fixture
def begun(recipe, tmp_path):
    """The folder of a run that was stopped, without the training."""
    folder = tmp_path / "begun"
    recipe.save(folder / "recipe.yaml")
    split = prepare_data(recipe).split.to_json()
    (folder / "split.json").write_text(json.dumps(split), encoding="utf-8")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step-000000002.safetensors").write_bytes(
        weights.to_bytes({"model.00000": np.zeros(3)}, {"epoch": 0, "step": 2})
    )
    return folder


def refused(recipe, folder):
    before = sorted(p for p in folder.rglob("*"))
    with pytest.raises(InputError) as error:
        train(recipe, out=folder, resume=True, verbose=0)
    assert sorted(p for p in folder.rglob("*")) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_recipe_is_refused_with_what_differs(recipe, begun):
    other = recipe.replace("training.epochs=5", "method=lora", "seed=1")
    said = refused(other, begun)
    assert "training.epochs is 5 and was 4" in said
    assert "method.name is 'lora' and was 'full'" in said
    assert "seed is 1 and was 0" in said
    assert "training.warmup" not in said
    assert str(begun / "recipe.yaml") in said


def test_many_differences_are_counted(recipe, begun):
    other = recipe.replace("training={epochs: 9, batch_size: 1, dropout: 0.5, warmup: 0.5}")
    assert "and 5 more" in refused(other, begun)


def test_other_data_are_refused(recipe, begun, make_rows, write_csv, tmp_path):
    elsewhere = recipe.replace(f"data.train={write_csv(tmp_path / 'rows.csv', make_rows())}")
    assert "data.train is" in refused(elsewhere, begun)
    elsewhere.save(begun / "recipe.yaml")
    write_csv(tmp_path / "rows.csv", make_rows(seed=7))
    assert "data have changed" in refused(elsewhere, begun)


def test_rows_in_memory_are_told_by_their_number_and_content(recipe, begun, make_rows):
    sections = {"task": recipe.task, "method": recipe.method, "training": recipe.training}
    data = dict(recipe.data) | {"train": make_rows()}
    now = Recipe(preset=recipe.preset, data=data, **sections)
    now.save(begun / "recipe.yaml")
    split = prepare_data(now).split.to_json()
    (begun / "split.json").write_text(json.dumps(split), encoding="utf-8")
    assert "belongs to another model" in refused(now, begun)
    fewer = Recipe(preset=recipe.preset, data=data | {"train": make_rows(40)}, **sections)
    assert "data.train is '<in memory: 40 rows>' and was" in refused(fewer, begun)
    other = Recipe(preset=recipe.preset, data=data | {"train": make_rows(seed=7)}, **sections)
    assert "data have changed" in refused(other, begun)


def test_when_checkpoints_are_written_may_change(recipe, begun):
    other = recipe.replace("training.checkpoint_steps=1", "training.keep=3")
    # The recipe passes; what lies there as a checkpoint is of another model.
    assert "belongs to another model" in refused(other, begun)


def test_a_damaged_checkpoint_is_refused(recipe, begun):
    (begun / "checkpoints" / "step-000000002.safetensors").write_bytes(b"half")
    assert "is not a whole safetensors file" in refused(recipe, begun)


def test_no_checkpoint_no_resume(recipe, tmp_path):
    with pytest.raises(InputError, match="no checkpoint.*Train without --resume"):
        train(recipe, out=tmp_path / "nothing", resume=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="needs the run folder"):
        train(recipe, resume=True)


def test_a_complete_run_is_not_resumed_and_none_is_overwritten(recipe, uninterrupted):
    with pytest.raises(InputError, match="is complete"):
        train(recipe, out=uninterrupted, resume=True)
    with pytest.raises(InputError, match="not empty, and a run is never overwritten"):
        train(recipe, out=uninterrupted)


# What stops a run


def full(monkeypatch, after):
    """Let the disk be full once so many checkpoints have been written."""
    save, saved = Store.save, []

    def failing(*args):
        if len(saved) == after:
            raise OSError(errno.ENOSPC, "No space left on device", "step")
        saved.append(args)
        return save(*args)

    monkeypatch.setattr(Store, "save", failing)


def test_a_full_disk_before_the_first_checkpoint_leaves_nothing(recipe, tmp_path, monkeypatch):
    full(monkeypatch, after=0)
    with pytest.raises(OSError, match="No space left"):
        train(recipe, out=tmp_path / "deep" / "run", verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_last_checkpoint(recipe, tmp_path, monkeypatch):
    full(monkeypatch, after=1)
    with pytest.raises(InputError, match="disk is full.*stands; run the same.* --resume"):
        train(recipe, out=tmp_path / "run", verbose=0)
    assert Store(str(tmp_path / "run" / "checkpoints")).steps() == [3]


def test_a_loss_that_is_no_number_stops_and_leaves_the_last_good_checkpoint(make_recipe, tmp_path):
    wild = {"epochs": 2, "learning_rate": 1e30, "warmup": 0.4, "checkpoint_steps": 1}
    with pytest.raises(DivergedError, match="learning_rate.*last good checkpoint is"):
        train(make_recipe(training=wild), out=tmp_path / "run", verbose=0)
    arrays, _ = weights.read(Store(str(tmp_path / "run" / "checkpoints")).newest())
    assert all(np.isfinite(a).all() for k, a in arrays.items() if k.startswith("model."))


def test_a_loss_that_is_no_number_at_once_leaves_nothing(make_recipe, tmp_path):
    wild = {"learning_rate": 1e30, "warmup": 0}
    with pytest.raises(DivergedError, match="Lower training.learning_rate"):
        train(make_recipe(training=wild), out=tmp_path / "run", verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_folder_says_that_nothing_is_kept(recipe, monkeypatch):
    stop(monkeypatch, 0, 1)
    with pytest.raises(Interrupted, match="Nothing was kept"):
        train(recipe, verbose=0)


def test_stopped_while_the_model_is_written(recipe, uninterrupted, tmp_path):
    """Nothing is left to be trained; a model that is there already is written again."""
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    (folder / "metrics.json").unlink()
    (folder / "model" / "model.safetensors").write_bytes(b"half")
    train(recipe, out=folder, resume=True, verbose=0)
    same(folder, uninterrupted)


# What `standing` makes of it


@pytest.mark.parametrize(
    ("error", "becomes", "said"),
    [
        (KeyboardInterrupt(), Interrupted, "Stopped by Ctrl-C. .*--resume"),
        (SystemExit("SIGTERM"), Interrupted, "Stopped by SIGTERM. .*--resume"),
        (OSError(errno.ENOSPC, "No space"), InputError, "disk is full.*--resume"),
        (DivergedError("The loss became nan."), DivergedError, "nan. The last good checkpoint is"),
        (InputError("The data are wrong."), InputError, "The data are wrong.$"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
def test_a_checkpoint_stands_whatever_happens(tmp_path, error, becomes, said):
    store = Store(str(tmp_path / "checkpoints"))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000001.safetensors").write_bytes(b"")
    with pytest.raises(becomes, match=said), standing(str(tmp_path), store, keeps=True):
        raise error
    assert store.steps() == [1]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("scheme", ["", "ram://"])
def test_without_a_checkpoint_nothing_stays(tmp_path, there, scheme):
    import tensorflow as tf

    folder = f"{scheme}{tmp_path}/deep/run"
    if there:
        tf.io.gfile.makedirs(folder)
    store = Store(f"{folder}/checkpoints")
    with pytest.raises(KeyboardInterrupt), standing(folder, store, keeps=True):
        files.write_text(f"{folder}/recipe.yaml", "seed: 0")
        files.write_text(f"{folder}/logs/x", "x")
        raise KeyboardInterrupt
    assert files.names(folder) == []
    if not scheme:
        assert [p.name for p in tmp_path.iterdir()] == (["deep"] if there else [])


@pytest.mark.parametrize(
    ("place", "said"),
    [("file", "is a file"), ("file/run", "is a file"), ("full/run", None)],
)
def test_the_run_folder_must_be_possible(tmp_path, place, said):
    (tmp_path / "file").write_text("x")
    folder = str(tmp_path / place)
    store = Store(f"{folder}/checkpoints")
    if said is None:
        check_folder(folder, store, resume=False, keeps=True)
        return
    with pytest.raises(InputError, match=f"cannot be made: {tmp_path}/file {said}"):
        check_folder(folder, store, resume=False, keeps=True)
