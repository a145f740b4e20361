"""JSON types."""

import json
import subprocess
import sys

import numpy as np

from kerasft.metrics import plain


def test_plain_holds_no_numpy_and_no_nan():
    value = {
        1: np.float32(0.5),
        "n": np.int64(3),
        "bad": [float("nan"), np.inf, -np.inf],
        "array": np.array([[1.0, np.nan]]),
        "pair": (True, None, "x", np.bool_(False)),
    }
    found = plain(value)
    assert found == {
        "1": 0.5,
        "n": 3,
        "bad": [None, None, None],
        "array": [[1.0, None]],
        "pair": [True, None, "x", False],
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert type(found["n"]) is int and type(found["pair"][3]) is bool


def test_import_is_light():
    code = (
        "import sys, kerasft.metrics, kerasft.evaluation\n"
        "heavy = {'sklearn', 'scipy', 'matplotlib', 'tensorflow', 'keras', 'pandas'}\n"
        "heavy |= {'sacrebleu', 'rouge_score', 'nltk'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
