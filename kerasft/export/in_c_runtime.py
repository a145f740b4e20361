"""The last gate: an export is loaded by TensorFlow's C runtime, in a process without Keras."""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any

from kerasft._core.errors import KerasftError


class _Checker:
    """A process of `check_golden` that is asked folder by folder: to start one takes seconds."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `end`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kerasft.export.check_golden"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self._lock = threading.Lock()
        atexit.register(self.end)

    def ask(self, folder: str) -> dict[str, Any]:
        """What it says of a folder."""
        with self._lock:
            given, told = self._process.stdin, self._process.stdout
            try:
                print(folder, file=given, flush=True)
                line = told.readline()
            except BrokenPipeError:
                line = ""
            if line:
                return json.loads(line)
            _checker.cache_clear()
            code = self._process.wait()
            self._said.seek(0)
            said = " ".join(self._said.read().split())[-500:]
            return {"error": f"The process ended with code {code}. {said}".strip()}

    def end(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.communicate()
        self._said.close()


_checker = functools.cache(_Checker)


def check_in_c_runtime(folder: str) -> dict[str, Any] | None:
    """Ask an export its golden records in TensorFlow's C runtime, as TF Serving would run it.

    Args:
        folder: of the version, with `assets.extra/golden.json`.

    Returns:
        `runtime` (its version), `checked` (records), `difference` (the largest of a number); None
        where TensorFlow has no C library of its own (on Windows).

    Raises:
        KerasftError: if it does not load there, or answers otherwise.
    """
    if sys.platform not in ("linux", "darwin"):
        return None
    found = _checker().ask(os.path.abspath(folder))  # it began in a folder of its own
    if "error" in found:
        raise KerasftError(
            "The exported model does not run in TensorFlow's C runtime as the trained one does. "
            f"{found['error']} Nothing was left behind."
        )
    return found
