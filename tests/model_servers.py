"""Servers that the same questions are asked: `kerasft serve`, and TF Serving where it is found.

TF Serving is `tensorflow_model_server` on the PATH, or what KERASFT_TFS_BIN names. Where there is
none, NAMES holds ours alone, and `told` says so at the end of the tests.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

OURS, TF_SERVING = "kerasft", "tensorflow_model_server"
BINARY = "KERASFT_TFS_BIN"
START, END = 120.0, 30.0  # seconds that TF Serving may take to load its models, and to end


@dataclass(frozen=True)
class Asked:
    """A server that runs: `rest` as http://HOST:PORT, `grpc` as HOST:PORT."""

    name: str
    process: subprocess.Popen
    rest: str
    grpc: str

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        """Status and JSON of a REST request; a body of bytes is sent as it is."""
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.rest}{path}", raw, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def binary() -> str | None:
    """TF Serving's binary, or None. One that is named has to be there: it is not left out."""
    named = os.environ.get(BINARY)
    if not named:
        return shutil.which(TF_SERVING)
    found = shutil.which(named)
    if found is None:
        raise AssertionError(f"{BINARY} names no program that can be run: {named}")
    return found


NAMES = (OURS, TF_SERVING) if binary() else (OURS,)


def told(record_property) -> None:
    """Say at the end of the tests how many of the two servers were asked."""
    missing = "" if binary() else f"; no {TF_SERVING} on the PATH or in {BINARY}"
    record_property("covered", [f"servers asked{missing}", len(NAMES), 2])


@contextlib.contextmanager
def serving(*words: str) -> Iterator[Asked]:
    """The process of `kerasft serve ...` on free ports."""
    command = [sys.executable, "-m", "kerasft", "serve", *words, "--rest-port", "0", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                found = re.search(r"REST (http://\S+?)/v1\S*, gRPC (\S+)", line)
                if found:
                    break
            else:
                raise AssertionError(f"the server ended before it served: {''.join(said)}")
            yield Asked(OURS, process, *found.groups())
        finally:
            process.terminate()
            process.communicate(timeout=60)


@contextlib.contextmanager
def tf_serving(*flags: str, model: str) -> Iterator[Asked]:
    """The process of `tensorflow_model_server ...` on free ports, once `model` is available.

    It listens at every address of the machine, which no flag changes. It is ended here, also where
    it does not start or does not end by itself.
    """
    grpc_port, rest_port = _free(), _free()
    command = [binary(), f"--port={grpc_port}", f"--rest_api_port={rest_port}", *flags]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        asked = Asked(
            TF_SERVING, process, f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}"
        )
        try:
            end = time.monotonic() + START
            while not _available(asked, model):
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    state = "did not serve in time" if process.poll() is None else "ended"
                    raise AssertionError(f"{command[0]} {state}: {said.read()[-2000:]}")
                time.sleep(0.1)
            yield asked
        finally:
            process.terminate()
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def configured(name: str, config: str, model: str) -> Iterator[Asked]:
    """The server of a name, with a models.config, a file."""
    if name == OURS:
        with serving("--model-config-file", config, "--timeout", "60") as asked:
            yield asked
        return
    # Without it TF Serving takes no labels at its start, when no version is loaded yet.
    labels = "--allow_version_labels_for_unavailable_models=true"
    with tf_serving(f"--model_config_file={config}", labels, model=model) as asked:
        yield asked


@contextlib.contextmanager
def of_folder(name: str, folder: str) -> Iterator[Asked]:
    """The server of a name, with one folder, saved_models/NAME."""
    model = os.path.basename(folder)
    if name == OURS:
        with serving(folder) as asked:
            yield asked
        return
    flags = (f"--model_name={model}", f"--model_base_path={folder}")
    with tf_serving(*flags, model=model) as asked:
        yield asked


def _available(asked: Asked, model: str) -> bool:
    try:
        status, answer = asked.ask("GET", f"/v1/models/{model}")
    except OSError:  # it does not listen yet
        return False
    states = [one["state"] for one in answer.get("model_version_status", ())]
    return status == 200 and bool(states) and set(states) == {"AVAILABLE"}


def _free() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]
