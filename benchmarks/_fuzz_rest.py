"""Hostile requests of REST for `fuzz.py`, each with the statuses that are right for it.

What is right comes from TF Serving's contract and from Python's own JSON parser, not from the
server. Each family is a function of a `random.Random` to a `Case`.
"""

import base64
import binascii
import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

CLOSED = 0  # the connection was closed without an answer
WORDS = (
    "free",
    "prize",
    "the film",
    "",
    "好看",
    "call now",
    "👩‍💻",
    'a "b" \\',
    "<b>\n",
    "x" * 300,
)
MODEL = "/v1/models/m"
PREDICT, CLASSIFY = f"{MODEL}:predict", f"{MODEL}:classify"
MOST_BYTES = 12 * 2**20  # what the server is started with
MIB10 = 10_000_000


@dataclass(frozen=True)
class Case:
    """What is sent over one connection, and what may come back.

    Args:
        parts: sent one after the other.
        allowed: for each answer that is expected in order, the statuses that are right.
        end: "read" the answers, then the connection may be used again; "shut" the sending side
            first; "gone": close without reading.
    """

    parts: tuple[bytes, ...]
    allowed: tuple[frozenset[int], ...]
    end: str = "read"
    head: bool = False
    fresh: bool = field(default=False)  # needs a connection that nothing else comes over


def http(method: str, path: str, body: bytes | None = None, *headers: str) -> bytes:
    """A request that is well-formed HTTP."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def of(*statuses: int) -> tuple[frozenset[int], ...]:
    """One answer with one of these statuses."""
    return (frozenset(statuses),)


def is_text(value: Any) -> bool:
    """Whether JSON has a string or {"b64"} here."""
    if isinstance(value, dict):
        text = value.get("b64") if list(value) == ["b64"] else None
        if not isinstance(text, str):
            return False
        text = "".join(text.split()).rstrip("=")
        try:
            base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            return False
        return True
    if not isinstance(value, str):
        return False
    return not any("\ud800" <= c <= "\udfff" for c in value)


def right(body: bytes) -> tuple[frozenset[int], ...]:
    """The statuses of a predict request to a model of texts, by Python's json."""
    return of(*_right(body))


def _right(body: bytes) -> tuple[int, ...]:
    try:
        text = body.decode("utf-8-sig").lstrip(" \t\r\n")
        document, _ = json.JSONDecoder().raw_decode(text)  # what follows is not read
    except (ValueError, RecursionError):
        return (400,)
    if not isinstance(document, dict) or "signature_name" in document:
        name = document.get("signature_name") if isinstance(document, dict) else None
        if name not in ("", "serving_default"):
            # Its other signatures take other inputs, which the families do not name.
            return (400,)
    if ("instances" in document) == ("inputs" in document):
        return (400,)
    if "inputs" in document:
        values = document["inputs"]
        if isinstance(values, dict) and list(values) != ["b64"]:
            if "text" not in values:
                return (400,)
            values = values["text"]
        if values == []:
            return 200, 400  # no rows: the contract says nothing
        return (200,) if isinstance(values, list) and all(map(is_text, values)) else (400,)
    rows = document["instances"]
    if not isinstance(rows, list) or not rows:
        return (400,)
    if isinstance(rows[0], dict) and not (list(rows[0]) == ["b64"] and is_text(rows[0])):
        named = all(isinstance(row, dict) and list(row) == ["text"] for row in rows)
        return (200,) if named and all(is_text(row["text"]) for row in rows) else (400,)
    return (200,) if all(map(is_text, rows)) else (400,)


def asked(body: bytes, *headers: str) -> Case:
    """A predict request with what is right for its body."""
    return Case((http("POST", PREDICT, body, *headers),), right(body))


def good(draw: random.Random) -> bytes:
    """A body that is fine."""
    texts = [draw.choice(WORDS) for _ in range(draw.randrange(1, 4))]
    forms = ({"instances": texts}, {"inputs": texts}, {"instances": [{"text": t} for t in texts]})
    return json.dumps(draw.choice(forms), ensure_ascii=draw.random() < 0.5).encode()


def value(draw: random.Random, depth: int = 3) -> Any:
    """Any JSON."""
    plain = (
        *(None, True, False, 0, -1, 2**31, 2**63, 2**64, 1.5, 1e308, -0.0, "", "a", "x" * 200),
        *(float("nan"), float("inf"), {"b64": "YQ=="}, {"b64": "%"}, {"b64": 1}, {}, []),
    )
    if depth == 0 or draw.random() < 0.5:
        return draw.choice(plain)
    items = [value(draw, depth - 1) for _ in range(draw.randrange(4))]
    names = ("text", "b64", "instances", "inputs", "", "\u0000")
    return items if draw.random() < 0.5 else {draw.choice(names): item for item in items}


def broken_json(draw: random.Random) -> Case:
    body = bytearray(good(draw))
    for _ in range(draw.randrange(1, 4)):
        place, noise = draw.randrange(len(body)), draw.choice((b"[", b"{", b'"', b"\\", b"9", b","))
        how = draw.randrange(4)
        body[place : place + (how != 1)] = (b"", noise, noise, draw.randbytes(2))[how]
        body = body or bytearray(b"[")
    return asked(bytes(body))


def cut_json(draw: random.Random) -> Case:
    body = good(draw)
    return asked(body[: draw.randrange(len(body))])


def wrong_types(draw: random.Random) -> Case:
    key = draw.choice(("instances", "inputs"))
    shapes = (value(draw), [value(draw)], [{"text": value(draw)}], {"text": [value(draw)]})
    document: Any = {key: draw.choice(shapes)}
    if draw.random() < 0.2:
        document["signature_name"] = value(draw, 1)
    return asked(json.dumps(draw.choice((document, value(draw)))).encode())


def wrong_shapes(draw: random.Random) -> Case:
    nested: Any = draw.choice(WORDS)
    for _ in range(draw.randrange(1, 60)):
        nested = [nested] * draw.choice((1, 1, 1, 2)) if draw.random() < 0.95 else [nested, "a"]
        if len(str(nested)) > 5000:
            break
    return asked(json.dumps({draw.choice(("instances", "inputs")): nested}).encode())


def deep(draw: random.Random) -> Case:
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}")))
    count = draw.choice((2_000, 10_000, 100_000))
    text = opening * count
    if draw.random() < 0.5:
        text += "1" + closing * count
    if draw.random() < 0.5:
        text = '{"instances": ' + text + "}"
    return Case((http("POST", PREDICT, text.encode()),), of(400))


def numbers(draw: random.Random) -> Case:
    one = draw.choice(("1e400", "-1e999", "9" * 400, "9" * 100_000, "1" + "0" * 30, "NaN", "0x1"))
    body = f'{{"instances": [{one}]}}'
    if draw.random() < 0.5:
        row = f'{{"token_ids": [{one}], "padding_mask": [true], "segment_ids": [0]}}'
        body = f'{{"signature_name": "token_ids", "instances": [{row}]}}'
    return Case((http("POST", PREDICT, body.encode()),), of(400))


def duplicate_keys(draw: random.Random) -> Case:
    both = [b'"instances": ["a"]', b'"instances": 5']
    draw.shuffle(both)
    return asked(b"{" + b", ".join(both) + b"}")


def surrogates(draw: random.Random) -> Case:
    text = draw.choice(("\\ud800", "\\udfff", "\\ud83d\\ude00", "a\\ud83db", "\\udc00\\ud800"))
    return asked(f'{{"instances": ["{text}"]}}'.encode())


def zeros_and_bytes(draw: random.Random) -> Case:
    noise = draw.choice((b"\\u0000", b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88"))
    return asked(b'{"instances": ["a' + noise + b'b"]}')


def binary(draw: random.Random) -> Case:
    return asked(draw.randbytes(draw.choice((1, 30, 1000, 100_000))))


def long_strings(draw: random.Random) -> Case:
    """10 MB, few of them: what is fine is answered, what is not is refused."""
    count = MIB10
    bodies: tuple[Callable[[], tuple[str, tuple]], ...] = (
        lambda: ('{"instances": ["' + "a" * count + '"]}', of(200)),
        lambda: ('{"instances": ["' + "a" * count, of(400)),
        lambda: ('{"instances": [' + "1," * (count // 2) + "1]}", of(400)),
        lambda: ('{"instances": [' + "[]," * (count // 3) + "[]]}", of(400)),
        lambda: ('{"instances": [' + "{}," * (count // 3) + "{}]}", of(400)),
        lambda: ('{"x": [' + '"",' * (count // 3) + '""], "instances": ["a"]}', of(200)),
        lambda: ('{"instances": [' + '"",' * (count // 3) + '""]}', of(400)),
        lambda: ("[" * count, of(400)),
        lambda: ('{"instances": ["a"], "' + "\\u00e9" * (count // 6) + '": 1}', of(200)),
        lambda: ('{"' + "a" * count + '": 1}', of(400)),
    )
    body, allowed = draw.choice(bodies)()
    # 503: so many of them at a time that some have to come again.
    return Case((http("POST", PREDICT, body.encode()),), of(*allowed[0], 503))


def beyond_the_limit(draw: random.Random) -> Case:
    if draw.random() < 0.9:  # told at once, for the length that is said
        size = draw.choice((MOST_BYTES + 1, 2**31, 2**40))
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        return Case((head.encode() + b"{",), of(413), fresh=True)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (2**20, b" " * 2**20)
    return Case((head.encode(), *[chunk] * 13), of(413, 503, CLOSED), fresh=True)


def packed(draw: random.Random) -> Case:
    body = gzip.compress(good(draw))
    kind = draw.randrange(4)
    if kind == 0:
        body, allowed = body[: len(body) // 2], of(400)
    elif kind == 1:
        body, allowed = draw.randbytes(50), of(400)
    elif kind == 2:
        body, allowed = gzip.compress(b" " * (MOST_BYTES + 1), 1), of(413)
    else:
        allowed = of(200)
    return Case((http("POST", PREDICT, body, "Content-Encoding: gzip"),), allowed, fresh=True)


def chunks(draw: random.Random) -> Case:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = good(draw)
    whole = b"%x\r\n%s\r\n" % (len(body), body)
    kind = draw.randrange(4)
    if kind == 0:
        return Case((head.encode(), whole, b"0\r\n\r\n"), of(200))
    if kind == 1:
        return Case((head.encode(), whole[: -draw.randrange(2, 9)]), of(CLOSED), "shut", fresh=True)
    wrong = draw.choice((b"zz\r\na\r\n", b"-1\r\na\r\n", b"2\r\nabc\r\n", b"f" * 40 + b"\r\n"))
    return Case((head.encode(), whole, wrong), of(400, CLOSED), fresh=True)


def wrong_length(draw: random.Random) -> Case:
    body = good(draw)
    start = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\n"
    kind = draw.randrange(4)
    if kind == 0:  # what follows the body that was announced is taken for another request
        size = draw.randrange(len(body))
        part = f"{start}Content-Length: {size}\r\n\r\n".encode() + body
        return Case((part,), (*right(body[:size]), *of(400, CLOSED)), fresh=True)
    if kind == 1:
        part = f"{start}Content-Length: {len(body) + 9}\r\n\r\n".encode() + body
        return Case((part,), of(CLOSED), "shut", fresh=True)
    size = draw.choice(("-1", "a", "1.0", "+5", "0x5", "9" * 30, "5\r\nContent-Length: 6", "5, 6"))
    if kind == 3:
        size = f"{len(body)}\r\nTransfer-Encoding: chunked"
    part = f"{start}Content-Length: {size}\r\n\r\n".encode() + body
    return Case((part,), of(400, 413), fresh=True)


def pipelined(draw: random.Random) -> Case:
    bodies = [draw.choice((good(draw), b"[", b'{"instances": 1}')) for _ in range(8)]
    part = b"".join(http("POST", PREDICT, body) for body in bodies)
    return Case((part,), tuple(right(body)[0] for body in bodies))


def wrong_names(draw: random.Random) -> Case:
    body = b'{"instances": ["a"]}'
    place, status = draw.choice(
        (
            ("/v1/models/none:predict", 404),
            (f"{MODEL}/versions/9:predict", 404),
            (f"{MODEL}/versions/99999999999999999999:predict", 400),
            (f"{MODEL}/versions/-1:predict", 400),
            (f"{MODEL}/labels/none:predict", 400),
            (f"{MODEL}:explain", 400),
            (f"{MODEL}:", 400),
            ("/v1/models/:predict", 400),
            (CLASSIFY, 400),
            ("/v1/models/%6d:predict", 200),
            ("/v1/models/%00:predict", 404),
            ("/v1/models/%ff%fe:predict", 404),
        )
    )
    return Case((http("POST", place, body),), of(status))


def methods(draw: random.Random) -> Case:
    method = draw.choice(("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get", "A" * 500))
    place, status = draw.choice(((PREDICT, 400), (MODEL, 400), ("/", 404), ("/healthz", 404)))
    return Case((http(method, place, b"{}"),), of(status, 400), fresh=True)


def paths(draw: random.Random) -> Case:
    pieces = (
        "/",
        "..",
        "%2e%2e",
        "%2f",
        "%00",
        "%",
        "%zz",
        "v1",
        "models",
        "m",
        ":",
        "?",
        "#",
        ";",
    )
    path = "/" + "".join(draw.choice(pieces) for _ in range(draw.randrange(8)))
    if draw.random() < 0.1:
        path = "/" + "a" * 9000
    allowed = of(200, 400) if path.split("?")[0] == "/" else of(400, 404)
    if "#" in path:  # no part of a request's path by HTTP, and cut off by some
        allowed = of(200, 400, 404)
    return Case((http("GET", path),), allowed, fresh=True)


def headers(draw: random.Random) -> Case:
    body = b'{"instances": ["a"]}'
    more, allowed = draw.choice(
        (
            (["X: " + "a" * 10_000], of(400)),
            ([f"X-{i}: a" for i in range(500)], of(400)),
            (["X: " + "a" * 2_000_000], of(400, CLOSED)),
            (["X" * 9000 + ": a"], of(400)),
            (["X: a\x00b"], of(400)),
            (["X y: a"], of(400)),
            ([": a"], of(400)),
            (["X: a", " folded"], of(200, 400)),
            (["Expect: a miracle"], of(417)),
            (["Grpc-Timeout: soon"], of(400)),
            (["Grpc-Timeout: 1n"], of(504, 200)),
            (["Content-Encoding: what"], of(200, 400)),
            (["Connection: Upgrade", "Upgrade: websocket"], of(200, 400)),
            (["Content-Type: image/png"], of(200)),
        )
    )
    return Case((http("POST", PREDICT, body, *more),), allowed, fresh=True)


def hosts(draw: random.Random) -> Case:
    host, allowed = draw.choice(
        (
            ("evil.example", of(403)),
            ("localhost.evil.example:8501", of(403)),
            ("127.0.0.1.evil.example", of(403)),
            ("169.254.169.254", of(403)),
            ("", of(403, 400)),
            ("[", of(403, 400)),
            ("localhost:1", of(200)),
            ("127.0.0.1", of(200)),
            ("[::1]:80", of(200)),
        )
    )
    part = f"GET {MODEL} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    return Case((part,), allowed, fresh=True)


def no_http(draw: random.Random) -> Case:
    part = draw.choice(
        (
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x00" * 100 + b"\r\n\r\n",
            draw.randbytes(200) + b"\r\n\r\n",
            b"SSH-2.0-OpenSSH_9\r\n\r\n",
        )
    )
    return Case((part,), of(400, 403, 404, 505, CLOSED), "shut", fresh=True)


def half_closed(draw: random.Random) -> Case:
    return Case((http("POST", PREDICT, good(draw)),), of(200, CLOSED), "shut", fresh=True)


def gone(draw: random.Random) -> Case:
    part = http("POST", PREDICT, good(draw))
    return Case((part[: draw.randrange(1, len(part) + 1)],), (), "gone", fresh=True)


def head(draw: random.Random) -> Case:
    place, status = draw.choice((("/healthz", 200), ("/", 200), (PREDICT, 400), ("/no", 404)))
    return Case((http("HEAD", place),), of(status), head=True, fresh=True)


def bad_examples(draw: random.Random) -> Case:
    wrong = (None, 5, [], {}, [5], [None], [{"text": None}], [{"text": [1, "a"]}], [{"text": {}}])
    document = {"signature_name": "classify", "examples": draw.choice(wrong)}
    return Case((http("POST", CLASSIFY, json.dumps(document).encode()),), of(400))


# Family -> how often it is drawn. What takes the machine long is rare.
FAMILIES: dict[Callable[[random.Random], Case], float] = dict.fromkeys(
    (
        *(broken_json, cut_json, wrong_types, wrong_shapes, numbers, duplicate_keys, surrogates),
        *(zeros_and_bytes, binary, chunks, wrong_length, pipelined, wrong_names, methods, paths),
        *(headers, hosts, no_http, half_closed, gone, head, bad_examples),
    ),
    1.0,
) | {deep: 0.3, long_strings: 0.02, beyond_the_limit: 0.1, packed: 0.3}
