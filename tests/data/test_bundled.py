"""The e-mails that ship inside kerasft."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from kerasft._core.errors import InputError
from kerasft.data import duplicates, embedded, open_source, summarise

FIELDS = {"text": "text", "label": "label"}
SCRIPT = Path(__file__).parents[2] / "benchmarks/make_spam.py"


def test_the_mails():
    path = embedded("spam")
    assert os.path.getsize(path) < 2_000_000
    source = open_source(path, FIELDS)
    found = summarise(source)
    assert found.rows == 5893 and found.labels == {"ham": 4108, "spam": 1785}
    assert found.empty == {"text": 0} and found.characters["text"][1.0] == 2000
    assert duplicates({"all": source}).within == {"all": 0}
    for name in ("LICENSE.spam.txt", "NOTICE.spam.txt"):
        assert (Path(path).parent / name).is_file()


def test_unknown_name():
    with pytest.raises(InputError, match="Did you mean 'spam'"):
        embedded("spma")


def test_the_script_gives_the_same_bytes_twice(tmp_path):
    spec = importlib.util.spec_from_file_location("make_spam", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for number, part in enumerate(("train", "validation", "test")):
        row = {"text": f'quote " comma, nul\0 价格 {part}', "label": str(number)}
        (tmp_path / f"{part}.jsonl").write_text(json.dumps(row) + "\n")
    data = script.packed(tmp_path)
    assert data == script.packed(tmp_path)
    (tmp_path / "out.csv.xz").write_bytes(data)
    chunk = next(open_source(tmp_path / "out.csv.xz", FIELDS).chunks())
    assert chunk["label"] == ["0", "1", "2"], "train, validation, test"
    assert chunk["text"][0] == 'quote " comma, nul 价格 train'
