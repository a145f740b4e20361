"""Slow clients for `fuzz.py`: byte by byte, half a request, and answers that nobody takes."""

import random
import socket
import threading
import time
from collections import Counter

from _fuzz_rest import MODEL, PREDICT, http

_AT_A_TIME = 25
_SLACK = 20.0  # seconds beyond the server's own limits


class SlowClients(threading.Thread):
    """Clients that the server has to cut off.

    Args:
        ports: of REST and gRPC.
        count: clients.
        seed: that they are drawn by.
        limit: seconds after which the server gives up on what is half sent.
    """

    def __init__(self, ports: tuple[int, int], count: int, seed: int, limit: float):
        super().__init__()
        self.ports, self.count, self.limit = ports, count, limit
        self.draw = random.Random(f"slow {seed}")
        self.wrong: list[str] = []
        self.sent: Counter[str] = Counter()

    def run(self) -> None:
        for first in range(0, self.count, _AT_A_TIME):
            self._some(min(_AT_A_TIME, self.count - first))

    def _some(self, count: int) -> None:
        made = [self._open() for _ in range(count)]
        end = time.monotonic() + 2 * self.limit + _SLACK
        while made and time.monotonic() < end:
            time.sleep(self.limit / 20)
            made = [one for one in made if not self._step(*one)]
        for name, connection, _ in made:
            self.wrong.append(f"{name}: still open after {2 * self.limit + _SLACK:g} s")
            connection.close()

    def _open(self) -> tuple[str, socket.socket, list[bytes]]:
        body = b'{"instances": ["a"]}' + b" " * 400
        whole = http("POST", PREDICT, body, "X: " + "a" * 400)
        name = self.draw.choice(("header by byte", "body by byte", "silent", "half", "no reader"))
        rest: list[bytes] = []
        port = self.ports[0] if name != "silent" or self.draw.random() < 0.5 else self.ports[1]
        connection = socket.socket()
        if name == "no reader":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", port))
        if name == "header by byte":
            rest = [whole[i : i + 1] for i in range(200)]
        elif name == "body by byte":
            start = whole.index(b"\r\n\r\n") + 4
            connection.sendall(whole[:start])
            rest = [whole[i : i + 1] for i in range(start, start + 200)]
        elif name == "half":
            connection.sendall(whole[: self.draw.randrange(1, len(whole))])
        elif name == "no reader":
            connection.setblocking(False)
            rest = [http("GET", f"{MODEL}/metadata") * 200] * 200
        connection.setblocking(False)
        self.sent[f"slow {name}"] += 1
        return name, connection, rest

    def _step(self, name: str, connection: socket.socket, rest: list[bytes]) -> bool:
        """Send a little more; whether the server has closed."""
        try:
            if rest:
                sent = connection.send(rest[0])
                rest[0] = rest[0][sent:]
                if not rest[0]:
                    rest.pop(0)
            if name == "no reader":
                return False  # only a write tells it that it was cut off
            return self._read(name, connection)
        except BlockingIOError:
            return False if name == "no reader" else self._read(name, connection)
        except OSError:
            connection.close()
            return True

    def _read(self, name: str, connection: socket.socket) -> bool:
        try:
            found = connection.recv(2**16)
        except BlockingIOError:
            return False
        if found.startswith(b"HTTP/1.1 ") and found[9:12] not in (b"400", b"408"):
            self.wrong.append(f"{name}: {found[:200]!r}")
        if not found:
            connection.close()
        return not found
