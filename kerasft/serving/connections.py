"""REST's connections: how many there may be, by which name they came, what is broken in them."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from kerasft.serving import json_form

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
        return _Connection(self._server, loop=loop, access_log=None, **self._settings)


class _Connection(web.RequestHandler):
    """aiohttp's own, but for what is no HTTP: that, too, is told as TF Serving tells errors."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # What aiohttp finds broken inside a body it only lays behind the request, which would wait
        # for the rest of its body until it is out of time.
        request = self._current_request
        if self._messages and request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("Its parts are broken."))

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        # A body that cannot be unpacked was answered, and fails again when the rest of it is read.
        if not isinstance(kwargs.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kwargs)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        # aiohttp logs every broken request, with a traceback.
        if status >= 500:
            self.log_exception("A request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("A part of the answer has been sent already.")
        told = message if status < 500 and message else "The server failed."
        answer = web.Response(
            status=status, body=json_form.problem(told), content_type="application/json"
        )
        answer.force_close()
        return answer


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
