"""A server from its start to its end."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from aiohttp import web

from kerasft._core.errors import InputError
from kerasft.serving.batching import Queue, Workers
from kerasft.serving.config import METRICS_PATH, Batching, ModelConfig
from kerasft.serving.connections import Connections, Hosts, end_silent_readers
from kerasft.serving.core import Core
from kerasft.serving.grpc_service import Parsing, add_services
from kerasft.serving.metrics import Metrics
from kerasft.serving.page import Page
from kerasft.serving.rest import Rest
from kerasft.serving.tap import Tap, Writer
from kerasft.serving.versions import Models
from kerasft.serving.warmup import warmed

LOG = logging.getLogger("kerasft.serving")


def load_c_model(folder: str) -> Any:
    """A version in TensorFlow's C runtime."""
    from kerasft.export.c_runtime import CModel

    return CModel(folder)


@dataclass(frozen=True)
class Options:
    """What is served, where, and within which limits.

    Args:
        models: what is served.
        host: the address to listen at. Nothing is encrypted, and nobody is asked who they are.
        port: of gRPC; 0 for any free one.
        rest_port: of REST; 0 for any free one.
        batching: how requests are put together; None: each runs by itself.
        metrics_path: where Prometheus reads; None for nowhere.
        max_body_bytes: the longest request.
        timeout: seconds for a REST request; gRPC's clients set their own deadline.
        grace: seconds for what runs to finish once the server is told to stop.
        poll: seconds between looks for new versions; 0: no more looks after the first.
        most_requests: requests under way at a time.
        warm_up: seconds that the warm-up requests of a version may take before it is available
            (see `warmup.warmed`); 0: they are not looked at.
        most_connections: of REST at a time, and of gRPC; the files that a process may have open,
            1,024 on many systems, are the limit behind it.
        most_rows: rows of a request.
        hosts: names that REST's clients may call the server by (their header `Host`), beside those
            of the machine itself, such as localhost and 127.0.0.1; "*" for any. Where `host` is an
            address that others reach, none given means any.
        page: whether REST's port also has the page for the desk.
        log: what is logged of requests and answers, and where; None for nothing.
        load: makes a model of a version's folder; `kerasft.export.c_runtime.CModel` when None.
    """

    models: tuple[ModelConfig, ...]
    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int = 8501
    batching: Batching | None = None
    metrics_path: str | None = METRICS_PATH
    max_body_bytes: int = 64 * 2**20
    timeout: float = 30.0
    grace: float = 30.0
    poll: float = 1.0
    most_requests: int = 1000
    warm_up: float = 300.0
    most_connections: int = 400
    most_rows: int = 10_000
    hosts: tuple[str, ...] = ()
    page: bool = True
    log: Tap | None = None
    load: Callable[[str], Any] | None = None

    def __post_init__(self):
        for name in ("port", "rest_port"):
            if not 0 <= getattr(self, name) < 2**16:
                raise InputError(f"{name} is from 0 to 65535. Received: {getattr(self, name)}.")
        if self.port == self.rest_port != 0:
            raise InputError(f"gRPC and REST need a port each. Received: {self.port} for both.")
        for name in (
            "max_body_bytes",
            "most_requests",
            "most_connections",
            "most_rows",
            "timeout",
        ):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is more than 0. Received: {getattr(self, name)}.")
        if not self.warm_up >= 0:
            raise InputError(f"warm_up is at least 0 seconds. Received: {self.warm_up}.")


class Server:
    """A server in a running event loop.

    Args:
        options: what is served, where, and within which limits.

    Example:
        server = Server(Options(single("saved_models/spam")))
        await server.start()
        ...
        await server.stop()
    """

    def __init__(self, options: Options):
        self.options = options
        threads = options.batching.num_batch_threads if options.batching else os.cpu_count() or 1
        metrics, self._workers = Metrics(), Workers(threads)
        queue = partial(
            Queue,
            workers=self._workers,
            metrics=metrics,
            batching=options.batching,
            most_waiting=options.most_requests,
        )
        self._log = Writer(options.log, metrics) if options.log else None
        load = options.load or load_c_model
        if options.warm_up:
            load = warmed(load, metrics, options.warm_up)
        models = Models(load, queue)
        self.core = Core(models, metrics, options.most_requests, self._log, options.most_rows)
        self.port = self.rest_port = 0
        self._grpc: Any = None
        self._rest: Rest | None = None
        self._web: web.Server | None = None
        self._listening: asyncio.Server | None = None
        self._polling: asyncio.Task | None = None
        self._socket: socket.socket | None = None

    async def start(self) -> None:
        """Take the ports, load the models, then answer.

        Raises:
            InputError: for a port in use, a folder or version that is not there, or a version that
                does not load.
        """
        options = self.options
        try:
            self._socket = _bound(options.host, options.rest_port)
            self.rest_port = self._socket.getsockname()[1]
            self._grpc = grpc.aio.server(
                interceptors=[Parsing()],
                # Without the first, a second server would share the port unnoticed.
                options=[
                    ("grpc.so_reuseport", 0),
                    ("grpc.max_receive_message_length", options.max_body_bytes),
                    ("grpc.max_send_message_length", -1),
                    ("grpc.max_allowed_incoming_connections", options.most_connections),
                    ("grpc.server_handshake_timeout_ms", int(options.timeout * 1000)),
                ],
            )
            add_services(self._grpc, self.core)
            self.port = _grpc_port(self._grpc, options.host, options.port)
            await self.core.models.start(options.models)
            await self._grpc.start()
            await self._start_rest()
        except BaseException:
            await self.stop()
            raise
        if options.poll:
            self._polling = asyncio.get_running_loop().create_task(self._poll())

    async def _start_rest(self) -> None:
        options = self.options
        page = Page(self.core.models) if options.page else None
        hosts = Hosts(options.hosts, self._socket.getsockname()[0])
        self._rest = Rest(
            *(self.core, hosts, options.metrics_path, options.timeout, options.max_body_bytes, page)
        )
        # Cancelled where nobody waits for the answer any more.
        self._web = web.Server(self._rest.handle, handler_cancellation=True)
        connections = Connections(
            self._web,
            options.most_connections,
            keepalive_timeout=options.timeout,
            lingering_time=min(options.timeout, 10.0),  # for the rest of a body that is refused
        )
        end_silent_readers(self._socket, options.timeout)
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(connections, sock=self._socket)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.options.poll)
            try:
                await self.core.models.poll()
            except Exception:  # of a file system; the next look may go well
                LOG.exception("Looking for new versions failed")

    async def _accept_no_more(self) -> None:
        """Leave no connection that is accepted and not yet known as one.

        asyncio's Server.close forgets such a connection: its transport fails an assertion in
        Server._attach and is closed by nobody.
        """
        asyncio.get_running_loop().remove_reader(self._socket)
        await asyncio.sleep(0)  # what is accepted gets its transport
        await asyncio.sleep(0)  # and the server behind it knows it

    async def stop(self) -> bool:
        """Take no more requests, finish those that run within the grace, unload.

        Returns:
            Whether everything was finished; if not, a model still runs in its thread.
        """
        grace = self.options.grace
        end = time.monotonic() + grace
        self.core.stopping = True
        if self._polling:
            self._polling.cancel()
        doors = []
        if self._grpc is not None:
            doors.append(self._grpc.stop(grace))
        if self._listening is not None:
            await self._accept_no_more()
            self._listening.close()
            self._web.pre_shutdown()  # of those that are idle
            doors.append(self._web.shutdown(grace))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace + 1):
                await asyncio.gather(*doors)
        if self._socket is not None:
            self._socket.close()
        done = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(end - time.monotonic(), 0.1)):
                await self.core.models.stop()
                done = True
        self._workers.close()
        self.core.models.close()
        if self._rest is not None:
            await self._rest.close()
        if self._log is not None:
            await asyncio.to_thread(self._log.close)
        return done and not self._workers.busy


def serve(options: Options) -> bool:
    """Serve until SIGTERM or SIGINT, then finish what runs. A second signal ends at once.

    Where it listens, and what happens to versions, goes to the log `kerasft.serving`.

    Args:
        options: what is served, where, and within which limits.

    Returns:
        Whether everything was finished in time; if not, the process should end without waiting for
        its threads.

    Raises:
        InputError: as `Server.start`.
    """
    return asyncio.run(_serve(options))


async def _serve(options: Options) -> bool:
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def tell(number: int) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number)
    server = Server(options)
    starting, waiting = loop.create_task(server.start()), loop.create_task(told.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        LOG.error("Stopped while a model was being loaded")
        return False
    starting.result()
    LOG.info("%s", describe(server))
    await waiting
    LOG.info("Stopping: what runs has %g seconds to finish", options.grace)
    finished = await server.stop()
    if not finished:
        LOG.error("What runs did not finish within %g seconds", options.grace)
    return finished


def describe(server: Server) -> str:
    """Where a server listens, and with what."""
    host = _bracketed(server.options.host)
    found = server.core.models.versions()
    names = ", ".join(f"{n} {'/'.join(map(str, versions))}" for n, versions in found.items())
    rest = f"http://{host}:{server.rest_port}/"
    page = f"\nA page to ask by hand: {rest}" if server.options.page else ""
    return (
        "Compatible with TF Serving, for development; in production run TF Serving itself.\n"
        f"Serving {names}: REST {rest}v1/models/{next(iter(found))}, "
        f"gRPC {host}:{server.port}{page}"
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has its port, but does not listen yet."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"Port {port} is in use. Give another one: --rest-port N") from None
        raise InputError(
            f"Nothing can listen at {host}:{port}: {error.strerror or error}."
        ) from None
    return made


def _grpc_port(server: Any, host: str, port: int) -> int:
    """Let gRPC listen at a port; its number."""
    # gRPC would only log what is wrong, on lines of its own.
    _bound_and_left(host, port)
    try:
        return server.add_insecure_port(f"{_bracketed(host)}:{port}")
    except RuntimeError:
        raise InputError(f"gRPC cannot listen at {host}:{port}.") from None


def _bound_and_left(host: str, port: int) -> None:
    try:
        _bound(host, port).close()
    except InputError as error:
        raise InputError(str(error).replace("--rest-port", "--port")) from None
