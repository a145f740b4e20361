"""Rows that a task cannot learn from: one line, exit code 2, and nothing left behind."""

import json
import re
from pathlib import Path

import pytest
from small_files import written

GOLDEN = Path(__file__).parents[1] / "golden"
DECODER = str(GOLDEN / "smollm2")
HI = {"role": "user", "content": "hi"}
YES = {"role": "assistant", "content": "yes"}


def recipe_of(tmp_path, task, rows, preset, suffix=".jsonl", **data):
    text = rows if isinstance(rows, str) else "".join(json.dumps(r) + "\n" for r in rows)
    path = tmp_path / f"rows{suffix}"
    path.write_text(text, encoding="utf-8")
    sections = {
        "task": task,
        "preset": preset,
        "data": {"train": str(path), "validation": 0, "max_length": 32} | data,
        "training": {"epochs": 1},
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(sections), encoding="utf-8")  # JSON is YAML
    return recipe


CHAT = {"name": "causal-lm", "format": "chat", "template": "plain"}
CASES = {
    "a chat that the assistant begins": (
        CHAT,
        [{"messages": [HI, YES]}, {"messages": [YES, HI]}],
        r"line 2: .*a chat is expected that the user begins, not the assistant",
    ),
    "an unknown role": (
        CHAT,
        [{"messages": [HI, YES]}, {"messages": [{"role": "bot", "content": "a"}, YES]}],
        r"line 2: .*one of the roles system, user, assistant .*'bot'",
    ),
    "a chat without an answer": (
        CHAT,
        [{"messages": [HI, HI]}] * 2,
        r"must end with the assistant's message. Received: user, user",
    ),
    "a target longer than the window": (
        "causal-lm",
        [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "b " * 60}],
        r"data.max_length=32 tokens.*'b b .*task.overlong=cut",
    ),
    "a target longer than the window, text to text": (
        "text-to-text",
        [{"text": "a", "target": "b"}, {"text": "a", "target": "b " * 60}],
        r"data.max_length=32 tokens.*'b b .*task.overlong=cut",
    ),
    "an encoder that is to write": (
        "causal-lm",
        [{"prompt": "a", "completion": "b"}] * 2,
        r"decoder.*Received: BertBackbone",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_writes(refuses, preset, tmp_path, name):
    task, rows, said = CASES[name]
    chosen = preset if "encoder" in name else DECODER
    recipe = recipe_of(tmp_path, task, rows, chosen)
    assert re.search(said, refuses("train", recipe, "--out", "run"))


def test_tags_that_break_their_scheme_are_refused_where_asked(refuses, preset, tmp_path):
    rows = "Ann B-PER\nmet O\nBo I-PER\n\nAnn B-PER\n"
    recipe = recipe_of(tmp_path, "token-classification", rows, preset, ".conll", broken="refuse")
    line = refuses("train", recipe, "--out", "run")
    assert "rows.conll, line 1: " in line and "'I-PER' at token 3" in line


def test_tokens_and_tags_of_different_length(refuses, preset, tmp_path):
    rows = [
        {"tokens": ["Ann", "met"], "tags": ["B-PER", "O"]},
        {"tokens": ["Bo"], "tags": ["O", "O"]},
    ]
    recipe = recipe_of(tmp_path, "token-classification", rows, preset)
    line = refuses("train", recipe, "--out", "run")
    assert "line 2" in line and "1" in line and "2" in line


def test_an_answer_that_is_not_in_its_context(refuses, preset, tmp_path):
    rows = [
        {
            "question": "Who?",
            "context": "Ann met Bo.",
            "answers": [{"text": "Bo", "answer_start": 8}],
        },
        {
            "question": "Who?",
            "context": "Ann met Bo.",
            "answers": [{"text": "Cy", "answer_start": 0}],
        },
    ]
    recipe = recipe_of(tmp_path, "question-answering", rows, preset, missing="error")
    line = refuses("train", recipe, "--out", "run")
    assert "line 2" in line and "Cy" in line


@pytest.mark.parametrize("labels", ["", " , "])
def test_an_empty_list_of_labels(refuses, tmp_path, labels):
    data = written(tmp_path / "new.jsonl", [{"text": "the film"}])
    line = refuses("zero-shot", DECODER, data, "--labels", labels, "--through", "likelihood")
    assert "`labels` must be a list that is not empty" in line


def test_an_entailment_head_is_needed(refuses, preset, tmp_path):
    data = written(tmp_path / "new.jsonl", [{"text": "the film"}])
    assert "entailment" in refuses("zero-shot", preset, data, "--labels", "a,b")
