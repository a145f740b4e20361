"""Check sums: sha256sum's own format, and every change of a file is named."""

import hashlib
import shutil
import subprocess

import pytest

from kerasft._core.errors import InputError
from kerasft.export.deploy.checksums import PLACE, verify, write_checksums

NAMES = ("saved_model.pb", "variables/variables.index", "assets/a b 垃圾.txt", "assets/.hidden")


@pytest.fixture
def version(tmp_path):
    for i, name in enumerate(NAMES):
        path = tmp_path / "3" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * i)
    write_checksums(tmp_path / "3")
    return tmp_path / "3"


def test_every_file_is_listed_with_its_sha256(version):
    lines = (version / PLACE).read_text(encoding="utf-8").splitlines()
    listed = dict(reversed(line.split("  ")) for line in lines)
    assert listed == {n: hashlib.sha256(b"x" * i).hexdigest() for i, n in enumerate(NAMES)}
    assert list(listed) == sorted(listed)
    assert verify(version) == len(NAMES)


def test_writing_again_changes_nothing(version):
    before = (version / PLACE).read_bytes()
    write_checksums(version)
    assert (version / PLACE).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("saved_model.pb", b"y", "changed: saved_model.pb"),
        ("assets/.hidden", None, "missing: assets/.hidden"),
        ("variables/more", b"", "not listed: variables/more"),
        ("sub/assets.extra/checksums.txt", b"", "not listed: sub/assets.extra"),
    ],
)
def test_a_changed_file_is_named(version, name, content, said):
    path = version / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError) as told:
        verify(version)
    assert said in str(told.value) and "in 1 of " in str(told.value)


def test_a_list_that_is_none_is_refused(version, tmp_path):
    (version / PLACE).write_text("abc  saved_model.pb\n")
    with pytest.raises(InputError, match="line 1: a SHA-256"):
        verify(version)
    (tmp_path / "4").mkdir()
    with pytest.raises(InputError, match="There is no file"):
        verify(tmp_path / "4")
    with pytest.raises(InputError, match="holds no files"):
        write_checksums(tmp_path / "4")


def test_names_with_signs_that_sha256sum_escapes(version):
    odd = "assets/a\\b\nc\\nd"
    (version / odd).write_bytes(b"")
    write_checksums(version)
    assert verify(version) == len(NAMES) + 1
    (version / odd).write_bytes(b"1")
    with pytest.raises(InputError, match="changed"):
        verify(version)


def test_sha256sum_itself_agrees(version):
    program = shutil.which("sha256sum")
    if program is None:
        return  # a system without it; the format is compared above
    (version / "assets/a\\b\nc").write_bytes(b"")
    write_checksums(version)
    check = [program, "-c", "--quiet", "--strict", PLACE]
    assert subprocess.run(check, cwd=version, capture_output=True).returncode == 0
    (version / "saved_model.pb").write_bytes(b"y")
    assert subprocess.run(check, cwd=version, capture_output=True).returncode != 0
