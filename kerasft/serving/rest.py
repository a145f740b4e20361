"""TF Serving's REST API, on aiohttp.

aiohttp is one library for parsing in C, slow clients (a connection without a whole request is
closed after the keep-alive time) and an orderly end, and it runs in a loop that is shared with
gRPC; uvicorn wants the signals for itself.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

from aiohttp import HttpVersion10, web
from aiohttp.http_exceptions import BadHttpMessage

from kerasft.serving import descriptions, json_form
from kerasft.serving.connections import Hosts
from kerasft.serving.core import LARGE, Core, apart
from kerasft.serving.errors import ServingError, code_of, http_status, invalid, message_of
from kerasft.serving.json_aside import Aside
from kerasft.serving.metrics import CONTENT_TYPE
from kerasft.serving.page import Page
from kerasft.serving.versions import Loaded

HEALTH, READY = "/healthz", "/readyz"
_WHICH = r"(?i:/v1/models)/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_RUN = re.compile(_WHICH + ":(classify|regress|predict)")
_TELL = re.compile(_WHICH + "(?:/(metadata))?")
# The header of gRPC's own deadlines, which proxies between REST and gRPC know.
_DEADLINE = re.compile("([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


# Longest bodies whose bytes may be here at a time.
_BODIES = 4


class Rest:
    """The handler of all paths.

    Args:
        core: the server's parts.
        hosts: the names by which it is asked.
        metrics_path: where Prometheus reads; None for nowhere.
        timeout: seconds for a request, and for its body to arrive.
        most_bytes: the longest body; one beyond is answered with 413.
        page: the page for the desk; None for no page.
    """

    def __init__(
        self,
        core: Core,
        hosts: Hosts,
        metrics_path: str | None,
        timeout: float,
        most_bytes: int,
        page: Page | None = None,
    ):
        self._core, self._hosts, self._metrics_path = core, hosts, metrics_path
        self._timeout, self._most_bytes, self._page = timeout, most_bytes, page
        self._aside, self._bytes = Aside(core.most_rows), 0

    async def close(self) -> None:
        """End the process that reads large requests."""
        await self._aside.close()

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """The answer to a request."""
        path = request.rel_url.raw_path
        if request.version < HttpVersion10:  # a line without a version is read as HTTP/0.9
            return _answer(505, json_form.problem("HTTP/1.1 is spoken here."))
        for host in request.headers.getall("Host", ()):
            if not self._hosts.answers_to(host):
                told = f"Nobody here is called {host[:100]}. Start the server with: --allowed-host"
                return _answer(403, json_form.problem(f"{told} NAME"))
        if (asked := request.headers.get("Expect")) is not None:
            if asked.lower() != "100-continue":
                return _answer(417, json_form.problem(f"Nobody can expect {asked[:100]} here."))
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if path == self._metrics_path and request.method == "GET":
            page = self._core.metrics.page()
            return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})
        if path in (HEALTH, READY) and request.method in ("GET", "HEAD"):
            fine = path == HEALTH or self._core.ready
            return web.json_response({"status": "ok" if fine else "not ready"}, status=_of(fine))
        if not path.lower().startswith("/v1/"):
            reads = self._page is not None and request.method in ("GET", "HEAD")
            if reads and (answer := await self._page.answer(path)) is not None:
                return answer
            return _answer(404, json_form.problem(f"There is no {path}."))
        try:
            return _answer(200, await self._served(request, path))
        except _LongBody:
            return _answer(
                413, json_form.problem(f"A body has at most {self._most_bytes} bytes here.")
            )
        except _SlowBody:
            answer = _answer(408, json_form.problem("The body did not arrive in time."))
            answer.force_close()
            return answer
        except Exception as error:
            return _answer(http_status(code_of(error)), json_form.problem(message_of(error)))

    async def _served(self, request: web.BaseRequest, path: str) -> bytes:
        if request.method == "POST" and (found := _RUN.fullmatch(path)):
            model, version, label = _which(found)
            method, seconds = found[4], self._seconds(request)
            async with (
                self._body(request) as body,
                self._core.request(model, method, "REST", seconds),
            ):
                return await self._asked(body, method, model, version, label)
        if request.method == "GET" and (found := _TELL.fullmatch(path)):
            model, version, label = _which(found)
            async with self._core.request(model, "", "REST", self._timeout):
                models = self._core.models
                if found[4]:
                    told = descriptions.metadata(models.find(model, version, label))
                    return descriptions.metadata_json(told)
                return descriptions.states_json(descriptions.states(models.status(model, version)))
        if request.method == "GET" and path == "/v1/models":
            raise invalid("Missing model name in request.")
        raise invalid(f"Malformed request: {request.method} {path}")

    async def _asked(self, body: bytearray, method: str, *which: Any) -> bytes:
        small = len(body) < LARGE
        document = json_form.parse(body) if small else None
        with self._core.models.find(*which).hold() as version:
            signatures = {
                name: {key: spec.dtype for key, spec in signature.inputs.items()}
                for name, signature in version.signatures.items()
            }
            if small:
                asked = json_form.asked(document, method, signatures)
            else:
                asked = await self._aside.read(body, method, signatures)
            return await getattr(self, f"_{method}")(version, asked)

    async def _predict(self, version: Loaded, asked: json_form.Asked) -> bytes:
        answer = await self._core.inference.predict(
            version, asked.signature, asked.inputs, api="predict"
        )
        size = sum(value.nbytes for value in answer.values())
        return await apart(size, json_form.predictions, answer, asked.rows)

    async def _classify(self, version: Loaded, asked: json_form.Asked) -> bytes:
        examples = asked.inputs["inputs"]
        answer = await self._core.inference.classify(version, asked.signature, examples)
        return json_form.classifications(answer.classes, answer.scores)

    async def _regress(self, version: Loaded, asked: json_form.Asked) -> bytes:
        examples = asked.inputs["inputs"]
        answer = await self._core.inference.regress(version, asked.signature, examples)
        return json_form.regressions(answer)

    @contextlib.asynccontextmanager
    async def _body(self, request: web.BaseRequest) -> AsyncIterator[bytearray]:
        """A request's body; what all bodies take together has a limit."""
        if (request.content_length or 0) > self._most_bytes:
            raise _LongBody
        body = bytearray()
        try:
            await self._fill(body, request)
            yield body
        finally:
            self._bytes -= len(body)

    async def _fill(self, body: bytearray, request: web.BaseRequest) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                async for part in request.content.iter_any():
                    body += part
                    self._bytes += len(part)
                    if len(body) > self._most_bytes:
                        raise _LongBody
                    if self._bytes > _BODIES * self._most_bytes:
                        raise ServingError(
                            "UNAVAILABLE", f"{self._bytes} bytes are under way. Try again later."
                        )
        except TimeoutError:
            raise _SlowBody from None
        except (web.RequestPayloadError, BadHttpMessage) as error:
            raise invalid(f"The body cannot be read: {error}") from None

    def _seconds(self, request: web.BaseRequest) -> float:
        """What is left for a request: the server's limit, or less where the client says so."""
        given = request.headers.get("Grpc-Timeout")
        if given is None:
            return self._timeout
        found = _DEADLINE.fullmatch(given)
        if not found:
            raise invalid(f"Grpc-Timeout is a number and one of H, M, S, m, u, n: {given}")
        return min(self._timeout, int(found[1]) * _SECONDS[found[2]])


class _LongBody(Exception):
    """A body beyond the limit."""


class _SlowBody(Exception):
    """A body that is still not there."""


def _which(found: re.Match) -> tuple[str, int | None, str | None]:
    """Model, version and label of a path."""
    version = int(found[2]) if found[2] else None
    if version is not None and version >= 2**63:
        raise ServingError("INVALID_ARGUMENT", f"Failed to convert version: {found[2]} to numeric.")
    return unquote(found[1]), version, unquote(found[3]) if found[3] else None


def _of(fine: bool) -> int:
    return 200 if fine else 503


def _answer(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")
