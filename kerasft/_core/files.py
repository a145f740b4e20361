"""Files by tf.io.gfile: paths may be local, gs:// or ram://; writes are whole or absent."""

import contextlib
import json
import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kerasft._core.errors import InputError


def is_remote(path: str | os.PathLike) -> bool:
    """True for a path with a scheme, such as gs://bucket/x."""
    return "://" in os.fspath(path)


def join(path: str | os.PathLike, *parts: str) -> str:
    """Join path and parts with one slash each."""
    return posixpath.join(os.fspath(path), *parts)


def gfile():
    """tf.io.gfile, imported late because TensorFlow is slow to load."""
    import tensorflow as tf

    return tf.io.gfile


def exists(path: str | os.PathLike) -> bool:
    """Whether a file or folder is there."""
    return gfile().exists(os.fspath(path)) if is_remote(path) else Path(path).exists()


def read_bytes(path: str | os.PathLike) -> bytes:
    """The whole file as bytes."""
    if is_remote(path):
        with gfile().GFile(os.fspath(path), "rb") as file:
            return file.read()
    return Path(path).read_bytes()


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write the file aside, then rename it: a reader sees the old file or the new one."""
    aside = f"{os.fspath(path)}.{uuid.uuid4().hex[:8]}.tmp"
    if is_remote(path):
        gfile().makedirs(posixpath.dirname(os.fspath(path)))
        try:
            with gfile().GFile(aside, "wb") as file:
                file.write(data)
            gfile().rename(aside, os.fspath(path), overwrite=True)
        except BaseException:
            if exists(aside):
                remove(aside)
            raise
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write JSON with two spaces and UTF-8, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Read JSON; `InputError` names the file when it is not there or not JSON."""
    try:
        return json.loads(read_bytes(path))
    except FileNotFoundError:
        raise InputError(f"There is no file {os.fspath(path)}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{os.fspath(path)} is not valid JSON: {error}.") from None


def inside(folder: str | os.PathLike, name: str) -> str:
    """Join a name read from a foreign file to `folder`; refuse one that climbs out of it."""
    normal = posixpath.normpath(name.replace("\\", "/"))
    if not name or posixpath.isabs(normal) or normal.split("/")[0] == ".." or ":" in normal:
        raise InputError(f"The name {name!r} leads out of the folder {os.fspath(folder)}.")
    return join(folder, normal)


def names(folder: str | os.PathLike) -> list[str]:
    """Names in a folder, sorted; none if it is not there."""
    if is_remote(folder):
        found = gfile().listdir(os.fspath(folder)) if exists(folder) else []
        return sorted(name.rstrip("/") for name in found)
    return sorted(os.listdir(folder)) if Path(folder).is_dir() else []


def remove(path: str | os.PathLike) -> None:
    """Remove a file."""
    gfile().remove(os.fspath(path)) if is_remote(path) else Path(path).unlink()


def remove_tree(folder: str | os.PathLike) -> None:
    """Remove a folder and what is in it, if it is there."""
    if not exists(folder):
        return
    gfile().rmtree(os.fspath(folder)) if is_remote(folder) else shutil.rmtree(folder)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a local folder to fill; it becomes `path` at the end, or vanishes on an error.

    Raises `InputError` if `path` is there already. A remote path is filled by copying. Folders
    above it that were made for it vanish too.
    """
    if exists(path):
        raise InputError(f"{os.fspath(path)} exists already and is never overwritten.")
    if is_remote(path):
        with tempfile.TemporaryDirectory() as local:
            yield Path(local)
            _copy_whole(local, os.fspath(path))
        return
    target = Path(path)
    aside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    with parents_of(target):
        try:
            aside.mkdir()
            yield aside
            os.rename(aside, target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


@contextlib.contextmanager
def parents_of(path: str | os.PathLike) -> Iterator[None]:
    """Make the folders above a local path; those that were made vanish again on an error."""
    made = [folder for folder in Path(path).parents if not folder.exists()]
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        raise


def _copy_whole(local: str, path: str) -> None:
    """Copy to a remote place; what has arrived is removed if the rest cannot follow."""
    try:
        copy_tree(local, path)
    except BaseException:
        if exists(path):
            gfile().rmtree(path)
        raise


def copy_tree(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copy a folder between any two places that tf.io.gfile opens."""
    fs, source, target = gfile(), os.fspath(source), os.fspath(target)
    fs.makedirs(target)
    for folder, _, names in fs.walk(source):
        inner = folder[len(source) :].strip("/")
        to = join(target, inner) if inner else target
        fs.makedirs(to)
        for name in names:
            fs.copy(join(folder, name), join(to, name), overwrite=True)


@contextlib.contextmanager
def local_copy(path: str | os.PathLike) -> Iterator[Path]:
    """Give a local folder with the content of `path`; a local path is given as it is."""
    if not is_remote(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as local:
        copy_tree(path, local)
        yield Path(local)
