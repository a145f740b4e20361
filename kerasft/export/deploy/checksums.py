"""SHA-256 of every file of a version, in the form of `sha256sum`."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from kerasft._core import files
from kerasft._core.errors import InputError

PLACE = "assets.extra/checksums.txt"
_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


def write_checksums(folder: str | os.PathLike) -> str:
    """Write the check sums of all files of a version; the last thing that is written into it.

    `cd saved_models/NAME/VERSION && sha256sum -c assets.extra/checksums.txt` checks them without
    kerasft.

    Args:
        folder: the version.

    Returns:
        The path of the file.

    Raises:
        InputError: if there is no file in the folder.
    """
    with files.local_copy(folder) as local:
        found = {name: _digest(local / name) for name in _files(local)}
    if not found:
        raise InputError(f"{os.fspath(folder)} holds no files. Give a version of an export.")
    path = files.join(folder, PLACE)
    files.write_text(path, "".join(_line(name, digest) for name, digest in found.items()))
    return path


def verify(folder: str | os.PathLike) -> int:
    """Check every file of a version against its check sums.

    Args:
        folder: the version.

    Returns:
        The number of files, all of them as they were written.

    Raises:
        InputError: naming the files that are missing, changed or not listed.
    """
    path = files.join(folder, PLACE)
    if not files.exists(path):
        raise InputError(f"There is no file {path}.")
    expected = _read(path)
    with files.local_copy(folder) as local:
        there = set(_files(local))
        kept = sorted(there & set(expected))
        changed = [name for name in kept if _digest(local / name) != expected[name]]
    wrong = {
        "missing": sorted(set(expected) - there),
        "changed": changed,
        "not listed": sorted(there - set(expected)),
    }
    told = [f"{what}: {', '.join(names[:5])}" for what, names in wrong.items() if names]
    if told:
        count = sum(map(len, wrong.values()))
        raise InputError(
            f"{os.fspath(folder)} is not as it was exported, in {count} of "
            f"{len(there | set(expected))} files; {'; '.join(told)}. Copy it again."
        )
    return len(expected)


def _files(folder: Path) -> Iterator[str]:
    """Names of the files below a folder, in order; the list itself is none of them."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != PLACE:
            yield name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(name: str, digest: str) -> str:
    """One line; sha256sum marks a name with a line break or a backslash by a backslash in front."""
    told = name
    for escape, sign in _ESCAPES.items():
        told = told.replace(sign, escape)
    return f"{'' if told == name else chr(92)}{digest}  {told}\n"


def _read(path: str) -> dict[str, str]:
    found = {}
    text = files.read_bytes(path).decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        parts = _LINE.fullmatch(line)
        if not parts:
            raise InputError(
                f"{path}, line {number}: a SHA-256, two blanks and a name are expected. "
                f"Received: {line!r:.80}."
            )
        escaped, digest, name = parts.groups()
        if escaped:
            name = re.sub(r"\\[\\nr]", lambda found: _ESCAPES[found[0]], name)
        found[name] = digest
    return found
