"""A server in a process of its own, from outside: its port, its memory and its files."""

import contextlib
import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@contextlib.contextmanager
def running(
    command: list[str], ready: str, port: int, log: Any = subprocess.DEVNULL, **options: Any
) -> Iterator[subprocess.Popen]:
    """A server in a process of its own, from the moment in which it answers.

    Args:
        command: that starts it.
        ready: a path that answers 200 then.
        port: of HTTP.
        log: a file for what it says of itself.
        options: for `subprocess.Popen`.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, **options)
    try:
        end = time.monotonic() + 180
        while not _answers(ready, port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{command[:4]} does not answer.")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _answers(path: str, port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def resident(pid: int) -> float:
    """MiB of memory of a process and of those that it started."""
    return sum(memory(pid))


def memory(pid: int) -> tuple[float, float]:
    """MiB of memory of a process and of those that it started: their own, and pages of files.

    The system takes the latter back where others need them, which would hide what grows.
    """
    own = shared = 0
    for one in [pid, *_children(pid)]:
        with contextlib.suppress(OSError):  # it has just ended
            _, pages, of_files, *_ = map(int, Path(f"/proc/{one}/statm").read_text().split())
            own, shared = own + pages - of_files, shared + of_files
    size = os.sysconf("SC_PAGE_SIZE") / 2**20
    return own * size, shared * size


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def open_files(pid: int) -> int:
    """Files and connections that a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))
