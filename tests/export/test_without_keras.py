"""A process with TensorFlow alone, as TF Serving is one, answers as the pipeline does."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import tensorflow as tf
from asking import expected, fields_of, served_form

from kerasft.export.signatures import tokenized
from kerasft.testing import tiny

TEXTS = [
    *tiny.ODD_TEXTS,
    "",
    "\x00",
    "a\x00b",
    "😀😀 emoji 👩\u200d👩\u200d👧",
    "这个产品很好，推荐购买。",
    "good " * 20_000,
    "x" * 100_000,
    "\ud7ff\ue000\U0010ffff",
    "\u202eright to left\u202c",
    "ＦＵＬＬ　ｗｉｄｔｈ ﬁ ½",
    "e\u0301\u0301\u0301",
]

SERVER = """
import json, os, sys
from importlib.machinery import PathFinder

class Hiding:
    @staticmethod
    def find_spec(name, path=None, target=None):
        hidden = name.split(".")[0] in ("keras", "keras_hub", "tensorflow_text", "kerasft")
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
import tensorflow as tf

ops = sys.argv[1]
for name in sorted(os.listdir(ops)):
    if name.endswith(".so"):
        tf.load_op_library(os.path.join(ops, name))
answers, tokens = [], []
texts, asked = json.load(sys.stdin)
for folder, fields in asked:
    signatures = tf.saved_model.load(folder).signatures
    got = signatures["serving_default"](**{n: tf.constant(v) for n, v in fields.items()})
    found = {name: value.numpy() for name, value in got.items()}
    pieces = signatures["tokenize"](text=tf.constant(texts))
    tokens.append({name: value.numpy().tolist() for name, value in pieces.items()})
    answers.append({
        name: [[w.decode() for w in row] if hasattr(row, "__len__") and not isinstance(row, bytes)
               else row.decode() for row in value] if value.dtype == object else value.tolist()
        for name, value in found.items()
    })
assert not {"keras", "keras_hub", "tensorflow_text", "kerasft"} & set(sys.modules)
json.dump([answers, tokens], sys.stdout)
"""


def without_keras(asked):
    """Answers and tokens of SavedModels, [(folder, fields)], from a process without Keras."""
    ops = os.path.join(find_spec("tensorflow_text").submodule_search_locations[0], "python", "ops")
    done = subprocess.run(
        [sys.executable, "-c", SERVER, ops],
        input=json.dumps([TEXTS, asked]),
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def same(pipe, fields, got):
    meant = expected(pipe, fields)
    assert set(got) == set(meant)
    for name, value in meant.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got[name], value, atol=1e-5)
        elif value.dtype.kind == "i":
            assert got[name] == value.tolist()
        else:
            assert got[name] == [
                [w.decode() for w in row] if isinstance(row, np.ndarray) else row.decode()
                for row in value
            ]


@pytest.mark.parametrize(
    "names",
    [
        # Each export is asked in the C runtime, too; more kinds are here for the whole of it.
        ["a pair", "entities"],
        pytest.param(["decoder of byte pairs", "windows"], marks=pytest.mark.slow),
        pytest.param(["answers", "completions"], marks=pytest.mark.slow),
        pytest.param(["embeddings", "relations"], marks=pytest.mark.slow),
        pytest.param(
            ["several labels", "mean of a sentencepiece encoder", "fixed length", "a score, lora"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["chats", "labels by likelihood", "embeddings of histories"], marks=pytest.mark.slow
        ),
        pytest.param(["translations", "masks", "asked labels"], marks=pytest.mark.slow),
    ],
    ids=" and ".join,
)
def test_tensorflow_alone_answers_the_same(kind, exported, names):
    asked = []
    for name in names:
        asked.append((exported(name), fields_of(kind(name).task, TEXTS)))
    answers, tokens = without_keras([(folder, served_form(fields)) for folder, fields in asked])
    for name, (_, fields), got, found in zip(names, asked, answers, tokens, strict=True):
        same(kind(name), fields, got)
        pieces = tokenized(kind(name).tokenizer, tf.constant(TEXTS))
        assert found == {n: np.asarray(v).tolist() for n, v in pieces.items()}


def test_keras_would_be_missed(tmp_path):
    """The process really cannot import it."""
    done = subprocess.run(
        [sys.executable, "-c", SERVER.split("ops =")[0] + "import keras"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "No module named 'keras'" in done.stderr
