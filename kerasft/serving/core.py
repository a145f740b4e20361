"""What a request passes through behind either door: a limit, a deadline, the counters."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from kerasft.serving.errors import ServingError, code_of
from kerasft.serving.inference import Inference
from kerasft.serving.metrics import Metrics
from kerasft.serving.versions import Models

LOG = logging.getLogger("kerasft.serving")
# Bytes of a request or answer from which on its form is changed outside the loop of all others.
LARGE = 2**17


async def apart(size: int, function: Callable, *args: Any) -> Any:
    """Call a function: here, or in a thread where what it works on is large."""
    return function(*args) if size < LARGE else await asyncio.to_thread(function, *args)


@dataclass
class Core:
    """The parts of a server that REST and gRPC share.

    Args:
        models: the versions.
        metrics: counts.
        most_requests: requests under way at a time; one beyond is refused (UNAVAILABLE).
        log: takes what was answered (`tap.Writer`); None for nobody.
        most_rows: rows of a request; one of more is refused (INVALID_ARGUMENT).
    """

    models: Models
    metrics: Metrics
    most_requests: int = 1000
    log: Any = None
    most_rows: int = 10_000
    running: int = 0
    stopping: bool = False

    def __post_init__(self):
        self.inference = Inference(self.metrics, self.log, self.most_rows)

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.models.ready and not self.stopping

    @contextlib.asynccontextmanager
    async def request(
        self, model: str, api: str, entrypoint: str, seconds: float | None
    ) -> AsyncIterator[None]:
        """Count a request, limit it, and end it at its deadline.

        Args:
            model: as the client names it.
            api: as the metrics name it.
            entrypoint: "REST" or "GRPC".
            seconds: that are left for it; None for any.

        Raises:
            ServingError: UNAVAILABLE.
            TimeoutError: at the deadline.
        """
        code, began = "OK", time.perf_counter()
        # Names that a client makes up would be a series each, for ever.
        known = model if model in self.models else ""
        try:
            if self.running >= self.most_requests:
                raise ServingError(
                    "UNAVAILABLE", f"{self.running} requests are under way. Try again later."
                )
            self.running += 1
            try:
                async with asyncio.timeout(seconds):
                    yield
            finally:
                self.running -= 1
            self.metrics.answered(known, api, entrypoint, time.perf_counter() - began)
        except BaseException as error:
            code = code_of(error)
            if code == "INTERNAL":
                LOG.exception("%s: a request failed", model)
            raise
        finally:
            self.metrics.request(known, code)
