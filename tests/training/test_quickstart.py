"""The quickstart on a few mails; the notebook, with -m slow, takes all of them."""

import csv
import lzma

import pytest

from kerasft import InputError, Recipe
from kerasft.data import embedded
from kerasft.training import quickstart as module


def test_the_whole_way_on_a_few_mails(tmp_path, monkeypatch, capsys):
    few = tmp_path / "few.csv"
    with lzma.open(embedded("spam"), "rt", encoding="utf-8", newline="") as source:
        rows = [row for number, row in enumerate(csv.reader(source)) if number % 50 == 0]
    with few.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows(rows)  # the first is the header
    recipe = Recipe(
        preset=module.recipe().preset,
        data={"train": str(few), "validation": 0.2, "test": 0.2, "max_length": 16},
        training={"epochs": 1},
    )
    monkeypatch.setattr(module, "recipe", lambda: recipe)
    module.quickstart(tmp_path / "first", verbose=0)
    said = capsys.readouterr().out
    assert all(question[:40] in said for question in module.QUESTIONS)
    assert (tmp_path / "first" / "saved_models" / "spam" / "1" / "saved_model.pb").exists()
    assert (tmp_path / "first" / "run" / "confusion.png").exists()
    with pytest.raises(InputError, match="not empty"):
        module.quickstart(tmp_path / "first")
