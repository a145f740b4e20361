"""A client for TF Serving and `kerasft serve`, over REST or gRPC."""

import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from kerasft._core.checks import in_range, whole
from kerasft._core.errors import InputError
from kerasft.serving._client_calls import Call, Calls
from kerasft.serving._client_rest import Rest
from kerasft.serving._client_rows import Row, Signature, listed_rows, named_rows, signature_of
from kerasft.serving.errors import ServingError

DEFAULT = "serving_default"
_SCHEMES = ("http", "https", "grpc", "grpcs")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_DAY = 86_400.0  # seconds; more does not fit the header that carries a deadline over REST
_TRY = 5.0  # seconds that `ready` waits for one answer


class Client:
    """Asks a served model; many threads may share one client.

    Rows go out in requests of `batch_size`, some at a time. Where the server is out of reach or
    busy, or an answer is lost on its way (UNAVAILABLE, RESOURCE_EXHAUSTED), a request is made again
    after a pause that doubles. What was lost is then computed twice: requests change nothing in a
    model, so that is safe. A request that is wrong is not made again.

    What a signature takes is read from the server once, and again after a failure. Lists that a
    server pads are padded to the longest of their request, and come as they are.

    Args:
        address: `host:port` or `http://host:port` for REST, `grpc://host:port` for gRPC;
            `https://` and `grpcs://` speak TLS with the system's certificates.
        model: name of the model.
        version: number of its version; None: the newest.
        label: of a version instead, such as "stable".
        batch_size: rows of a request.
        parallel: requests at a time, of all threads.
        retries: tries of a request after the first.
        timeout: seconds for a whole call, all requests, tries and pauses together.

    Raises:
        InputError: for wrong arguments.
        MissingExtra: for gRPC without the extra `serving`.

    Example:
        >>> with Client("localhost:8501", model="spam") as client:
        ...     client.predict(["free prize!!!"])
        [{'label': 'spam', 'probabilities': [0.01, 0.99], 'logits': [-2.1, 2.3]}]

    Source: https://www.tensorflow.org/tfx/serving/api_rest
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        batch_size: int = 32,
        parallel: int = 4,
        retries: int = 3,
        timeout: float = 60.0,
    ):
        scheme, host, port = _parsed(address)
        for name, text in (("model", model), ("label", label)):
            if (text is not None or name == "model") and not (isinstance(text, str) and text):
                raise InputError(f"`{name}` is a name. Received: {name}={text!r}.")
        if version is not None and label is not None:
            raise InputError(
                f"A version or a label. Received: version={version!r}, label={label!r}."
            )
        if version is not None:
            whole("version", version)
        self._batch_size = whole("batch_size", batch_size, 1)
        self._timeout = in_range("timeout", timeout, 0, _DAY, above=True)
        parallel, retries = whole("parallel", parallel, 1), whole("retries", retries)
        door = Rest
        if scheme.startswith("grpc"):
            from kerasft.serving import _extra  # noqa: F401
            from kerasft.serving._client_grpc import Grpc as door
        self._door = door(host, port, scheme.endswith("s"), model, version, label)
        self._calls = Calls(parallel, retries)
        self._signatures: dict[str, Signature] = {}

    def predict(
        self, rows: Iterable[Any], /, *, signature: str = DEFAULT, **given: Any
    ) -> list[Row]:
        """Answer rows.

        Args:
            rows: mappings input -> value, or values alone where a row has one input that is not
                given. A value is a text, bytes, a number, an array or a list.
            signature: its name.
            given: inputs that are the same for every row, as `adapter="acme"`.

        Returns:
            One mapping a row, output -> value; texts as str, outputs named `*_bytes` as bytes,
            numbers and lists as Python's.

        Raises:
            InputError: where a row is not what the signature takes.
            ServingError: with the server's code and message; DEADLINE_EXCEEDED after `timeout`.
        """
        rows = listed_rows(rows)
        if not rows:
            return []
        try:
            with Call(self._timeout) as call:
                found = self._signature(call, signature)
                named = named_rows(rows, given, found.inputs, all_of_them=True)
                return self._answers(
                    call, named, lambda c, part: self._door.predict(c, signature, found, part)
                )
        except (InputError, ServingError):
            self._signatures.pop(signature, None)  # a new version may take something else
            raise

    def classify(
        self, rows: Iterable[Any], /, *, signature: str = "classify", **given: Any
    ) -> list[list[tuple[str, float]]]:
        """Classes and scores of rows, which are sent as tf.Example.

        Args:
            rows: mappings feature -> value, or values alone where `serving_default` has one input
                that is not given: features are named like its inputs.
            signature: its name.
            given: features that are the same for every row.

        Returns:
            For each row (label, score) of each class, in the model's order.

        Raises:
            InputError, ServingError: as `predict`.

        Example:
            >>> client.classify(["free prize!!!"])
            [[('ham', 0.01), ('spam', 0.99)]]
        """
        return self._of_examples(rows, given, partial(self._door.classify, name=signature))

    def regress(
        self, rows: Iterable[Any], /, *, signature: str = "regress", **given: Any
    ) -> list[float]:
        """A number for each row, which are sent as tf.Example; see `classify`.

        Example:
            >>> client.regress(["A good book."])
            [4.5]
        """
        return self._of_examples(rows, given, partial(self._door.regress, name=signature))

    def metadata(self) -> dict[str, Any]:
        """The version and its signatures, as TF Serving's REST tells them, also over gRPC.

        Example:
            >>> client.metadata()["model_spec"]["version"]
            '3'
        """
        with Call(self._timeout) as call:
            return self._calls.each(call, [self._door.metadata])[0]

    def status(self) -> dict[str, Any]:
        """The states of the model's versions, as TF Serving's REST tells them, also over gRPC.

        It is that of all versions where the client has a label.

        Example:
            >>> client.status()["model_version_status"][0]["state"]
            'AVAILABLE'
        """
        with Call(self._timeout) as call:
            return self._calls.each(call, [self._door.status])[0]

    def ready(self, timeout: float = 60.0) -> bool:
        """Wait until the version that is asked is served.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it is.
        """
        end, pause = time.monotonic() + in_range("timeout", timeout, 0, _DAY, above=True), 0.05
        while (left := end - time.monotonic()) > 0:
            try:
                with Call(min(left, _TRY)) as call:
                    self._calls.each(call, [self._door.metadata], retries=0)
                return True
            except ServingError:
                time.sleep(max(0.0, min(pause, end - time.monotonic())))
                pause = min(2 * pause, 1.0)
        return False

    def close(self) -> None:
        """Give up the connections. Calls that are under way end with CANCELLED or an answer."""
        self._calls.close()
        self._door.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signature(self, call: Call, name: str) -> Signature:
        """What a signature takes and gives; asked once."""
        if name not in self._signatures:
            (metadata,) = self._calls.each(call, [self._door.metadata])
            self._signatures[name] = signature_of(metadata, name)
        return self._signatures[name]

    def _of_examples(
        self, rows: Iterable[Any], given: dict[str, Any], ask: Callable[..., list]
    ) -> list[Any]:
        rows = listed_rows(rows)
        if not rows:
            return []
        try:
            with Call(self._timeout) as call:
                inputs = self._signature(call, DEFAULT).inputs
                named = named_rows(rows, given, inputs, all_of_them=False)
                return self._answers(call, named, lambda c, part: ask(c, rows=part))
        except (InputError, ServingError):
            self._signatures.pop(DEFAULT, None)
            raise

    def _answers(
        self, call: Call, rows: list[Row], ask: Callable[[Call, list[Row]], list]
    ) -> list[Any]:
        """The answers of all rows in their order, asked in parts."""
        size = self._batch_size
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        answers = self._calls.each(call, [lambda c, p=part: ask(c, p) for part in parts])
        return [row for part in answers for row in part]


def _parsed(address: Any) -> tuple[str, str, int]:
    """Scheme, host and port of an address."""
    wrong = InputError(
        f"An address is host:port, alone or behind {', '.join(f'{s}://' for s in _SCHEMES)}, as "
        f"localhost:8501 or grpc://localhost:8500. Received: {address!r}."
    )
    if not isinstance(address, str):
        raise wrong
    try:
        found = urlsplit(address if "://" in address else f"http://{address}")
        scheme, host, port = found.scheme, found.hostname or "", found.port
        host.encode("idna")
    except ValueError:  # a port that is none, brackets that do not close, a name too long
        raise wrong from None
    rest = found.path.strip("/") or found.query or found.fragment or found.username
    if scheme not in _SCHEMES or not _HOST.fullmatch(host) or not port or rest:
        raise wrong
    return scheme, host, port
