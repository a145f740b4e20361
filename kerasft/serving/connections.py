"""REST's connections: how many there may be, by which name they came, what is broken in them."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from kerasft.serving import json_form
from kerasft.serving._surgery import Connection

_FULL = json_form.problem("The server has all the connections that it takes. Try again later.")


class Hosts:
    """The names by which a server is asked, as the header `Host` says them.

    A web page of anybody's can have its own name point to 127.0.0.1 ("DNS rebinding"), and its
    scripts then read what a server at the desk answers. Their requests name that page.

    Args:
        names: that are answered beside those of the machine itself; "*" for any.
        bound: the address that the server listens at. Without `names` a server that others reach
            answers to any name, because it cannot know them.
    """

    def __init__(self, names: Iterable[str], bound: str):
        self._names = {name.lower() for name in names}
        self._any = "*" in self._names or (not self._names and not _is_loopback(bound))

    def answers_to(self, header: str) -> bool:
        """Whether a request with this header is answered."""
        host = header.strip().lower()
        name, colon, port = host.rpartition(":")
        if colon and port.isdigit() and (":" not in name or name.endswith("]")):
            host = name
        host = host.removeprefix("[").removesuffix("]").removesuffix(".")
        return self._any or host in self._names or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Connections:
    """Makes what serves a connection, up to a limit; those beyond are told so and closed.

    Args:
        server: aiohttp's server.
        most: connections at a time.
        settings: of each connection, for aiohttp.
    """

    def __init__(self, server: web.Server, most: int, **settings: Any):
        self._server, self._most, self._settings = server, most, settings

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._most:
            return _Refused()
        loop = asyncio.get_running_loop()
        return Connection(self._server, loop=loop, access_log=None, **self._settings)


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(_FULL)}\r\nConnection: close\r\n\r\n"
        )
        transport.write(head.encode("ascii") + _FULL)
        transport.close()


def end_silent_readers(listening: socket.socket, seconds: float) -> None:
    """Close connections whose client takes nothing of an answer for so long, where the system can.

    Neither asyncio nor aiohttp sets a limit to that.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
