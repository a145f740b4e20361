"""What a client keeps to whatever it speaks: the deadline, the tries, and requests side by side."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from kerasft._core.errors import InputError
from kerasft.serving.errors import ServingError

# Seconds before the second try and the longest pause; each is twice the one before, and the actual
# pause between half and all of that, so that clients that failed together do not return together.
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Passing(Exception):
    """A failure that the next try may not meet.

    Args:
        error: what the user is told where no try is left.
    """

    def __init__(self, error: ServingError):
        super().__init__(str(error))
        self.error = error


class Call:
    """One call of a user: its deadline, and how to end what is under way for it at `with`'s end.

    Args:
        seconds: from now to the deadline.
    """

    def __init__(self, seconds: float):
        self.seconds, self._end = seconds, time.monotonic() + seconds
        self.over = threading.Event()
        self._lock, self._enders = threading.Lock(), set()

    def left(self) -> float:
        """Seconds that are left, more than 0.

        Raises:
            ServingError: DEADLINE_EXCEEDED.
        """
        left = self._end - time.monotonic()
        if left <= 0 or self.over.is_set():
            raise self.late()
        return left

    def late(self) -> ServingError:
        """The error of a deadline that has passed."""
        return ServingError("DEADLINE_EXCEEDED", f"No answer within {self.seconds:g} seconds.")

    @contextlib.contextmanager
    def ends(self, ender: Callable[[], Any]) -> Iterator[None]:
        """While this lasts, the end of the call runs `ender`, which may not block or raise."""
        with self._lock:
            if self.over.is_set():
                raise self.late()
            self._enders.add(ender)
        try:
            yield
        finally:
            with self._lock:
                self._enders.discard(ender)

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, *_: object) -> None:
        """End what is under way: its answer is not waited for any more."""
        with self._lock:
            self.over.set()
            for ender in self._enders:
                ender()


class Calls:
    """Requests of all calls, a few at a time.

    A thread that waits keeps the deadline whatever the thread that asks is doing: a name that is
    looked up, or an answer that comes byte by byte, has no limit in total of its own.

    Args:
        parallel: requests at a time.
        retries: tries after the first.
    """

    def __init__(self, parallel: int, retries: int):
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="kerasft-client")
        self._retries, self._closed = retries, False

    def each(
        self, call: Call, jobs: list[Callable[[Call], Any]], retries: int | None = None
    ) -> list[Any]:
        """What the jobs give, in their order.

        Args:
            call: whose deadline they keep.
            jobs: one a request.
            retries: tries of each after the first; those of all calls when None.

        Raises:
            ServingError: of the first job that failed for good; those that wait are dropped.
            InputError: after `close`.
        """
        tries = 1 + (self._retries if retries is None else retries)
        futures = []
        try:
            for job in jobs:
                futures.append(self._submit(call, job, tries))
            _, waiting = wait(futures, call.left(), FIRST_EXCEPTION)
            for future in futures:
                if future.done() and future.exception():
                    raise future.exception()
            if waiting:
                raise call.late()
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _submit(self, call: Call, job: Callable[[Call], Any], tries: int) -> Any:
        try:
            return self._pool.submit(self._kept_at, call, job, tries)
        except RuntimeError:
            if not self._closed:  # the machine has no thread left
                raise
            raise InputError(
                "A client answers until `close`. Received: a call after it. Make another client."
            ) from None

    def _kept_at(self, call: Call, job: Callable[[Call], Any], tries: int) -> Any:
        """What a job gives, tried again after a passing failure."""
        pause = _PAUSE
        for attempt in range(1, tries + 1):
            call.left()
            if self._closed:
                raise ServingError("CANCELLED", "The client was closed.")
            try:
                return job(call)
            except Passing as failure:
                wanted = pause * random.uniform(0.5, 1)
                if attempt == tries or wanted >= call.left():
                    raise failure.error from None
            call.over.wait(wanted)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """Begin no more jobs. The pool's own way to drop them does not wake who waits for them."""
        self._closed = True
        self._pool.shutdown(wait=False)
