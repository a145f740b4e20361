"""`kerasft versions`: a table, one change at a time, and a hint on what a server does with it."""

import subprocess
import sys

import pytest

from kerasft._core import files
from kerasft.export.deploy import versions


@pytest.fixture
def spam(tmp_path):
    """saved_models/spam with three versions, the last of which is not whole."""
    folder = tmp_path / "saved_models" / "spam"
    for number in (1, 2, 3):
        for name in ("saved_model.pb", "variables/variables.index"):
            files.write_bytes(folder / str(number) / name, b"")
    for number in (1, 2):
        files.write_bytes(folder / str(number) / "variables/variables.data-00000-of-00001", b"")
    files.write_json(folder / "2" / versions.METRICS, {"rows": 5, "accuracy": 0.97251, "ece": 0.1})
    return folder


def table(said):
    assert said.code == 0, said.err
    return [line.split() for line in said.out.split("\n\n")[0].splitlines()]


def test_the_table(kerasft, spam):
    head, *rows = table(kerasft("versions", spam))
    assert head == ["version", "written", "loaded", "labels", "scores"]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[0][2:] == ["no"] and rows[2][2:] == ["not", "whole"]
    assert rows[1][2:] == ["no", "accuracy", "0.9725,", "ece", "0.1"]


def test_changes_and_the_hint(kerasft, spam):
    said = kerasft("versions", spam, "--label", "stable=1")
    assert table(said)[1][2:] == ["yes", "stable"]
    assert versions.HINT in said.out
    assert table(kerasft("versions", spam, "--label", "canary=2"))[2][2:4] == ["yes", "canary"]
    assert table(kerasft("versions", spam, "--label", "stable=2"))[2][2:5] == [
        "yes",
        "canary,",
        "stable",
    ]
    assert table(kerasft("versions", spam, "--rollback"))[1][3] == "stable"
    assert len(table(kerasft("versions", spam, "--remove-label", "canary"))[2]) == 7
    assert table(kerasft("versions", spam, "--load", "2"))[2][2] == "yes"
    assert table(kerasft("versions", spam, "--retire", "2"))[2][2] == "no"
    assert versions.HINT not in kerasft("versions", spam).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label", "stable"], "LABEL=VERSION"),
        (["--label", "stable=new"], "LABEL=VERSION"),
        (["--label", "stable=9"], "has the versions 1, 2, 3. Received: 9"),
        (["--label", "stable=3"], "is not whole"),
        (["--label", "my label=1"], "one word"),
        (["--rollback"], "the labels: none"),
        (["--remove-label", "stable"], "the labels: none"),
        (["--load", "9"], "Received: 9"),
        (["--retire", "1"], "Received: 1"),
        (["--load", "1", "--rollback"], "One change at a time"),
    ],
)
def test_wrong_input(refuses, spam, words, said):
    assert said in refuses("versions", spam, *words)


def test_a_folder_that_is_no_model(refuses, spam, tmp_path):
    assert "holds no versions" in refuses("versions", tmp_path)
    assert "It is one version" in refuses("versions", spam / "1")


def test_tensorflow_is_not_loaded_for_it(spam):
    code = "from kerasft.cli.main import run; import sys\n"
    code += f"assert run(['versions', {str(spam)!r}]) == 0\n"
    code += "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
