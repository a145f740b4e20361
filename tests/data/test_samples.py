"""The samples of examples/data open with the fields of their tasks, and hold what they should."""

import re
from collections import Counter
from pathlib import Path

import pytest

from kerasft.data import DataSpec, make_splits, open_source

FOLDER = Path(__file__).parents[2] / "examples" / "data"
PAIR = {"text": "text", "text_pair": "text"}
TRANSLATED = {"text": "text", "target": "text"}
NER = {"text": "text", "spans": "spans", "words": "words"}
PLACES = ("head_start", "head_end", "tail_start", "tail_end")
SAMPLES = {
    "ner.conll": NER,
    "ner-zh.jsonl": NER,
    "qa.json": {"context": "text", "question": "text", "answers": "answers"},
    "relations.jsonl": {"text": "text"} | dict.fromkeys(PLACES, "whole") | {"label": "label"},
    "similarity.csv": PAIR | {"score": "number"},
    "search.jsonl": PAIR,
    "instructions.jsonl": {"system": "optional text", "prompt": "text", "completion": "text"},
    "chat.jsonl": {"messages": "messages"},
    "translation.csv": TRANSLATED,
    "summaries.jsonl": TRANSLATED,
    "corpus.jsonl": {"text": "text"},
    "zero-shot.csv": {"text": "text", "label": "label"},
}


def read(name):
    source = open_source(FOLDER / name, SAMPLES[name])
    (chunk,) = source.chunks()
    assert source.notes == {}
    return chunk


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_opens_and_splits(name):
    chunk = read(name)
    sources, split = make_splits(DataSpec(FOLDER / name, 0.2), SAMPLES[name])
    assert 20 <= len(next(iter(chunk.values()))) == sum(split.rows.values()) <= 30
    assert split.rows["validation"] >= 3 and split.rows["train"] >= 15
    labels = split.counts["train"]
    assert all(labels.values()) and set(labels) == set(split.counts["validation"])
    (kept,) = sources["validation"].chunks()
    assert len(next(iter(kept.values()))) == split.rows["validation"]


@pytest.mark.parametrize("name", SAMPLES)
def test_rows_are_different(name):
    rows = list(zip(*map(map, [repr] * 9, read(name).values())))
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", ["ner.conll", "ner-zh.jsonl"])
def test_entities(name):
    chunk, seen = read(name), {}
    for text, spans in zip(chunk["text"], chunk["spans"]):
        assert text == text.strip()
        for start, end, label in spans:
            assert seen.setdefault(text[start:end], label) == label
    assert min(Counter(seen.values()).values()) >= 4 and set(seen.values()) == {"PER", "LOC", "ORG"}
    assert () in chunk["spans"]


def test_answers():
    chunk = read("qa.json")
    for context, answers in zip(chunk["context"], chunk["answers"]):
        assert all(context[start : start + len(text)] == text for start, text in answers)
    assert chunk["answers"].count(()) == 4


def test_relations():
    chunk = read("relations.jsonl")
    for text, *places in zip(chunk["text"], *(chunk[name] for name in PLACES)):
        for start, end in (places[:2], places[2:]):
            assert re.fullmatch(r"[A-Z]\w+( [A-Z]\w+)?", text[start:end])
    assert set(Counter(chunk["label"]).values()) == {7}


def test_every_sample_is_told():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([\w.-]+)`", page))
    assert told == {path.name for path in FOLDER.iterdir()} - {"README.md"}
