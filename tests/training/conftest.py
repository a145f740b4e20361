"""Small rows, a preset of one block, and recipes that train on them in seconds."""

import csv

import numpy as np
import pytest

from kerasft import Recipe
from kerasft.testing import tiny

SPAM = ["free", "prize", "call", "now"]
HAM = ["film", "story", "good", "long"]


def rows(count=48, seed=0):
    """Rows that can be told apart by their words, but not at once."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        words = [str(word) for word in random.choice((HAM, SPAM)[index % 2], 3)]
        words += [str(word) for word in random.choice(HAM + SPAM, 2)]
        found.append({"text": " ".join(words), "label": ("ham", "spam")[index % 2]})
    return found


@pytest.fixture(scope="session")
def preset(tmp_path_factory):
    """A KerasHub preset folder: one block, 16 units, a few dozen words."""
    folder = str(tmp_path_factory.mktemp("preset") / "one-block")
    tiny.backbone("bert", num_layers=1).save_to_preset(folder)
    tiny.tokenizer("bert").save_to_preset(folder)
    return folder


@pytest.fixture(scope="session")
def make_recipe(preset):
    """A recipe that trains in seconds; sections are put over its own."""

    def make(data=None, **sections):
        data = {"train": rows(), "validation": 0.25, "test": 0.25, "max_length": 16} | (data or {})
        training = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
        training |= sections.pop("training", {})
        return Recipe(**({"preset": preset, "data": data, "training": training} | sections))

    return make


@pytest.fixture(scope="session")
def make_rows():
    return rows


@pytest.fixture(scope="session")
def write_csv():
    """Write rows as a CSV file."""

    def write(path, found):
        with open(path, "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(found[0]))
            table.writeheader()
            table.writerows(found)
        return str(path)

    return write
