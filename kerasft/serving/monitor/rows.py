"""One row of a request log: what it says of a request, checked."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_AHEAD = 3600.0  # seconds that a row's clock may be before ours
_LABEL = 1000  # characters of a class


class Broken(ValueError):
    """A line that is no row; the message says why."""


@dataclass(frozen=True)
class Row:
    """A request's row.

    Args:
        time: seconds since 1970; None where the log does not say.
        model: its name.
        features: finite numbers by name.
        classes: what was answered; None where the answer is no class.
        embedding: the vector that was answered, or None.
    """

    time: float | None
    model: str
    features: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    embedding: tuple[float, ...] | None = None


def parse(line: bytes, now: float = math.inf) -> Row:
    """The row of one line.

    Args:
        line: JSON, `{"time", "model", "version", "inputs", "features", "outputs"}`.
        now: seconds since 1970; a row from more than an hour after is broken.

    Raises:
        Broken: where it is none.

    Example:
        >>> parse(b'{"time": "2026-01-02T03:04:05Z", "model": "desk", "outputs": {"score": 1.5}}')
        Row(time=1767323045.0, model='desk', features={'score': 1.5}, classes=None, embedding=None)
    """
    try:
        found = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Broken("no JSON") from None
    if not isinstance(found, dict):
        raise Broken("no object")
    outputs, model = found.get("outputs"), found.get("model", "")
    if not isinstance(outputs, dict) or not isinstance(model, str):
        raise Broken("no outputs, or no model")
    time = _time(found.get("time"))
    if time > now + _AHEAD:
        raise Broken("a time in the future")
    return of_values(time, model, found.get("inputs"), outputs, found.get("features"))


def of_values(
    time: float | None, model: str, inputs: Any, outputs: Mapping[str, Any], features: Any = None
) -> Row:
    """A row of what one request asked and was answered.

    Raises:
        Broken: for a value that cannot be.
    """
    given = {} if inputs is None else inputs
    known = {} if features is None else features
    if not isinstance(given, Mapping) or not isinstance(known, Mapping):
        raise Broken("inputs and features are objects")
    lengths = {f"{n}_characters": len(v) for n, v in given.items() if isinstance(v, str)}
    numbers = {**lengths, **known}
    classes, sure = _classes(outputs)
    if sure is not None:
        numbers["confidence"] = sure
    for name in ("score", "outputs"):  # of serving_default, and of Regress
        if name in outputs:
            numbers["score"] = outputs[name]
    embedding = outputs.get("embedding")
    if embedding is not None:
        embedding = tuple(_number(v) for v in _list(embedding))
    return Row(time, model, {n: _number(v) for n, v in numbers.items()}, classes, embedding)


def _classes(outputs: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, Any]:
    """What was answered, and the greatest probability."""
    sure = None
    for name in ("probabilities", "scores"):
        if name in outputs:
            values = [_number(v) for v in _list(outputs[name])]
            sure = max(values, default=None)
    if isinstance(outputs.get("label"), str):
        found: Any = [outputs["label"]]
    elif "labels" in outputs:
        found = _list(outputs["labels"])
    elif "classes" in outputs and "scores" in outputs:
        names, scores = _list(outputs["classes"]), _list(outputs["scores"])
        if len(names) != len(scores) or not names:
            raise Broken("classes and scores of unlike length")
        found = [names[max(range(len(scores)), key=scores.__getitem__)]]
    else:
        return None, sure
    if not all(isinstance(name, str) and len(name) <= _LABEL for name in found):
        raise Broken("a class that is no text")
    return tuple(found), sure


def _list(value: Any) -> list:
    if not isinstance(value, list):
        raise Broken("an answer that is no list")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Broken("a value that is no number")
    try:
        number = float(value)
    except OverflowError:
        raise Broken("a number that is too large") from None
    if not math.isfinite(number):
        raise Broken("a number that is not finite")
    return number


def _refuse(name: str) -> None:
    raise ValueError(name)


def _time(value: Any) -> float:
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\dT", value):
        raise Broken("no time, ISO 8601 in UTC")
    try:
        found = datetime.fromisoformat(value)
        seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        seconds = -1.0
    if seconds < 0:
        raise Broken("no time, ISO 8601 in UTC")
    return seconds


def told(seconds: float | None) -> str | None:
    """A row's time as the log writes it."""
    if seconds is None:
        return None
    found = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return found.replace("+00:00", "Z")


# --- TF Serving's own log -----------------------------------------------------------------------


def of_prediction_log(record: bytes) -> Iterator[Row]:
    """The rows of one `PredictionLog` of Predict, Classify or Regress; it holds no time.

    Raises:
        Broken: where it is none, or of another kind.

    Source: tensorflow_serving/apis/prediction_log.proto
    """
    from google.protobuf.message import DecodeError

    from kerasft.export._stubs import protos
    from kerasft.serving import tensors
    from kerasft.serving.errors import ServingError
    from kerasft.serving.tap import values_of

    (messages,) = protos("tensorflow_serving.apis.prediction_log_pb2")
    try:
        log = messages.PredictionLog.FromString(record)
    except DecodeError:
        raise Broken("no PredictionLog") from None
    kind = log.WhichOneof("log_type") or ""
    if kind not in ("predict_log", "classify_log", "regress_log"):
        raise Broken("a PredictionLog of another kind")
    held = getattr(log, kind)
    model = held.request.model_spec.name
    try:
        if kind == "predict_log":
            if held.request.model_spec.signature_name not in ("", "serving_default"):
                return
            inputs = {n: tensors.from_proto(t) for n, t in held.request.inputs.items()}
            outputs = {n: tensors.from_proto(t) for n, t in held.response.outputs.items()}
            arrays = (*inputs.values(), *outputs.values())
            count = min((len(v) if v.ndim else 0 for v in arrays), default=0)
            rows = [(values_of(inputs, i), values_of(outputs, i)) for i in range(count)]
        else:
            rows = [({}, answer) for answer in _answers(kind, held.response.result)]
    except ServingError as error:
        raise Broken(str(error)) from None
    for asked, answer in rows:
        yield of_values(None, model, asked, answer)


def _answers(kind: str, result: Any) -> list[dict[str, Any]]:
    if kind == "regress_log":
        return [{"score": found.value} for found in result.regressions]
    return [
        {"classes": [c.label for c in row.classes], "scores": [c.score for c in row.classes]}
        for row in result.classifications
    ]
