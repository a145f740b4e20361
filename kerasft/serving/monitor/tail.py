"""Lines of a log that is still written, across its rotations."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from kerasft._core.errors import InputError

_CHUNK = 1 << 20
MOST = 16 << 20  # bytes of one line


class Tail:
    """The lines of a log: of PATH.1, the file before, then of PATH, as far as they are written.

    Args:
        path: the log; a local file.
        wait: whether it may still come, and grow. Without it a last line is a line without its
            end too.

    `lost` counts files that were turned over unread. A line beyond 16 MiB is given as None.

    Raises:
        InputError: for a log that is not there, without `wait`.

    Example:
        >>> for line in Tail("requests.jsonl", wait=False).lines():
        ...     parse(line)
    """

    def __init__(self, path: str, wait: bool = True):
        self._path, self._wait, self.lost = path, wait, 0
        self._rest, self._skipping = b"", False
        self._file: BinaryIO | None = None
        if not wait and not os.path.isfile(path):
            raise InputError(f"There is no file {path}.")

    def close(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def lines(self) -> Iterator[bytes | None]:
        """What has come since the last call."""
        if self._file is None:
            self._begin()
        while self._file is not None:
            yield from self._read()
            if not self._moved_on():
                break
        if not self._wait and self._rest:
            line, self._rest = self._rest, b""
            yield line

    def _begin(self) -> None:
        """Open the file before, or the log itself."""
        for path in (f"{self._path}.1", self._path):
            if self._open(path):
                return

    def _open(self, path: str) -> bool:
        try:
            file = open(path, "rb")  # noqa: SIM115, closed by `close`
        except OSError:
            return False
        self.close()
        self._file, self._rest, self._skipping = file, b"", False
        return True

    def _read(self) -> Iterator[bytes | None]:
        if os.fstat(self._file.fileno()).st_size < self._file.tell():  # emptied in its place
            self._file.seek(0)
            self._rest, self._skipping = b"", False
        while chunk := self._file.read(_CHUNK):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            for line in whole:
                yield None if self._skipping else line
                self._skipping = False
            if len(self._rest) > MOST:
                self._rest, self._skipping = b"", True

    def _moved_on(self) -> bool:
        """Go to the next file, where this one has been turned over."""
        own = _key(os.fstat(self._file.fileno()))
        try:
            if _key(os.stat(self._path)) == own:
                return False
        except OSError:  # between two files
            return False
        before = f"{self._path}.1"
        try:
            missed = _key(os.stat(before)) != own
        except OSError:
            missed = False
        # What was written between our last look and the turn lies in this file still.
        if missed:
            self.lost += 1
            return self._open(before) or self._open(self._path)
        return self._open(self._path)


def _key(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino
