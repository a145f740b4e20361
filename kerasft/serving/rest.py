"""TF Serving's REST API, on aiohttp.

aiohttp is one library for parsing in C, limits of bodies, slow clients (a connection without a
whole request is closed after the keep-alive time) and an orderly end, and it runs in a loop that is
shared with gRPC; uvicorn wants the signals for itself and leaves limits of bodies to others.
"""

import asyncio
import re
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from kerasft.serving import descriptions, json_form
from kerasft.serving.core import Core
from kerasft.serving.errors import ServingError, code_of, http_status, invalid, message_of
from kerasft.serving.inference import input_specs
from kerasft.serving.metrics import CONTENT_TYPE
from kerasft.serving.page import Page

HEALTH, READY = "/healthz", "/readyz"
_WHICH = r"(?i:/v1/models)/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_RUN = re.compile(_WHICH + ":(classify|regress|predict)")
_TELL = re.compile(_WHICH + "(?:/(metadata))?")
# The header of gRPC's own deadlines, which proxies between REST and gRPC know.
_DEADLINE = re.compile("([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Rest:
    """The handler of all paths.

    Args:
        core: the server's parts.
        metrics_path: where Prometheus reads; None for nowhere.
        timeout: seconds for a request, and for its body to arrive.
        page: the page for the desk; None for no page.
    """

    def __init__(
        self, core: Core, metrics_path: str | None, timeout: float, page: Page | None = None
    ):
        self._core, self._metrics_path, self._timeout = core, metrics_path, timeout
        self._page = page

    def app(self, max_body_bytes: int) -> web.Application:
        """The application; a body beyond `max_body_bytes` is answered with 413."""
        app = web.Application(client_max_size=max_body_bytes)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path
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
        except web.HTTPRequestEntityTooLarge as error:
            return _answer(413, json_form.problem(error.text or "The body is too large."))
        except _SlowBody:
            answer = _answer(408, json_form.problem("The body did not arrive in time."))
            answer.force_close()
            return answer
        except Exception as error:
            return _answer(http_status(code_of(error)), json_form.problem(message_of(error)))

    async def _served(self, request: web.Request, path: str) -> bytes:
        if request.method == "POST" and (found := _RUN.fullmatch(path)):
            model, version, label = _which(found)
            method, seconds = found[4], self._seconds(request)
            body = await self._body(request)
            async with self._core.request(model, method, "REST", seconds):
                document = json_form.parse(body)
                return await getattr(self, f"_{method}")(document, model, version, label)
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

    async def _predict(self, document: dict, *which: Any) -> bytes:
        with self._core.models.find(*which).hold() as version:
            name = document.get("signature_name", "")
            rows, inputs = json_form.inputs_of(document, input_specs(version, name))
            answer = await self._core.inference.predict(version, name, inputs, api="predict")
            return json_form.predictions(answer, rows)

    async def _classify(self, document: dict, *which: Any) -> bytes:
        examples = json_form.examples_of(document)
        with self._core.models.find(*which).hold() as version:
            name = document.get("signature_name", "")
            answer = await self._core.inference.classify(version, name, examples)
            return json_form.classifications(answer.classes, answer.scores)

    async def _regress(self, document: dict, *which: Any) -> bytes:
        examples = json_form.examples_of(document)
        with self._core.models.find(*which).hold() as version:
            name = document.get("signature_name", "")
            answer = await self._core.inference.regress(version, name, examples)
            return json_form.regressions(answer)

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await request.read()
        except TimeoutError:
            raise _SlowBody from None
        except (web.RequestPayloadError, BadHttpMessage) as error:
            raise invalid(f"The body cannot be read: {error}") from None

    def _seconds(self, request: web.Request) -> float:
        """What is left for a request: the server's limit, or less where the client says so."""
        given = request.headers.get("Grpc-Timeout")
        if given is None:
            return self._timeout
        found = _DEADLINE.fullmatch(given)
        if not found:
            raise invalid(f"Grpc-Timeout is a number and one of H, M, S, m, u, n: {given}")
        return min(self._timeout, int(found[1]) * _SECONDS[found[2]])


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
