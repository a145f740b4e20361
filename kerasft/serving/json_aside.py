"""Large JSON is read in a process of its own: long work would stop the loop that serves all others.

A thread would not do: Python's parser holds the interpreter's lock to its end, seconds for 10 MB of
"[],[],...". What comes back are arrays, which need no parsing. A reading that nobody waits for any
more is ended with its process, and so are the memory and the time that a request can take.
"""

import asyncio
import contextlib
import gc
import pickle
import signal
import sys
from typing import Any, BinaryIO

from kerasft.serving import json_form
from kerasft.serving.errors import ServingError
from kerasft.serving.inference import check_rows

_SIZE = 8  # bytes that say how long a message between the two processes is


class Aside:
    """The other process; it starts with the first large request, and reads one at a time.

    Args:
        most_rows: rows of a request; one of more is refused there, so that they need not come here.

    Example:
        aside = Aside(most_rows=10_000)
        await aside.read(body, "predict", {"serving_default": {"text": "string"}})
        await aside.close()
    """

    def __init__(self, most_rows: int):
        self._most_rows = most_rows
        self._process: asyncio.subprocess.Process | None = None
        self._one = asyncio.Lock()

    async def read(
        self, body: bytes | bytearray, method: str, signatures: json_form.Signatures
    ) -> json_form.Asked:
        """What `json_form.asked` makes of a body.

        Raises:
            ServingError: as `json_form.asked`; RESOURCE_EXHAUSTED where there is no memory for it,
                INVALID_ARGUMENT for too many rows.
        """
        async with self._one:
            try:
                good, found = await self._answer(
                    pickle.dumps((body, method, signatures, self._most_rows))
                )
            except (OSError, EOFError):
                await self._end()
                raise ServingError(
                    "RESOURCE_EXHAUSTED", "There is not the memory to read this request."
                ) from None
            except BaseException:  # cancelled: what it still reads is nobody's any more
                await self._end()
                raise
        if not good:
            raise ServingError(*found)
        return found

    async def _answer(self, message: bytes) -> tuple[bool, Any]:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kerasft.serving.json_aside"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        given, told = self._process.stdin, self._process.stdout
        given.write(len(message).to_bytes(_SIZE))
        given.write(message)
        await given.drain()
        size = int.from_bytes(await told.readexactly(_SIZE))
        return pickle.loads(await told.readexactly(size))

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        # Not `wait`: it does not end before what the process has written is read.
        await process.communicate()

    async def close(self) -> None:
        """End the process."""
        await self._end()


def work(given: BinaryIO, told: BinaryIO) -> None:
    """Read what comes, until nothing comes any more."""
    while size := given.read(_SIZE):
        message = given.read(int.from_bytes(size))
        answer = pickle.dumps(_read(*pickle.loads(message)), protocol=5)
        del message
        told.write(len(answer).to_bytes(_SIZE))
        told.write(answer)
        told.flush()


def _read(
    body: bytes, method: str, signatures: json_form.Signatures, most_rows: int
) -> tuple[bool, Any]:
    """Whether it could be read, and what it asks or the code and the message."""
    try:
        asked = json_form.asked(json_form.parse(body), method, signatures)
        check_rows(asked.inputs, most_rows)
        return True, asked
    except ServingError as error:
        return False, (error.code, str(error))
    except MemoryError:
        return False, ("RESOURCE_EXHAUSTED", "There is not the memory to read this request.")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the server, which ends this
    gc.disable()  # millions of lists, and no circles among them
    work(sys.stdin.buffer, sys.stdout.buffer)
