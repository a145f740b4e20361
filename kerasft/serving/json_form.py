"""JSON as TF Serving reads and writes it, to and from arrays and examples.

NaN, Infinity and -Infinity are bare words both ways. What follows the document is not read.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from kerasft.serving import tensors
from kerasft.serving.errors import invalid

DEFAULT = "serving_default"
_WORDS = {list: "Array", dict: "Object", str: "String", type(None): "Null"}
_DECODER, _ENCODER = json.JSONDecoder(), json.JSONEncoder()
_SHOWN = 256  # characters of a value in a message

# Signature -> its inputs -> the name of the dtype.
Signatures = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Asked:
    """A request that was read.

    Args:
        signature: its name, "" for `serving_default`.
        inputs: arrays by name; serialised examples, string [batch], for classify and regress.
        rows: whether a predict request has the row form, and so its answer.
    """

    signature: str
    inputs: dict[str, np.ndarray]
    rows: bool = False


def asked(document: Mapping[str, Any], method: str, signatures: Signatures) -> Asked:
    """What a request asks of a model.

    Args:
        document: the request.
        method: "predict", "classify" or "regress".
        signatures: what the model takes.

    Raises:
        ServingError: INVALID_ARGUMENT, for what is not of TF Serving's form.
    """
    name = document.get("signature_name", "")
    if method != "predict":
        return Asked(name, {"inputs": examples_of(document)})
    wanted = name or DEFAULT
    if wanted not in signatures:
        raise invalid(f'Serving signature name: "{wanted}" not found in signature def')
    rows, inputs = inputs_of(document, signatures[wanted])
    return Asked(name, inputs, rows)


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The object in a request's body.

    Raises:
        ServingError: INVALID_ARGUMENT, for anything else.
    """
    try:
        text = body.decode("utf-8-sig").lstrip(" \t\r\n")
        if not text:
            raise invalid("JSON Parse error: The document is empty")
        document, _ = _DECODER.raw_decode(text)
    except RecursionError:
        raise invalid("JSON Parse error: The document is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be "
            "a string value."
        )
    return document


def inputs_of(
    document: Mapping[str, Any], specs: Mapping[str, str]
) -> tuple[bool, dict[str, np.ndarray]]:
    """Whether a predict request has the row form, and its arrays.

    Args:
        document: the request.
        specs: inputs of the signature: name -> the name of the dtype.

    Raises:
        ServingError: INVALID_ARGUMENT, for anything but one of the two forms.
    """
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        return True, _rows(document["instances"], specs)
    if "inputs" in document:
        return False, _columns(document["inputs"], specs)
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(instances: Any, specs: Mapping[str, str]) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {_shown(instances)} Expecting 'instances' to be an list/array")
    if not instances:
        raise invalid("JSON Value: [] No values in 'instances' array")
    if not _is_named(instances[0]):
        if len(specs) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input "
                "tensors required as per tensorinfo_map"
            )
        for i, one in enumerate(instances):
            if _is_named(one):
                raise invalid(f"Expecting value/list but got object at item {i} of input list")
        (name,) = specs
        return {name: dense(instances, specs[name])}
    for i, one in enumerate(instances):
        if not _is_named(one):
            raise invalid(f"Expecting object but got list at item {i} of input list")
        if one.keys() != specs.keys():
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. JSON object: {_shown(one)} "
                f"keys must be equal to: {','.join(sorted(specs))}"
            )
    return {name: dense([one[name] for one in instances], dtype) for name, dtype in specs.items()}


def _columns(inputs: Any, specs: Mapping[str, str]) -> dict[str, np.ndarray]:
    if _is_named(inputs):
        for name in specs:
            if name not in inputs:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
        return {name: dense(inputs[name], dtype) for name, dtype in specs.items()}
    if len(specs) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map"
        )
    (name,) = specs
    return {name: dense(inputs, specs[name])}


def dense(value: Any, dtype: str) -> np.ndarray:
    """A value or nested lists of values as one array; strings are objects (bytes).

    Raises:
        ServingError: INVALID_ARGUMENT, where lists of one level differ in length or a value is not
            of the dtype.
    """
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        if len(shape) > tensors.MOST_AXES:
            raise invalid(f"Lists are nested deeper than {tensors.MOST_AXES} levels.")
        inner = inner[0] if inner else None
    level = [value]
    for depth, size in enumerate(shape):
        for item in level:
            if not isinstance(item, list):
                raise invalid(
                    f"JSON Value: {_shown(item)} found at incorrect level: {depth + 1} in the JSON "
                    f"DOM. Expected at level: {len(shape)}"
                )
            if len(item) != size:
                raise invalid(
                    f"Encountered list at unexpected size: {len(item)} at level: {depth} expected "
                    f"size: {size}"
                )
        level = list(chain.from_iterable(level))
    for item in level:
        if isinstance(item, list):
            raise invalid(
                f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}"
            )
    return _typed(level, dtype).reshape(shape)


def _typed(values: list, dtype: str) -> np.ndarray:
    if dtype == "string":
        return tensors.strings([_bytes_of(value) for value in values])
    wanted = tensors.numpy_type(dtype)
    kinds = {"f": (int, float), "b": (bool,)}.get(wanted.kind, (int,))
    for value in values:
        if type(value) not in kinds:  # True is no number here
            raise _wrong_type(value, dtype)
    if wanted.kind in "iu" and values:
        bounds = np.iinfo(wanted)
        for value in (min(values), max(values)):
            if not bounds.min <= value <= bounds.max:
                raise _wrong_type(value, dtype)
    try:
        # Beyond float32 is infinity, as in TF Serving.
        with np.errstate(over="ignore"):
            return np.array(values, "f8" if wanted.kind == "f" else wanted).astype(wanted)
    except OverflowError:
        raise invalid("JSON Parse error: Number too big to be stored in double.") from None


def _bytes_of(value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode("utf-8")
        if _is_binary(value):
            return unpacked(value)
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    if isinstance(value, dict):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    raise _wrong_type(value, "string")


def unpacked(value: Mapping[str, str]) -> bytes:
    """The bytes of {"b64": ...}; white space and padding do not matter."""
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _is_binary(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_binary(value)


def _wrong_type(value: Any, dtype: str) -> Exception:
    word = str(value) if isinstance(value, bool) else _WORDS.get(type(value), "Number")
    kind = {"float32": "float", "float64": "double"}.get(dtype, dtype)
    return invalid(f"JSON Value: {_shown(value)} Type: {word} is not of expected type: {kind}")


def _shown(value: Any) -> str:
    """A value for a message, cut."""
    text = ""
    try:
        # Piece by piece: writing out all of a long request would take longer than reading it.
        for piece in _ENCODER.iterencode(value):
            text += piece[:_SHOWN]
            if len(text) >= _SHOWN:
                break
    except (RecursionError, ValueError):
        text = "..."
    return text[:_SHOWN]


def examples_of(document: Mapping[str, Any]) -> np.ndarray:
    """The serialised examples of a classify or regress request: string [batch].

    Raises:
        ServingError: INVALID_ARGUMENT, where "examples" is not a list of objects.
    """
    context = b""
    if "context" in document:
        context = _example(document["context"])
    examples = document.get("examples")
    if "examples" not in document:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    if not isinstance(examples, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid("'examples' value is an empty array")
    return tensors.strings([context + _example(one) for one in examples])


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        word = _WORDS.get(type(value), "Number")
        raise invalid(f"Example must be JSON object but got JSON {word}")
    try:
        return tensors.example_of(_without_b64(value)).SerializeToString()
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None


def _without_b64(features: Mapping[str, Any]) -> dict[str, Any]:
    """The features with bytes where {"b64": ...} stands."""

    def plain(value: Any) -> Any:
        return unpacked(value) if _is_binary(value) else value

    return {
        name: [plain(v) for v in value] if isinstance(value, list) else plain(value)
        for name, value in features.items()
    }


def predictions(outputs: Mapping[str, np.ndarray], rows: bool) -> bytes:
    """The answer to a predict request; one output stands without its name.

    Raises:
        ServingError: INVALID_ARGUMENT, where the outputs have no common batch for the row form.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if not rows:
        texts = {n: _nested(_leaves(n, v), v.shape, 0)[0] for n, v in outputs.items()}
        body = texts.popitem()[1] if len(texts) == 1 else _object(texts)
        return _encoded(f'{{"outputs": {body}}}')
    batch = None
    for name, value in outputs.items():
        if value.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch is not None and len(value) != batch:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(value)} expecting: {batch}"
            )
        batch = len(value)
    columns = {n: _nested(_leaves(n, v), v.shape, 1) for n, v in outputs.items()}
    if len(columns) == 1:
        (texts,) = columns.values()
    else:
        texts = [_object({n: column[i] for n, column in columns.items()}) for i in range(batch)]
    return _encoded(f'{{"predictions": [{", ".join(texts)}]}}')


def classifications(classes: np.ndarray | None, scores: np.ndarray | None) -> bytes:
    """The answer to a classify request: [[label, score], ...] for each example.

    Args:
        classes: string [batch, classes], or None.
        scores: float32 [batch, classes], or None.
    """
    shape = (classes if classes is not None else scores).shape
    count = math.prod(shape)
    labels = ['""'] * count if classes is None else _leaves("", classes)
    numbers = ["0.0"] * count if scores is None else _leaves("", scores)
    pairs = [f"[{label}, {score}]" for label, score in zip(labels, numbers)]
    return _encoded(f'{{"results": {_nested(pairs, shape, 0)[0]}}}')


def regressions(values: np.ndarray) -> bytes:
    """The answer to a regress request.

    Args:
        values: float32 [batch].
    """
    return _encoded(f'{{"results": {_nested(_leaves("", values), values.shape, 0)[0]}}}')


def problem(message: str) -> bytes:
    """The body of an error."""
    return json.dumps({"error": message}).encode("ascii")


def _leaves(name: str, array: np.ndarray) -> list[str]:
    """Every value as JSON, in order."""
    flat, kind = array.reshape(-1), array.dtype.kind
    if kind in "OSU":
        if name.endswith("_bytes"):
            packed = (base64.b64encode(tensors.as_bytes(v)).decode("ascii") for v in flat)
            return [f'{{"b64": "{text}"}}' for text in packed]
        # Bytes that are not UTF-8 are sent as they are, as TF Serving does.
        texts = (tensors.as_bytes(v).decode("utf-8", "surrogateescape") for v in flat)
        return [json.dumps(text, ensure_ascii=False) for text in texts]
    if kind == "b":
        return ["true" if value else "false" for value in flat.tolist()]
    if kind in "iu":
        return list(map(str, flat.tolist()))
    if kind == "f" and array.dtype.itemsize >= 4:
        return _decimals(flat)
    raise invalid(f"Failed to write JSON value for tensor type: {array.dtype.name}")


def _decimals(flat: np.ndarray) -> list[str]:
    """Numbers in six digits where these are enough to read the same number back, else in all."""
    texts = [f"{value:g}" for value in flat.tolist()]
    with np.errstate(over="ignore"):
        off = np.array(texts, "f8").astype(flat.dtype) != flat
    digits = 9 if flat.dtype.itemsize == 4 else 17
    for i in np.flatnonzero(off & np.isfinite(flat)):
        texts[i] = f"{flat[i]:.{digits}g}"
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [
        text if "." in text or "e" in text else words.get(text) or f"{text}.0" for text in texts
    ]


def _nested(texts: list[str], shape: tuple[int, ...], axis: int) -> list[str]:
    """Texts of values put into lists, from the last axis to `axis`."""
    for i in range(len(shape) - 1, axis - 1, -1):
        size = shape[i]
        starts = range(0, math.prod(shape[:i]) * size, size) if size else [0] * math.prod(shape[:i])
        texts = [f"[{', '.join(texts[start : start + size])}]" for start in starts]
    return texts


def _object(texts: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
