"""TF Serving's REST API for a client, on http.client.

The standard library has all that is needed, and nothing else gives the deadline of a whole exchange
either: urllib3 and requests, which come with TensorFlow but not with kerasft, limit single reads.
"""

import base64
import http.client
import json
import socket
import ssl
import threading
from typing import Any
from urllib.parse import quote

from kerasft.serving._client_calls import Call, Passing
from kerasft.serving._client_rows import Row, Signature
from kerasft.serving.errors import ServingError, code_of_http

_PASSING = (429, 502, 503)


class Rest:
    """Connections that are kept alive, and the requests that go over them.

    Args:
        host, port: of the server.
        secure: whether it speaks TLS.
        model: name of the model.
        version, label: which version; None: the newest.
    """

    def __init__(
        self, host: str, port: int, secure: bool, model: str, version: int | None, label: str | None
    ):
        self._place, self._secure = (host, port), secure
        self._model = f"/v1/models/{quote(model, safe='')}"
        self._version = "" if version is None else f"/versions/{version}"
        self._path = self._model + self._version
        if label is not None:
            self._path += f"/labels/{quote(label, safe='')}"
        self._context = ssl.create_default_context() if secure else None
        self._lock, self._idle, self._closed = threading.Lock(), [], False

    def metadata(self, call: Call) -> Any:
        """What the version says of its signatures."""
        return self._ask(call, "GET", f"{self._path}/metadata")

    def status(self, call: Call) -> Any:
        """The states of the versions."""
        return self._ask(call, "GET", self._model + self._version)

    def predict(self, call: Call, name: str, signature: Signature, rows: list[Row]) -> list[Row]:
        """The outputs of each row."""
        answers = self._post(call, "predict", name, "instances", rows, "predictions")
        return [_outputs(answer, signature) for answer in answers]

    def classify(self, call: Call, name: str, rows: list[Row]) -> list[list[tuple[str, float]]]:
        """Labels and scores of each row."""
        answers = self._post(call, "classify", name, "examples", rows, "results")
        try:
            return [[(label, score) for label, score in answer] for answer in answers]
        except (TypeError, ValueError):
            raise _malformed(answers) from None

    def regress(self, call: Call, name: str, rows: list[Row]) -> list[float]:
        """The value of each row."""
        return self._post(call, "regress", name, "examples", rows, "results")

    def close(self) -> None:
        """Give up the connections."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for connection in idle:
            connection.close()

    def _post(
        self, call: Call, method: str, name: str, key: str, rows: list[Row], wanted: str
    ) -> list[Any]:
        body = json.dumps({"signature_name": name, key: rows}).encode("utf-8")
        answer = self._ask(call, "POST", f"{self._path}:{method}", body)
        found = answer.get(wanted) if isinstance(answer, dict) else None
        if not isinstance(found, list) or len(found) != len(rows):
            raise _malformed(answer)
        return found

    def _ask(self, call: Call, method: str, path: str, body: bytes | None = None) -> Any:
        """What the server answers, as JSON."""
        while True:
            connection, used = self._taken()
            try:
                with call.ends(lambda: _cut(connection.sock)):  # noqa: B023
                    status, answer = _exchange(connection, method, path, body, call.left())
            except BaseException as error:
                connection.close()
                if used and isinstance(error, ConnectionError):
                    continue  # the server gave it up while it lay idle
                if isinstance(error, OSError | http.client.HTTPException):
                    raise self._failure(error, call) from None
                raise
            self._kept(connection, call)
            return self._read(status, answer)

    def _taken(self) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        if self._secure:
            return http.client.HTTPSConnection(*self._place, context=self._context), False
        return http.client.HTTPConnection(*self._place), False

    def _kept(self, connection: http.client.HTTPConnection, call: Call) -> None:
        with self._lock:
            # One that the end of the call has cut is of no more use; the server closes others.
            keep = not (self._closed or call.over.is_set() or connection.sock is None)
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _failure(self, error: Exception, call: Call) -> Exception:
        where = f"{self._place[0]}:{self._place[1]}"
        if isinstance(error, TimeoutError):
            return call.late()
        lost = ServingError("UNAVAILABLE", f"{where} gave no answer: {error}")
        if isinstance(error, ssl.SSLError):
            return lost  # a certificate does not become valid by asking again
        if isinstance(error, OSError | http.client.IncompleteRead):
            return Passing(lost)
        return ServingError(
            "UNAVAILABLE", f"{where} does not speak HTTP: {error!r}. Is it the port of REST?"
        )

    def _read(self, status: int, answer: bytes) -> Any:
        text = answer.decode("utf-8", "replace")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if status == 200:
            if found is None:
                raise _malformed(text)
            return found
        said = found.get("error") if isinstance(found, dict) else None
        message = str(said) if said else f"HTTP status {status}: {text[:200]}"
        error = ServingError(code_of_http(status), message)
        raise Passing(error) if status in _PASSING else error


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    seconds: float,
) -> tuple[int, bytes]:
    """Ask, and read the answer: its status and its body."""
    connection.timeout = seconds
    if connection.sock is not None:
        connection.sock.settimeout(seconds)
    # TF Serving has a limit of its own over REST and does not read the header; others do.
    headers = {"Grpc-Timeout": f"{max(1, int(seconds * 1000))}m"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body, headers)
    with connection.getresponse() as response:
        return response.status, response.read()


def _cut(sock: Any) -> None:
    """End what another thread waits for on a socket; that of TLS itself is not to be touched."""
    try:
        if sock is not None:
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone already


def _outputs(answer: Any, signature: Signature) -> Row:
    """A row's outputs with their names; one output alone comes without, and as {"b64"} if bytes."""
    if isinstance(answer, dict) and len(answer) > 1:
        return {name: _unpacked(value) for name, value in answer.items()}
    if len(signature.outputs) != 1:
        raise _malformed(answer)
    return {signature.outputs[0]: _unpacked(answer)}


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    try:
        return base64.b64decode(value["b64"]) if isinstance(value, dict) else value
    except (KeyError, TypeError, ValueError):
        raise _malformed(value) from None


def _malformed(answer: Any) -> ServingError:
    return ServingError("INTERNAL", f"The answer is not what was asked for: {str(answer)[:200]}")
