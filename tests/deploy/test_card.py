"""Model cards: what a run folder says, in Markdown that labels and names cannot break."""

import re

import pytest
import yaml

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.export.deploy.card import NO_RUN, model_card, read_run

TASK = {
    "name": "text-classification",
    "labels": ["ham", "spam"],
    "max_length": 96,
    "long_texts": "head",
    "overlap": 32,
    "max_windows": 8,
}
RECIPE = {"task": {"name": "text-classification"}, "preset": "bert_tiny", "seed": 7}
RECIPE["data"] = {"train": "/data/mails.csv"}
SPLIT = {
    "names": ["train", "test"],
    "rows": {"train": 4715, "test": 589},
    "counts": {"train": {"ham": 3287, "spam": 1428}, "test": {"ham": 411, "spam": 178}},
    "sources": {"train": "/data/mails.csv", "test": "/data/mails.csv"},
    "seed": 7,
    "sha256": "5a29",
}
REPORT = {
    "after": {"accuracy": 0.97283, "rows_of": 3},
    "before": {"accuracy": 0.5},
    "per_class": {"ham": {"f1": 0.98, "support": 411}, "spam": {"f1": 0.95, "support": 178}},
    "split": "test",
    "rows": 589,
    "fit_seconds": 211.4,
    "extra": {"parameters": 4386178, "trainable_parameters": 1000},
}
RUN = {"recipe": RECIPE, "split": SPLIT, "report": REPORT}
VERSIONS = {"kerasft": "0.1.0", "tensorflow": "2.21.0"}


def section(card, heading):
    (found,) = re.findall(rf"^## {heading}\n\n(.*?)(?=\n\n## |\Z)", card, re.M | re.S)
    return found


def test_a_run_is_told():
    card = model_card("spam", TASK, VERSIONS, RUN, version=3)
    assert card.startswith("# spam, version 3\n")
    assert "labels a text (task `text-classification`)" in section(card, "What it answers")
    assert "0. ham\n1. spam" in section(card, "What it answers")
    assert "| train | mails.csv | 4,715 | 3,287 | 1,428 |" in section(card, "Data")
    assert "Scored on `test`, 589 rows." in section(card, "Data")
    assert "4,386,178 parameters, 1,000 trained, in 211 seconds." in section(card, "Recipe")
    text = re.search(r"```yaml\n(.*)\n```", section(card, "Recipe"), re.S)[1]
    mails = {"train": "mails.csv"}  # not where they lay
    assert yaml.safe_load(text) == RECIPE | {"data": mails}
    assert "| accuracy | 0.5000 | 0.9728 |" in section(card, "Metrics")
    assert "| spam | 0.9500 | 178 |" in section(card, "Metrics")
    assert "| tensorflow | 2.21.0 |" in section(card, "Versions")
    assert NO_RUN not in card and card.count("(to be filled in)") == 8


def test_a_pipeline_without_a_run_says_so():
    card = model_card("spam", TASK, VERSIONS)
    for heading in ("Data", "Recipe", "Metrics"):
        assert section(card, heading) == NO_RUN
    assert "1. spam" in card and "| kerasft | 0.1.0 |" in card


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({}, "the first 96 tokens are read, and the rest is left out"),
        ({"long_texts": "head-tail"}, "and the middle is left out"),
        ({"long_texts": "max"}, "windows of 96 tokens are read, at most 8, which overlap"),
    ],
)
def test_what_happens_with_longer_texts(task, said):
    assert said in section(model_card("m", TASK | task, {}), "Limits")
    plain = {"name": "causal-lm", "max_length": 64}
    assert "Of a longer text no more than that is read" in model_card("m", plain, {})
    windows = {"name": "question-answering", "max_length": 64, "overlap": 8}
    assert "windows of 64 tokens are read, which" in model_card("m", windows, {})


def test_labels_cannot_break_the_markdown():
    labels = ["a | b", "c\n## Metrics", "<script>", "[x](y)"]
    card = model_card("a_b", TASK | {"labels": labels}, {}, RUN)
    assert card.count("\n## ") == 7
    assert "0. a \\| b\n1. c\\\\n\\#\\# Metrics\n2. \\<script\\>\n3. \\[x\\](y)" in card


def test_a_run_folder_is_read(tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    files.write_json(tmp_path / "split.json", SPLIT)
    files.write_json(tmp_path / "metrics.json", REPORT)
    assert read_run(tmp_path) == RUN
    files.write_json(tmp_path / "model" / "kerasft.json", {"task": TASK})
    assert read_run(tmp_path)["model"] == {"task": TASK}
    assert read_run(tmp_path / "model") == {"model": {"task": TASK}}
    assert read_run(tmp_path / "nothing") == {}
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(InputError, match="split.json is not valid JSON"):
        read_run(tmp_path)
