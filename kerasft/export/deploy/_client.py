"""Ask a served model over REST; nothing but Python's standard library is needed.

    python client.py "a text" "another text"
    python client.py "a text" --host models.example.com --label stable
    python client.py "a text" --signature classify
    python client.py "a text" --set seed=7

Each text is a row; where a signature takes several texts, they follow each other in the order that
--help shows. Other inputs have the values of SAMPLES, or of --set. One JSON line a row is printed.
"""

import argparse
import contextlib
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

# --- the model ---
MODEL: str = ""
SIGNATURES: dict = {}
SAMPLES: dict = {}
# --- end of the model ---


def url(host, port, model, method, version=None, label=None):
    """The address of a model, or of one version or label of it."""
    if "://" not in host:
        host = f"http://{host}:{port}"
    path = f"{host}/v1/models/{urllib.parse.quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{version}"
    elif label is not None:
        path += f"/labels/{urllib.parse.quote(label, safe='')}"
    return f"{path}:{method}"


def fields_of(signature):
    """The inputs that a row of a signature has; Classify and Regress take those of the texts."""
    method, inputs = SIGNATURES[signature]
    return inputs if method == "predict" else SIGNATURES["serving_default"][1]


def body_of(signature, rows):
    """The JSON of a request.

    Args:
        signature: name of a signature.
        rows: one dictionary a row, input -> value.
    """
    method, _ = SIGNATURES[signature]
    if method != "predict":
        return {"signature_name": signature, "examples": rows}
    filled = [dict(row) for row in rows]
    for name in fields_of(signature):
        lists = [row[name] for row in filled if isinstance(row[name], list)]
        most = max(map(len, lists), default=0)
        for row in filled if lists else ():  # lists of one length, padded with ""
            row[name] = row[name] + [""] * (most - len(row[name]))
    return {"signature_name": signature, "instances": filled}


def ask(address, body, timeout=60.0):
    """Send a request; return one answer a row.

    Raises:
        RuntimeError: with the server's message, or why there was no answer.
    """
    data = json.dumps(body, ensure_ascii=False).encode("utf-8")
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            found = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            text = json.loads(text)["error"]
        raise RuntimeError(f"{address} answered {error.code}: {text}") from None
    except (OSError, ValueError) as error:
        raise RuntimeError(f"{address} gave no answer: {error}") from None
    key = "results" if "examples" in body else "predictions"
    if not isinstance(found, dict) or key not in found:
        raise RuntimeError(f"{address} answered without {key!r}: {str(found)[:200]}")
    return found[key]


def parsed(text, dtype, like):
    """A value of the command line in the type that an input takes."""
    if isinstance(like, list):
        return [parsed(part.strip(), dtype, None) for part in text.split(",")]
    if dtype == "string":
        return text
    if dtype == "bool":
        return {"true": True, "false": False}[text.lower()]
    return int(text) if "int" in dtype else float(text)


def rows_of(signature, texts, given):
    """Rows from the words of the command line.

    Args:
        signature: name of a signature.
        texts: texts, as many a row as the signature takes.
        given: input -> value as it was written, the same in every row.
    """
    inputs = fields_of(signature)
    unknown = sorted(set(given) - set(inputs))
    if unknown:
        raise ValueError(f"{signature} takes {', '.join(inputs)}; not {', '.join(unknown)}.")
    asked = [n for n in texts_of(signature) if n not in given]
    if not texts:
        texts = [sample(name) for name in asked]
    if not asked or len(texts) % len(asked):
        wanted = ", ".join(asked) or "none"
        raise ValueError(f"{signature} takes as texts: {wanted}. Received: {len(texts)} texts.")
    fixed = {}
    for name, dtype in inputs.items():
        if name in given:
            try:
                fixed[name] = parsed(given[name], dtype, SAMPLES.get(name))
            except (ValueError, KeyError):
                raise ValueError(f"{name} is {dtype}. Received: {given[name]}.") from None
        elif name not in asked:
            if name not in SAMPLES:
                raise ValueError(f"{signature} takes {name} ({dtype}): add --set {name}=VALUE.")
            fixed[name] = SAMPLES[name]
    found = []
    for start in range(0, len(texts), len(asked)):
        row = dict(zip(asked, texts[start : start + len(asked)])) | fixed
        found.append({name: row[name] for name in inputs})
    return found


def texts_of(signature):
    """The inputs that are one text a row."""
    inputs = fields_of(signature)
    return [n for n, d in inputs.items() if d == "string" and not isinstance(SAMPLES.get(n), list)]


def sample(name):
    """A text for an input; that of another one where it has none of its own."""
    texts = [value for value in SAMPLES.values() if isinstance(value, str)]
    return SAMPLES.get(name, texts[0] if texts else "a text")


def main(words=None):
    """Ask what the command line says, and print the answers."""
    known = [
        n for n, (m, _) in SIGNATURES.items() if m == "predict" or "serving_default" in SIGNATURES
    ]
    takes = "; ".join(f"{n}: {', '.join(texts_of(n)) or 'no text'}" for n in known)
    parser = argparse.ArgumentParser(
        description=f"Ask the model {MODEL}.", epilog=f"Texts of a row: {takes}".replace("%", "%%")
    )
    parser.add_argument("texts", nargs="*", help="one row each; a sample without any")
    parser.add_argument("--host", default="localhost", help="a name, or the start of a URL")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--model", default=MODEL)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int)
    which.add_argument("--label")
    parser.add_argument("--signature", default="serving_default", choices=known)
    parser.add_argument("--set", action="append", default=[], metavar="INPUT=VALUE")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds")
    asked = parser.parse_args(words)
    given = dict(pair.partition("=")[::2] for pair in asked.set)
    try:
        rows = rows_of(asked.signature, asked.texts, given)
    except ValueError as error:
        parser.error(str(error))
    method, _ = SIGNATURES[asked.signature]
    address = url(asked.host, asked.port, asked.model, method, asked.version, asked.label)
    try:
        answers = ask(address, body_of(asked.signature, rows), asked.timeout)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.reconfigure(encoding="utf-8")
    for answer in answers:
        print(json.dumps(answer, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
