"""Checkpoints that stay, signals, history and patience, and when the keeper writes."""

import json
import math
import os
import signal
import threading
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kerasft._core import weights
from kerasft._core.errors import DivergedError, Interrupted
from kerasft.training.callbacks import keeper as module
from kerasft.training.callbacks.checkpoints import Store
from kerasft.training.callbacks.interrupt import Interrupt
from kerasft.training.callbacks.keeper import Keeper
from kerasft.training.callbacks.progress import Progress, lower_is_better


def fitted(value=1.0):
    """What a checkpoint reads of a model in training."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
    model.layers[0].kernel.assign(np.full((2, 1), value, np.float32))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    running = keras.metrics.Mean().variables
    return SimpleNamespace(model=model, optimizer=optimizer, running=running, stop_training=False)


# --- the store ------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_stay(tmp_path, keep):
    store, made = Store(str(tmp_path), keep), fitted()
    for step in (3, 7, 20, 100):
        path = store.save(made, step, {"step": step})
        assert path == store.newest()
    assert store.steps() == [3, 7, 20, 100][-keep:]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"step-{step:09d}.safetensors" for step in store.steps()
    ]


def test_only_whole_checkpoints_count(tmp_path):
    store = Store(str(tmp_path))
    for name in ("best.safetensors", "step-1.safetensors", "step-000000009.safetensors.ab.tmp"):
        (tmp_path / name).write_bytes(b"")
    assert store.steps() == []
    store.save(fitted(), 2, {})
    assert store.steps() == [2]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best.safetensors",
        "step-000000002.safetensors",
        "step-1.safetensors",
    ], "what a killed process left half-written is gone, the rest is not ours"


def test_a_write_that_fails_leaves_the_last_one(tmp_path, monkeypatch):
    store, made = Store(str(tmp_path)), fitted()
    store.save(made, 1, {})

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        store.save(made, 2, {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001.safetensors"]
    assert weights.read(store.newest())[0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_not_kept(tmp_path, bad):
    store = Store(str(tmp_path))
    store.save(fitted(), 1, {})
    with pytest.raises(DivergedError, match="NaN or infinite.*Lower training.learning_rate"):
        store.save(fitted(bad), 2, {})
    assert store.steps() == [1]


def test_a_checkpoint_holds_weights_optimizer_metrics_and_notes(tmp_path):
    store, made = Store(str(tmp_path)), fitted(2.0)
    made.optimizer.momentums[0].assign(np.full((2, 1), 3.0))
    made.running[0].assign(4.0)
    path = store.save(made, 5, {"epoch": 1, "progress": {"best": None}})
    assert weights.read(path)[1] == {"epoch": 1, "progress": {"best": None}}
    other = fitted(0.0)
    metrics = store.restore(other, path)
    np.testing.assert_array_equal(other.model.layers[0].kernel, [[2.0], [2.0]])
    np.testing.assert_array_equal(other.optimizer.momentums[0], [[3.0], [3.0]])
    assert float(other.running[0]) == 4.0
    assert {k: float(v) for k, v in metrics.items()} == {"metric.00000": 4.0, "metric.00001": 0.0}


def test_the_best_weights_are_kept_apart(tmp_path):
    store, made = Store(str(tmp_path)), fitted(1.0)
    assert store.load_best(made.model) is False
    store.save_best(made.model)
    for step in (1, 2):
        made.model.layers[0].kernel.assign([[9.0], [9.0]])
        store.save(made, step, {})
    assert store.load_best(made.model) is True
    np.testing.assert_array_equal(made.model.layers[0].kernel, [[1.0], [1.0]])


# --- signals --------------------------------------------------------------------------------------


@pytest.fixture
def handlers():
    """The handlers before the test, which have to be there after it."""
    found = {number: signal.getsignal(number) for number in Interrupt.SIGNALS}
    # Who runs the tests in the background may have had Ctrl-C ignored.
    before = found | {signal.SIGINT: signal.default_int_handler}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield before
    for number, handler in found.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", Interrupt.SIGNALS, ids=lambda number: number.name)
def test_the_first_signal_is_a_flag(handlers, number):
    with Interrupt() as interrupt:
        assert interrupt.wanted is None
        os.kill(os.getpid(), number)
        assert interrupt.wanted == number.name
        assert {n: signal.getsignal(n) for n in handlers} == handlers, "the second acts as usual"


def test_the_second_ctrl_c_stops_at_once(handlers):
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.wanted == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_come_back(handlers):
    with Interrupt():
        assert {n: signal.getsignal(n) for n in handlers} != handlers
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    with pytest.raises(ZeroDivisionError), Interrupt():
        raise ZeroDivisionError
    assert {n: signal.getsignal(n) for n in handlers} == handlers


def test_in_another_thread_there_are_no_handlers(handlers):
    """Python would refuse them: training in a notebook's or a server's thread has to go on."""
    seen = []

    def inside():
        with Interrupt() as interrupt:
            seen.append((interrupt.wanted, {n: signal.getsignal(n) for n in handlers}))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [(None, handlers)]


# --- progress -------------------------------------------------------------------------------------


def best_epochs(monitor, values, patience=None):
    """Epochs that were the best so far, and the one after which patience was used up."""
    progress, best = Progress(monitor, patience), []
    for epoch, value in enumerate(values, 1):
        if progress.add({"epoch": epoch} | ({} if value is None else {monitor: value})):
            best.append(epoch)
        if progress.exhausted:
            return best, epoch
    return best, None


@pytest.mark.parametrize(
    ("monitor", "values", "patience", "expected"),
    [
        ("val_loss", [3, 2, 2, 1], None, ([1, 2, 4], None)),
        ("val_accuracy", [3, 2, 4, 4], None, ([1, 3], None)),
        ("val_loss", [2, 3, 1, 1, 1], 2, ([1, 3], 5)),
        ("val_loss", [2, 3, 1], 1, ([1], 2)),
        ("loss", [math.nan, 2, math.nan], 1, ([2], 3)),
        ("loss", [math.inf, math.nan], 1, ([], None)),
        ("loss", [None, 1], None, ([2], None)),
    ],
)
def test_best_epoch_and_patience(monitor, values, patience, expected):
    assert best_epochs(monitor, values, patience) == expected


def test_what_falls_and_what_rises():
    falling = ("loss", "val_loss", "val_cls_loss", "mae", "val_mae", "mse", "perplexity")
    assert all(lower_is_better(name) for name in falling)
    assert not any(lower_is_better(name) for name in ("accuracy", "val_accuracy", "macro_f1"))


def test_progress_comes_back_from_json():
    progress = Progress("val_loss", patience=2, seconds=1.5, before={"accuracy": 0.5})
    progress.add({"epoch": 1, "val_loss": 0.25})
    again = Progress(**json.loads(json.dumps(progress.to_json())))
    assert again == progress
    again.add({"epoch": 2, "val_loss": 0.125})
    assert again != progress and again.best_epoch == 2


# --- the keeper -----------------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A keeper of epochs with five batches, whose clock goes a minute a batch."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(module, "time", clock)

    def keeper(**options):
        store = Store(str(tmp_path / "checkpoints"), keep=99)
        history = str(tmp_path / "history.csv")
        made = Keeper(
            store, 5, Progress("loss", 1), Interrupt(), **{"history_path": history} | options
        )
        made.set_model(fitted())
        made.clock = clock
        return made

    return keeper


def epoch(keeper, number, losses):
    keeper.on_epoch_begin(number)
    for batch, loss in enumerate(losses):
        keeper.clock.now += 60
        keeper.on_train_batch_end(batch, {"loss": loss})
    keeper.on_epoch_end(number, {"loss": losses[-1]})


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, [5]),
        ({"every_steps": 2}, [2, 4, 5]),
        ({"every_steps": 1}, [1, 2, 3, 4, 5]),
        ({"every_minutes": 3}, [3, 5]),
        ({"every_minutes": 0.5}, [1, 2, 3, 4, 5]),
        ({"every_steps": 2, "every_minutes": 3}, [2, 4, 5]),
        ({"start": (0, 3), "every_steps": 2}, [4, 5]),
    ],
    ids=str,
)
def test_when_checkpoints_are_written(make, options, steps):
    keeper = make(**options)
    first = options.get("start", (0, 0))[1]
    epoch(keeper, 0, [1.0] * (5 - first))
    assert keeper.store.steps() == steps


def test_a_checkpoint_says_where_to_go_on(make):
    keeper = make(every_steps=2)
    epoch(keeper, 0, [1.0] * 5)
    epoch(keeper, 1, [0.5] * 5)
    notes = {}
    for step in keeper.store.steps():
        path = f"{keeper.store.folder}/step-{step:09d}.safetensors"
        found = weights.read(path)[1]
        notes[step] = (found["epoch"], found["step"], found["progress"]["seconds"])
    minutes = {step: 60.0 * step for step in notes}
    assert notes == {
        2: (0, 2, minutes[2]),
        4: (0, 4, minutes[4]),
        5: (1, 0, minutes[5]),
        7: (1, 2, minutes[7]),
        9: (1, 4, minutes[9]),
        10: (2, 0, minutes[10]),
    }


def test_history_best_weights_and_patience(make, tmp_path):
    keeper = make()
    epoch(keeper, 0, [2.0] * 5)
    keeper.model.model.layers[0].kernel.assign([[7.0], [7.0]])
    epoch(keeper, 1, [3.0] * 5)
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines == ["epoch,loss,val_loss", "1,2.0,", "2,3.0,"]
    assert keeper.model.stop_training, "one epoch without a better loss was allowed"
    keeper.store.load_best(keeper.model.model)
    np.testing.assert_array_equal(keeper.model.model.layers[0].kernel, [[1.0], [1.0]])


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops(make, loss):
    keeper = make(every_steps=1)
    with pytest.raises(DivergedError, match="in step 3 of epoch 1.*Lower training.learning_rate"):
        epoch(keeper, 0, [1.0, 1.0, loss, 1.0, 1.0])
    assert keeper.store.steps() == [1, 2]


def test_a_signal_makes_a_checkpoint_and_an_end(make):
    keeper = make()
    keeper.on_epoch_begin(0)
    keeper.on_train_batch_end(0, {"loss": 1.0})
    keeper.interrupt.wanted = "SIGTERM"
    with pytest.raises(Interrupted, match="Stopped by SIGTERM.*--resume"):
        keeper.on_train_batch_end(1, {"loss": 1.0})
    assert keeper.store.steps() == [2]


def test_a_signal_while_a_batch_ends_waits_for_the_next(make, monkeypatch):
    """Between the look at the flag and the end there is no moment without a checkpoint."""
    keeper = make()
    keeper.on_epoch_begin(0)
    looks = iter([None, "SIGTERM", "SIGTERM", "SIGTERM"])
    monkeypatch.setattr(Interrupt, "wanted", property(lambda _: next(looks)), raising=False)
    keeper.on_train_batch_end(0, {"loss": 1.0})
    assert keeper.store.steps() == []
    with pytest.raises(Interrupted):
        keeper.on_train_batch_end(1, {"loss": 1.0})
    assert keeper.store.steps() == [2]
