"""Gradual unfreezing: what has moved after each epoch, and a run that was stopped in between."""

import numpy as np
import pytest

from kerasft import Recipe, train
from kerasft._core import weights
from kerasft._core.errors import InputError, Interrupted
from kerasft.backbones import depths
from kerasft.methods import GradualUnfreezing, adapt
from kerasft.optimizers import Pace, PacedAdamW
from kerasft.testing import tiny
from kerasft.training.callbacks.keeper import Keeper
from kerasft.training.train import Run

EPOCHS = 4
WORDS = {"spam": ["free", "prize", "call", "now"], "ham": ["film", "story", "good", "the"]}


def rows():
    random = np.random.default_rng(0)
    kinds = ["spam", "ham"] * 16
    return [{"text": " ".join(random.choice(WORDS[kind], 4)), "label": kind} for kind in kinds]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Two blocks; three steps an epoch."""
    folder = str(tmp_path_factory.mktemp("preset") / "two-blocks")
    tiny.backbone("bert").save_to_preset(folder)
    tiny.tokenizer("bert").save_to_preset(folder)
    return Recipe(
        preset=folder,
        data={"train": rows(), "validation": 0.25, "max_length": 16},
        method="gradual-unfreezing",
        training={
            "epochs": EPOCHS,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "weight_decay": 0.1,
            "dropout": 0.1,
            "checkpoint_steps": 1,
        },
    )


def watched(recipe, out, resume=False):
    """Weights before the first step and after each epoch."""
    seen = []
    end, fit = Keeper.on_epoch_end, Run.fit

    def note_start(run, resume):
        seen.append(weights.state_of(run.pipe.model))
        fit(run, resume)

    def note(keeper, epoch, logs=None):
        seen.append(weights.state_of(keeper.model.model))
        end(keeper, epoch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "fit", note_start)
        patch.setattr(Keeper, "on_epoch_end", note)
        pipe = train(recipe, out=out, resume=resume, verbose=0)
    return pipe, seen


def check_epochs(pipe, seen):
    """Of the weights that have a gradient at all, exactly those whose turn it is have moved."""
    depth = depths(pipe.backbone)
    assert sorted(set(depth.values())) == [0, 1, 2, 3]
    read = {path for path in seen[0] if (seen[-1][path] != seen[0][path]).any()}
    assert {depth.get(path, 0) for path in read} == {0, 1, 2, 3} and "logits/kernel" in read
    for epoch in range(EPOCHS):
        moved = {path for path in seen[0] if (seen[epoch + 1][path] != seen[0][path]).any()}
        assert moved == {path for path in read if depth.get(path, 0) <= epoch + 1}, epoch


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    return watched(recipe, tmp_path_factory.mktemp("runs") / "whole")


def test_every_epoch_one_more_block_moves(whole):
    check_epochs(*whole)


def test_an_epoch_that_is_ignored_is_caught(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(PacedAdamW, "_rate", lambda self, pace, rate: rate * pace.multiplier)
    found = watched(recipe, tmp_path / "run")
    with pytest.raises(AssertionError):
        check_epochs(*found)


@pytest.mark.parametrize("moment", [(0, 2), (2, 1)])
@pytest.mark.slow
def test_a_stopped_run_ends_as_the_whole_one(recipe, whole, tmp_path, monkeypatch, moment):
    """At a moment from which the pace would be another if it were counted from the resume."""

    def stop(keeper, *_, **__):
        if (keeper.epoch, keeper.step) == moment:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "on_train_batch_begin", stop, raising=False)
        with pytest.raises(Interrupted):
            train(recipe, out=tmp_path / "run", verbose=0)
    _, seen = watched(recipe, tmp_path / "run", resume=True)
    for path, value in whole[1][-1].items():
        np.testing.assert_array_equal(seen[-1][path], value, err_msg=path)


def test_so_many_blocks_an_epoch():
    """Four blocks: above them, the last to the first, embeddings."""
    backbone = tiny.backbone("bert", num_layers=4)
    depth = depths(backbone)
    for at_once, epochs in ((1, [0, 0, 1, 2, 3, 4]), (2, [0, 0, 0, 1, 1, 2]), (9, [0] * 6)):
        paces = GradualUnfreezing(at_once).paces(backbone)
        assert {depth[path]: pace for path, pace in paces.items()} == {
            place: Pace(from_epoch=epoch) for place, epoch in enumerate(epochs)
        }


def test_wrong_options():
    with pytest.raises(InputError, match="`blocks_per_epoch` must be a whole number, at least 1"):
        GradualUnfreezing(0)
    with pytest.raises(InputError, match="Gradual unfreezing needs blocks.*Use `full`"):
        adapt(tiny.backbone("albert"), "gradual-unfreezing")
