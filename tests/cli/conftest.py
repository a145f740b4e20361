"""The program called as its console script calls it, on small files and a preset of one block."""

import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from small_files import listing, rows, written

from kerasft.cli.main import main
from kerasft.testing import tiny


class Said(NamedTuple):
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def kerasft(capsys, monkeypatch):
    """`kerasft("train", ...)` is the console script, in this process."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["kerasft", *map(str, words)])
        handler = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        return Said(ended.value.code, *capsys.readouterr())

    return call


@pytest.fixture
def refuses(kerasft, tmp_path, monkeypatch):
    """`refuses("train", ...)` in an own folder: one line, code 2, not a file changed.

    With `begun=True` training has begun, and its progress is on stdout.
    """
    monkeypatch.chdir(tmp_path)

    def call(*words, code=2, begun=False):
        before = listing(tmp_path)
        said = kerasft(*words)
        assert said.code == code, said.err
        (line,) = said.err.splitlines()
        assert line.startswith("error: ") and len(line) < 600
        assert said.out.startswith("Epoch 1/") if begun else said.out == ""
        assert listing(tmp_path) == before
        return line

    return call


@pytest.fixture(scope="session")
def preset(tmp_path_factory):
    """A KerasHub preset folder: BERT with one block of 16 units and a few dozen words."""
    folder = tmp_path_factory.mktemp("preset") / "one-block"
    tiny.backbone("bert", num_layers=1).save_to_preset(str(folder))
    tiny.tokenizer("bert").save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def recipe(preset, tmp_path_factory):
    """`recipe(data)` writes a recipe that trains in seconds; more keys are put over its own."""
    folder = tmp_path_factory.mktemp("recipes")

    def make(data, task=None, **training):
        from kerasft import Recipe

        path = folder / f"{len(list(folder.iterdir()))}.yaml"
        sections = {
            "task": {"name": "text-classification"} | (task or {}),
            "data": {"validation": 0.25, "test": 0.25, "max_length": 16} | data,
            "training": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2} | training,
        }
        Recipe(preset=preset, **sections).save(path)
        return str(path)

    return make


@pytest.fixture(scope="session")
def run_of():
    """`run_of(recipe, folder)` trains a run, without the command line."""

    def train(path, folder, *overrides):
        import kerasft as kf

        kf.train(kf.Recipe.load(path, *overrides), out=folder, verbose=0)
        return Path(folder)

    return train


@pytest.fixture(scope="session")
def trained(recipe, run_of, tmp_path_factory):
    """The folder of a run on the mails; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained")
    mails = written(folder / "mails.csv", rows())
    return run_of(recipe({"train": mails}), folder / "run")
