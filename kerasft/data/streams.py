"""Bytes and lines of any file: local or tf.io.gfile, plain, .gz or .xz, with a bounded memory."""

import contextlib
import gzip
import io
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from kerasft._core import checks, files
from kerasft._core.errors import InputError

BLOCK = 1 << 18
LONGEST_LINE = 1 << 26  # bytes; a longer "line" is a binary file or a quote that never closes
_BOM = b"\xef\xbb\xbf"
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def check_file(path: str) -> None:
    """Raise `InputError` unless `path` is a file that can be read."""
    try:
        folder = files.gfile().isdir(path) if files.is_remote(path) else os.path.isdir(path)
        there = files.exists(path)
    except Exception as error:  # TensorFlow has one class for each way a file system fails
        raise InputError(f"{path} cannot be opened: {_first_line(error)}.") from None
    if folder:
        raise InputError(f"A data file is expected, but {path} is a folder. Name a file in it.")
    if not there:
        raise InputError(f"There is no file {path}.{_nearest_file(path)}")


@contextlib.contextmanager
def open_bytes(path: str) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, unpacked if its name ends in .gz or .xz.

    Raises:
        InputError: if the packed data are broken or cut off, or reading is not permitted.
    """
    try:
        with _open_raw(path) as raw:
            if path.lower().endswith(".gz"):
                with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                    yield stream
            elif path.lower().endswith(".xz"):
                with lzma.LZMAFile(raw) as stream:
                    yield stream
            else:
                yield raw
    except _BROKEN as error:
        kind = "gzip" if path.lower().endswith(".gz") else "xz"
        raise InputError(f"{path} is not a whole {kind} file: {_first_line(error)}.") from None
    except PermissionError:
        raise InputError(f"{path} may not be read: permission denied.") from None


@contextlib.contextmanager
def seekable(path: str) -> Iterator[Any]:
    """Give a local path, or an unpacked temporary copy, for readers that jump about in a file."""
    if not files.is_remote(path) and not path.lower().endswith((".gz", ".xz")):
        yield path
        return
    with tempfile.TemporaryFile() as copy:
        with open_bytes(path) as stream:
            shutil.copyfileobj(stream, copy, BLOCK)
        copy.seek(0)
        yield copy


def text_lines(stream: IO[bytes], name: str) -> Iterator[str]:
    """Yield the lines of UTF-8 text with their ends (\\n, \\r\\n or \\r); a BOM is dropped.

    Raises:
        InputError: with file and line, for a broken UTF-8 byte, a NUL byte or an endless line.
    """
    done, rest = 0, b""
    while block := stream.read(BLOCK):
        rest += block
        cut = _cut(rest)
        if cut:
            for line in _split(rest[:cut], name, done):
                done += 1
                yield line
            rest = rest[cut:]
        elif len(rest) > LONGEST_LINE:
            raise InputError(
                f"{name}, line {done + 1}: a line of more than {LONGEST_LINE >> 20} MiB. "
                "A text file with lines is expected."
            )
    if rest:
        yield from _split(rest, name, done)


def _split(block: bytes, name: str, done: int) -> io.StringIO:
    """The lines of a block that begins after `done` lines."""
    if done == 0:
        block = block.removeprefix(_BOM)
    if b"\0" in block:
        raise InputError(
            f"{name}, line {_line(block, block.index(0), done)}: text is expected. "
            "Received: a NUL byte. Save the file as UTF-8 (UTF-16 is not read)."
        )
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {_line(block, error.start, done)}: UTF-8 text is expected. "
            f"Received: byte 0x{block[error.start]:02x}. Save the file as UTF-8."
        ) from None
    # newline="" splits at \n, \r\n and \r only; str.splitlines would also split at U+2028.
    return io.StringIO(text, newline="")


def _cut(data: bytes) -> int:
    """Where the last whole line ends; a \\r at the very end may yet be half of \\r\\n."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1


def _line(block: bytes, offset: int, done: int) -> int:
    before = block[:offset]
    return done + 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def _open_raw(path: str) -> Any:
    return files.gfile().GFile(path, "rb") if files.is_remote(path) else open(path, "rb")


def _nearest_file(path: str) -> str:
    folder, name = os.path.split(path)
    if files.is_remote(path) or not os.path.isdir(folder or "."):
        return ""
    return checks.nearest(name, os.listdir(folder or "."))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
