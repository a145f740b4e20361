"""Files are whole or absent, locally and through tf.io.gfile; foreign names stay inside."""

import json
import uuid
from pathlib import Path

import pytest

from kerasft._core import files
from kerasft._core.errors import InputError


@pytest.fixture(params=["local", "file", "ram"])
def place(request, tmp_path):
    """A folder of each kind."""
    kinds = {"local": str(tmp_path), "file": f"file://{tmp_path}"}
    return kinds.get(request.param, f"ram://{uuid.uuid4().hex}")


def test_write_and_read(place):
    path = files.join(place, "inner", "a.json")
    assert not files.exists(path)
    files.write_json(path, {"text": "很好", "n": [1, 2]})
    assert files.exists(path)
    assert files.read_json(path) == {"text": "很好", "n": [1, 2]}
    assert "很好".encode() in files.read_bytes(path), "UTF-8, not escapes"
    files.write_text(path, "{}")
    assert files.read_json(path) == {}
    assert files.names(files.join(place, "inner")) == ["a.json"], "nothing is left aside"
    files.remove(path)
    assert not files.exists(path)
    assert files.names(files.join(place, "nowhere")) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("scheme", ["file", "ram"])
def test_a_failed_write_elsewhere_leaves_the_old_file(tmp_path, monkeypatch, scheme):
    folder = f"{scheme}://{tmp_path}/x"
    files.write_bytes(f"{folder}/a.bin", b"old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.gfile(), "rename", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_bytes(f"{folder}/a.bin", b"new")
    assert files.read_bytes(f"{folder}/a.bin") == b"old"
    assert files.names(folder) == ["a.bin"]


def test_folders_above_stay_only_if_all_went_well(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(KeyError), files.parents_of(there / "a" / "b" / "file"):
        assert (there / "a" / "b").is_dir()
        raise KeyError
    assert [p.name for p in tmp_path.rglob("*")] == ["there"]
    with files.parents_of(there / "a" / "file"):
        pass
    assert (there / "a").is_dir()


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\udcff"])
def test_what_is_no_json_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="a.json is not valid JSON") as error:
        files.read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)


def test_new_folder(place):
    path = files.join(place, "runs", "one")
    with files.new_folder(path) as local:
        (local / "inner").mkdir()
        (local / "inner" / "a.txt").write_text("x")
    assert files.read_bytes(files.join(path, "inner", "a.txt")) == b"x"
    assert files.names(files.join(place, "runs")) == ["one"]
    with (
        pytest.raises(InputError, match="exists already and is never overwritten"),
        files.new_folder(path),
    ):
        pass


def test_a_failed_folder_is_gone(place):
    path = files.join(place, "one")
    with pytest.raises(KeyboardInterrupt), files.new_folder(path) as local:
        (local / "a.txt").write_text("half")
        raise KeyboardInterrupt
    assert not files.exists(path)
    assert not [name for name in files.names(place) if "one" in name]


def test_local_copy(place):
    files.write_text(files.join(place, "deep", "er", "a.txt"), "x")
    with files.local_copy(place) as local:
        assert (Path(local) / "deep" / "er" / "a.txt").read_text() == "x"
        kept = Path(local)
    assert kept.exists() == (not files.is_remote(place)), "a copy goes, the original stays"


@pytest.mark.parametrize("name", ["a", "a/b.txt", "a/../b", "./a", "a\\b"])
def test_a_name_inside(name):
    assert files.inside("run", name).startswith("run/")
    assert ".." not in files.inside("run", name)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../a", "a/../../b", "/etc/passwd", "..\\a", "\\\\host\\a", "C:\\a", "gs://b"],
)
def test_a_name_that_climbs_out(name):
    with pytest.raises(InputError, match="leads out of the folder run"):
        files.inside("run", name)


def test_read_json_says_which_file(tmp_path):
    with pytest.raises(InputError, match=r"There is no file .*a\.json"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{'a': 1}")
    with pytest.raises(InputError, match=r"a\.json is not valid JSON"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'"\xff"')
    with pytest.raises(InputError, match="is not valid JSON"):
        files.read_json(tmp_path / "a.json")


def test_json_ends_with_a_line_break(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": 1})
    text = (tmp_path / "a.json").read_text()
    assert text == json.dumps({"a": 1}, indent=2) + "\n"
