"""Importing the room costs nothing heavy, and its public names are those listed."""

import subprocess
import sys

import kerasft.data

HEAVY = ("tensorflow", "keras", "pandas", "pyarrow", "sklearn", "datasets", "tensorflow_datasets")


def test_import_is_light():
    code = f"import sys, kerasft.data; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_reading_a_local_file_needs_no_tensorflow():
    code = (
        "import sys; from kerasft.data import *; f = {'text': 'text', 'label': 'label'};"
        "make_splits(DataSpec(embedded('spam'), 0.1), f); print('tensorflow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_public_names():
    assert all(hasattr(kerasft.data, name) for name in kerasft.data.__all__)
    assert list(kerasft.data.__all__) == sorted(kerasft.data.__all__)
