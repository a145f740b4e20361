"""Where alarms go: a file of JSON lines, and a webhook. Neither holds up the reading."""

import contextlib
import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from kerasft._core.errors import InputError

LOG = logging.getLogger("kerasft.monitor")
_SAME = ("event", "rule", "key", "model")  # what makes two lines one event, with the window


class AlarmFile:
    """A file of events, a JSON line each; what it holds already is not written again.

    So a monitor that is started anew, and reads the log from its beginning, repeats nothing.

    Args:
        path: the file; it is added to.

    Raises:
        InputError: where it cannot be written.
    """

    def __init__(self, path: str):
        self._path, self._there = path, set()
        try:
            with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
                for line in file:
                    with contextlib.suppress(ValueError, AttributeError):
                        self._there.add(_key(json.loads(line)))
            with open(path, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise InputError(f"--alarms {path}: {error.strerror or error}.") from None
        except UnicodeDecodeError:
            raise InputError(f"--alarms {path} is no file of alarms.") from None

    def add(self, event: dict[str, Any]) -> bool:
        """Write an event; False where the file holds it already."""
        if _key(event) in self._there:
            return False
        self._there.add(_key(event))
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            LOG.error("%s is not written: %s", self._path, error)
        return True


def _key(event: dict[str, Any]) -> str:
    window = event.get("window") or {}
    begun = window.get("from") or window.get("start")
    return json.dumps([begun, *(event.get(name) for name in _SAME)])


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that sends its caller elsewhere has not taken the alarm."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """Events as POST requests with a JSON body, from a thread of its own.

    Args:
        url: http or https.
        timeout: seconds for each try.
        tries: of each event; the pause before them doubles.
        pause: seconds before the second try.
        waiting: events that may wait; one beyond is dropped, and counted as failed.
        failed: is called for an event that nobody took.

    Raises:
        InputError: for another kind of address.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 5.0,
        tries: int = 3,
        pause: float = 1.0,
        waiting: int = 100,
        failed: Callable[[], None] = lambda: None,
    ):
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fine = False
        if not fine:
            raise InputError(f"--webhook is an address http(s)://... Received: {url!r}.")
        self._url, self._timeout, self._tries, self._pause = url, timeout, tries, pause
        self._failed = failed
        self._events: queue.Queue[dict | None] = queue.Queue(waiting)
        self._ending = threading.Event()
        self._open = urllib.request.build_opener(_NoRedirect).open
        self._thread = threading.Thread(target=self._work, name="kerasft-webhook", daemon=True)
        self._thread.start()

    def add(self, event: dict[str, Any]) -> None:
        """Send an event as soon as those before are sent; never waits."""
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._lost("too many wait")

    def close(self, seconds: float = 20.0) -> None:
        """Send what waits, for so many seconds at most, and end."""
        end = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=seconds)
        self._thread.join(max(end - time.monotonic(), 0))
        self._ending.set()

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            body = json.dumps(event, ensure_ascii=False, allow_nan=False).encode("utf-8")
            for number in range(self._tries):
                if number and self._ending.wait(self._pause * 2 ** (number - 1)):
                    return
                problem = self._post(body)
                if problem is None:
                    break
            else:
                self._lost(problem)

    def _post(self, body: bytes) -> str | None:
        """Send once; what went wrong, or None."""
        headers = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(self._url, body, headers, method="POST")
            with self._open(request, timeout=self._timeout):
                return None
        except urllib.error.HTTPError as error:
            with error:
                return f"HTTP {error.code}"
        except Exception as error:  # of sockets, TLS and http.client, of many kinds
            return str(error) or type(error).__name__

    def _lost(self, problem: str) -> None:
        # Without the address: a webhook's often holds its secret.
        LOG.error("An alarm did not reach the webhook: %s", problem)
        self._failed()
