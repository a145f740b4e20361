"""The codes of gRPC and TF Serving, what each is over HTTP, and how an exception becomes one."""

import asyncio

from kerasft._core.errors import InputError, KerasftError

# Code -> (number in google.rpc.Code, HTTP status). The table is TF Serving's.
CODES = {
    "OK": (0, 200),
    "CANCELLED": (1, 499),
    "UNKNOWN": (2, 500),
    "INVALID_ARGUMENT": (3, 400),
    "DEADLINE_EXCEEDED": (4, 504),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "PERMISSION_DENIED": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 400),
    "ABORTED": (10, 409),
    "OUT_OF_RANGE": (11, 400),
    "UNIMPLEMENTED": (12, 501),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "DATA_LOSS": (15, 500),
    "UNAUTHENTICATED": (16, 401),
}
# HTTP status -> code: the commonest of those that share one, and what proxies answer.
_OF_HTTP = {status: code for code, (_, status) in CODES.items()} | {
    400: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
}
_LONGEST = 1024  # characters of a message over gRPC, where it travels as a header


class ServingError(KerasftError):
    """A request that cannot be answered; `code` and the message as `str` are the server's.

    Args:
        code: one of gRPC's names, such as "INVALID_ARGUMENT".
        message: for the client.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


def invalid(message: str) -> ServingError:
    """The request itself is wrong."""
    return ServingError("INVALID_ARGUMENT", message)


def code_of(error: BaseException) -> str:
    """The code of any exception: its own `code`, or INTERNAL. The model's `InputError` is of what a
    client sent."""
    if isinstance(error, TimeoutError):
        return "DEADLINE_EXCEEDED"
    if isinstance(error, asyncio.CancelledError):
        return "CANCELLED"
    code = getattr(error, "code", None)
    if isinstance(code, str) and code in CODES:
        return code
    return "INVALID_ARGUMENT" if isinstance(error, InputError) else "INTERNAL"


def message_of(error: BaseException) -> str:
    """What the client is told. A failure of ours names its type, never its traceback."""
    if isinstance(error, TimeoutError):
        return str(error) or "Deadline exceeded"
    text = str(error)
    foreign = code_of(error) == "INTERNAL" and not isinstance(error, KerasftError)
    return f"{type(error).__name__}: {text}" if foreign else text


def http_status(code: str) -> int:
    """The HTTP status of a code, as TF Serving maps it."""
    return CODES[code][1]


def code_of_http(status: int) -> str:
    """The code that an HTTP status stands for, UNKNOWN where none is known.

    Several codes share a status, so it is that of 400 that is least exact: FAILED_PRECONDITION and
    OUT_OF_RANGE are INVALID_ARGUMENT here.
    """
    return _OF_HTTP.get(status, "UNKNOWN")


def number(code: str) -> int:
    """The number of a code in gRPC and in google.rpc.Code."""
    return CODES[code][0]


def cut(message: str) -> str:
    """A message as short as TF Serving sends it over gRPC."""
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}...TRUNCATED"
