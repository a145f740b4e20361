"""Machine-readable output: JSON alone on stdout, or whole in a file."""

import contextlib
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kerasft._core import files


@contextlib.contextmanager
def results() -> Iterator[IO[str]]:
    """Give stdout for results; whatever else is printed meanwhile goes to stderr.

    Keras draws its progress bars on stdout, where they would spoil the JSON.
    """
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield out


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[IO[str]]:
    """Open a text file for writing that appears under its name only when it is complete."""
    aside = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    if files.is_remote(path):
        fs = files.gfile()
        try:
            with fs.GFile(aside, "w") as file:
                yield file
            fs.rename(aside, path, overwrite=True)
        except BaseException:
            if fs.exists(aside):
                fs.remove(aside)
            raise
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(aside, "w", encoding="utf-8", newline="\n") as file:
            yield file
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def as_json(value: Any, indent: int | None = None) -> str:
    """Return JSON with every letter as it is, none escaped."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
