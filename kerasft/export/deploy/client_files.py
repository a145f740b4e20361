"""A client in Python and requests for curl, with the names that the model's signatures have."""

import json
import pprint
import re
import shlex
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasft._core.checks import one_of
from kerasft._core.errors import InputError
from kerasft.export.deploy.config import name_of_label, name_of_model
from kerasft.export.deploy.signatures import METHODS

DEFAULT = "serving_default"
_BLOCK = re.compile(r"(?s)(?<=# --- the model ---\n).*?(?=# --- end of the model ---\n)")
# Signature -> (method, {input: dtype}).
Signatures = Mapping[str, tuple[str, Mapping[str, str]]]


def client_py(name: str, signatures: Signatures, samples: Mapping[str, Any]) -> str:
    """A client of one file, of Python's standard library alone.

    Args:
        name: the model's name.
        signatures: signature -> (method, {input: dtype}), in the order that texts are given in.
        samples: input -> the value of one row, asked where the command line has none. An input
            whose sample is a list takes a list a row.

    Returns:
        The text of `client.py`; `python client.py "some text"` prints the answers.

    Raises:
        InputError: for a name, a method or a sample that no request can have.

    Example:
        >>> signatures = {"serving_default": ("predict", {"text": "string"})}
        >>> client_py("spam", signatures, {"text": "free prize!!! click here"})
    """
    _check(name, signatures, samples)
    model = {n: (method, dict(inputs)) for n, (method, inputs) in signatures.items()}
    values = {"MODEL": name, "SIGNATURES": model, "SAMPLES": dict(samples)}
    lines = [f"{n} = {pprint.pformat(v, sort_dicts=False, width=90)}\n" for n, v in values.items()]
    source = Path(__file__).with_name("_client.py").read_text(encoding="utf-8")
    return _BLOCK.sub(lambda _: "".join(lines), source)


def requests_sh(
    name: str, signatures: Signatures, samples: Mapping[str, Any], label: str | None = None
) -> str:
    """Lines of curl, one for each signature that the samples suffice for.

    Args:
        name: the model's name.
        signatures: signature -> (method, {input: dtype}).
        samples: input -> the value of one row.
        label: ask this label instead of the highest version.

    Returns:
        The text of a shell script; `HOST` is localhost:8501 if it is not set.

    Raises:
        InputError: as `client_py`.
    """
    _check(name, signatures, samples)
    path = f"/v1/models/{urllib.parse.quote(name, safe='')}"
    if label is not None:
        path += f"/labels/{name_of_label(label)}"
    lines = [
        "#!/bin/sh",
        "# Requests of every signature over REST. HOST is where the server listens.",
        'HOST="${HOST:-localhost:8501}"',
        "",
        "# state of the model, and its signatures",
        f'curl -sS "http://$HOST{path}"',
        f'curl -sS "http://$HOST{path}/metadata"',
    ]
    for told, method, body in _requests(signatures, samples):
        data = shlex.quote(json.dumps(body, ensure_ascii=False))
        lines += [
            "",
            f"# {told}",
            f'curl -sS -X POST "http://$HOST{path}:{method}" \\',
            f"  -H 'Content-Type: application/json' -d {data}",
        ]
    return "\n".join(lines) + "\n"


def _requests(signatures: Signatures, samples: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """What is said of a request, its method, and its body."""
    found = []
    for name, (method, inputs) in signatures.items():
        if method != "predict":
            inputs = signatures.get(DEFAULT, ("", {}))[1]
        row = _row(inputs, samples)
        if not row:
            continue
        asked, told = {"signature_name": name}, json.dumps(name)
        if method != "predict":
            found.append((f"{told}, examples", method, asked | {"examples": [row]}))
            continue
        found.append((f"{told}, a row each", method, asked | {"instances": [row]}))
        if name == DEFAULT:
            columns = {n: [value] for n, value in row.items()}
            found.append((f"{told}, a column each", method, asked | {"inputs": columns}))
    return found


def _row(inputs: Mapping[str, str], samples: Mapping[str, Any]) -> dict[str, Any] | None:
    """One row of samples; a text may stand for another one. None where a number has no sample."""
    texts = [value for value in samples.values() if isinstance(value, str)]
    row = {}
    for name, dtype in inputs.items():
        if name in samples:
            row[name] = samples[name]
        elif dtype == "string" and texts:
            row[name] = texts[0]
        else:
            return None
    return row


def _check(name: str, signatures: Signatures, samples: Mapping[str, Any]) -> None:
    name_of_model(name)
    for signature, (method, _) in signatures.items():
        one_of(f"method of {signature}", method, METHODS)
    for key, value in samples.items():
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, (str, bool, int, float)) for part in parts):
            raise InputError(
                f"The sample of {key!r} must be a text, a number, or a list of them. "
                f"Received: {value!r:.80}."
            )
