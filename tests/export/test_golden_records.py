"""Golden answers: written by the exporter, asked again in a process with the C runtime alone."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import small_models
import tensorflow as tf
from asking import expected, fields_of
from test_c_runtime import child, strings
from test_without_keras import TEXTS

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.export import check_golden
from kerasft.export.c_runtime import CModel
from kerasft.export.golden import NAME, read_golden, write_golden

ODD = strings("a", "", "三\0", b"\xff\xfe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A SavedModel with golden records of strings, whole numbers, truths and floats."""
    made = small_models.small(str(tmp_path_factory.mktemp("small")))
    values = np.arange(6).reshape(3, 2)
    asked = {"twice": {"text": ODD}, "half_plus_two": {"x": np.float32([0.1, 1000])}}
    with CModel(made) as model:
        specs = model.signatures["kinds"].inputs
        asked["kinds"] = {name: values.astype(spec.numpy_type) for name, spec in specs.items()}
        asked["kinds"]["string"] = np.array([[b"a", b"b"]] * 3, object)
        asked["numbers"] = {"text": ODD}
        records = [
            {"signature": name, "inputs": inputs, "outputs": model.run(name, inputs)}
            for name, inputs in asked.items()
        ]
    write_golden(made, records)
    return made


@pytest.fixture
def said(folder, tmp_path, capsys):
    """What the command prints and returns after a change of the records."""

    def run(change):
        made = shutil.copytree(folder, tmp_path / "model")
        records = files.read_json(made / NAME)
        changed = change({record["signature"]: record for record in records})
        files.write_json(made / NAME, records if changed is None else changed)
        code = check_golden.main([str(made)])
        (line,) = capsys.readouterr().out.splitlines()
        return code, json.loads(line)["error"] if code else line

    return run


def test_records_come_back(folder):
    twice = read_golden(folder)[0]
    assert twice["inputs"] == {"text": ODD.tolist()}
    assert twice["outputs"]["twice"] == [text * 2 for text in ODD]
    written = files.read_json(files.join(folder, NAME))[0]
    assert written["inputs"] == {"text": ["a", "", "三\0", {"b64": "//4="}]}


def test_what_was_answered_is_answered_again(said):
    code, line = said(lambda records: None)
    assert json.loads(line) == {"runtime": tf.__version__, "checked": 4, "difference": 0.0}
    assert code == 0


def put(signature, side, name, value):
    def change(records):
        records[signature][side][name] = value

    return change


@pytest.mark.parametrize(
    ("value", "passes"),
    [([2.05, 502.0], True), ([2.05, 502.004], True), ([2.05, 502.006], False)],
)
def test_numbers_may_differ_by_a_share_of_the_largest(said, value, passes):
    code, line = said(put("half_plus_two", "outputs", "y", value))
    assert (code == 0) == passes
    if passes:
        assert json.loads(line)["difference"] == pytest.approx((value[1] - 502) / 502, abs=1e-7)
    else:
        assert "signature half_plus_two, output y: at [1] it should be 502.006" in line
        assert line.endswith("Received: 502.0.")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (put("half_plus_two", "outputs", "y", [float("nan"), 502]), "at [0] it should be nan"),
        (put("twice", "outputs", "same", ["b", "", "三\0", {"b64": "//4="}]), "should be b'b'. R"),
        (put("twice", "outputs", "same", ["a"]), "shape should be [1]. Received: [4]"),
        (put("numbers", "outputs", "number", [1, -1, -1, 0]), "at [3] it should be 0. R"),
        (put("numbers", "outputs", "number", [1, -1, -1, -1.5]), "should hold int32 [any]"),
        (put("kinds", "outputs", "bool", [[True, True]] * 3), "output bool: at [0, 1]"),
        (put("numbers", "outputs", "more", [1]), "should be more, number. Received: number."),
        (
            put("numbers", "inputs", "more", [1]),
            "takes the inputs 'text'. Received: 'text', 'more'",
        ),
        (
            put("half_plus_two", "inputs", "x", [[1.0, 2.0]]),
            "is float32 [any]. Received: float32 [1",
        ),
        (put("half_plus_two", "inputs", "x", [[1.0], [2.0, 3.0]]), "should hold float32 [any]"),
        (put("twice", "inputs", "text", [1]), "is string [any], an object array of bytes"),
        (put("twice", "inputs", "text", [{"b64": "?"}]), 'should be {"b64": ...}'),
        (lambda records: [records["twice"] | {"signature": "no"}], "Received: 'no'"),
        (lambda records: [{"signature": "twice"}], "a list of objects with signature, inputs"),
        (lambda records: {"signature": "twice"}, "a list of objects with signature, inputs"),
        (lambda records: [], "holds no record"),
    ],
)
def test_what_differs_is_said_in_one_line(said, change, line):
    code, found = said(change)
    assert code == 1 and line in found


def test_a_folder_without_records(tmp_path, folder, capsys):
    with pytest.raises(InputError, match="There is no file"):
        read_golden(str(tmp_path))
    assert check_golden.main([str(tmp_path)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error.startswith("NOT_FOUND: Could not find SavedModel")


MAIN = """
from kerasft.export.check_golden import main
assert main(sys.argv[1:]) == 0
"""


@pytest.mark.parametrize("name", ["one text", pytest.param("entities", marks=pytest.mark.slow)])
def test_an_export_gives_the_pipelines_answers(kind, exported, tmp_path, name):
    made = shutil.copytree(exported(name), tmp_path / "1")
    pipe = kind(name)
    fields = fields_of(pipe.task, [text[:500] for text in TEXTS])
    inputs = {n: strings(*values) for n, values in fields.items()}
    answers = expected(pipe, fields)
    record = {"signature": "serving_default", "inputs": inputs, "outputs": answers}
    write_golden(str(made), [record])
    found = child(MAIN, made)
    assert found["checked"] == 1 and 0 <= found["difference"] < 1e-5

    label = answers["label"].copy()
    label.flat[0] = b"another"
    write_golden(str(made), [record | {"outputs": answers | {"label": label}}])
    done = subprocess.run(
        [sys.executable, "-m", "kerasft.export.check_golden", str(made)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert "signature serving_default, output label: at [0" in error
    assert "should be b'another'" in error


def test_folders_are_asked_one_after_the_other(folder):
    """As the exporter does, which starts one process for all; one that is damaged stops nobody."""
    done = subprocess.run(
        [sys.executable, "-m", "kerasft.export.check_golden"],
        input=f"{folder}\n{folder}-missing\n{folder}\n",
        capture_output=True,
        text=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sorted(line) for line in found] == [
        ["checked", "difference", "runtime"],
        ["error"],
        ["checked", "difference", "runtime"],
    ]
    assert done.returncode == 1
