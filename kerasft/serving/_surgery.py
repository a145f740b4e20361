"""Private names of aiohttp: a connection that tells broken HTTP as TF Serving tells errors."""

from typing import Any

from aiohttp import web

from kerasft.serving import json_form


class Connection(web.RequestHandler):
    """aiohttp's own, but for what is no HTTP."""

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
