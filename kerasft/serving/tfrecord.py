"""TFRecord files without TensorFlow for Python.

Source: tensorflow/core/lib/io/record_writer.h, tensorflow/core/lib/hash/crc32c.h.
"""

import os
import struct
from collections.abc import Iterator

from kerasft._core.errors import InputError

MOST = 16 << 20  # bytes of one record
_POLYNOMIAL, _MASK = 0x82F63B78, 0xA282EAD8  # of CRC-32C, reversed; what TensorFlow adds to it


def records(path: str | os.PathLike, checked: bool = False) -> Iterator[bytes | None]:
    """The records of a TFRecord, in order.

    Args:
        path: a local file.
        checked: whether the check sums are looked at, which takes about a second for 5 MB.

    Yields:
        A record; None for one that is cut off, damaged, or longer than 16 MiB, which ends it.

    Raises:
        InputError: if the file cannot be read.

    Example:
        >>> for record in records("requests.tfrecord"):
        ...     parse(record)
    """
    try:
        file = open(path, "rb")  # noqa: SIM115, closed below
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: {error.strerror or error}.") from None
    with file:
        while head := file.read(12):
            size = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else MOST + 1
            rest = file.read(size + 4) if size <= MOST else b""
            whole = len(rest) == size + 4
            if not whole or (checked and not (_fits(head) and _fits(rest))):
                yield None
                return
            yield rest[:-4]


def check_sum(data: bytes) -> bytes:
    """The four bytes that stand behind a record, and behind its length: CRC-32C, masked."""
    found = 0xFFFFFFFF
    for byte in data:
        found = _TABLE[(found ^ byte) & 0xFF] ^ (found >> 8)
    found ^= 0xFFFFFFFF
    masked = ((found >> 15 | found << 17) + _MASK) & 0xFFFFFFFF
    return struct.pack("<I", masked)


def _fits(data: bytes) -> bool:
    return check_sum(data[:-4]) == data[-4:]


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(map(_entry, range(256)))
