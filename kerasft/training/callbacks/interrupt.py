"""SIGTERM and Ctrl-C become a flag that is read between two steps."""

import signal
import threading
from types import TracebackType


class Interrupt:
    """While entered, the first SIGTERM or Ctrl-C sets `wanted`; the second acts as usual."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.wanted: str | None = None
        self._before: dict = {}

    def __enter__(self) -> "Interrupt":
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in self.SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: object) -> None:
        self.wanted = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
