"""Clean output: JSON alone on stdout or whole in a file, and a stderr for what matters."""

import contextlib
import json
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from kerasft._core import files, stack
from kerasft._core.errors import InputError
from kerasft._core.quiet import without_notes


def start_quietly() -> None:
    """Load TensorFlow with the notes of its start kept off stderr, unless it fails to start.

    TensorFlow tells of a missing GPU before any log level is read, several times, and would
    bury the one line that says what is wrong with the input.
    """
    stack.ensure()
    with without_notes():
        import tensorflow as tf
        import tensorflow_text  # noqa: F401

        tf.config.list_physical_devices("GPU")


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
    with files.parents_of(path):
        try:
            with open(aside, "w", encoding="utf-8", newline="\n") as file:
                yield file
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise


def refuse_run(folder: str) -> None:
    """Refuse to write a report over that of a training."""
    if files.exists(files.join(folder, "recipe.yaml")):
        raise InputError(
            f"--out takes a folder for a report of its own. Received: {folder}, which holds a run "
            "and the report of its training."
        )


def as_json(value: Any, indent: int | None = None) -> str:
    """Return JSON with every letter as it is, none escaped."""
    return json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)


def label_and_version(text: str) -> tuple[str, int]:
    """The two sides of LABEL=VERSION."""
    name, sign, number = text.partition("=")
    if not (sign and number.isascii() and number.isdigit()):
        raise InputError(f"--label takes LABEL=VERSION, such as stable=3. Received: {text!r}.")
    return name, int(number)


def version_table(versions: Iterable[Any]) -> str:
    """Versions of an export, one a line, under a head."""
    rows = [("version", "written", "loaded", "labels", "scores")]
    for version in versions:
        numbers = {n: v for n, v in version.metrics.items() if isinstance(v, float)}
        scores = [f"{name} {value:.4g}" for name, value in list(numbers.items())[:2]]
        state = ("yes" if version.served else "no") if version.whole else "not whole"
        labels = ", ".join(version.labels)
        rows.append((str(version.number), version.time, state, labels, ", ".join(scores)))
    return aligned(rows)


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells, one a line, each column as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)
