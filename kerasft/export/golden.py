"""Golden answers: what a SavedModel was asked when it was made, and what it has to answer."""

import base64
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kerasft._core import files
from kerasft._core.errors import InputError, KerasftError
from kerasft.export.c_runtime import CModel, TensorSpec

NAME = os.path.join("assets.extra", "golden.json")
TOLERANCE = 1e-5
_PARTS = {"signature": str, "inputs": dict, "outputs": dict}


def write_golden(folder: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write `assets.extra/golden.json` of a SavedModel.

    Args:
        folder: of the version.
        records: `{"signature": name, "inputs": {name: array}, "outputs": {name: array}}`, and
            `tolerance` where that is not 1e-5; strings as bytes or text. In the file arrays are
            nested lists, a string is UTF-8 text, and one that is not valid UTF-8 is
            `{"b64": ...}`.
    """
    written = [
        {n: record[n] for n in ("signature", "tolerance") if n in record}
        | {
            side: {name: _to_json(np.asarray(v).tolist()) for name, v in record[side].items()}
            for side in ("inputs", "outputs")
        }
        for record in records
    ]
    files.write_json(files.join(folder, NAME), written)


def read_golden(folder: str) -> list[dict[str, Any]]:
    """The records of `assets.extra/golden.json`: values are nested lists, strings bytes.

    Raises:
        InputError: if the file is missing or not such a list.
    """
    path = files.join(folder, NAME)
    records = files.read_json(path)
    if not isinstance(records, list) or not all(map(_is_record, records)):
        raise InputError(
            f"{path} is a list of objects with {', '.join(_PARTS)}. Received: something else. "
            "Export the model again."
        )
    return [
        record
        | {
            side: {name: _from_json(path, value) for name, value in record[side].items()}
            for side in ("inputs", "outputs")
        }
        for record in records
    ]


def check_golden(model: CModel, folder: str) -> tuple[int, float]:
    """Ask a loaded SavedModel what its golden records hold.

    Numbers may differ by `tolerance` of the largest of their output (at least 1); strings, whole
    numbers, names of outputs and shapes are equal.

    Returns:
        How many records were asked, and the largest difference of a number.

    Raises:
        InputError: if a record asks what the SavedModel does not take, or there is none.
        StatusError: if the SavedModel fails.
        KerasftError: if an answer differs.
    """
    records, worst = read_golden(folder), 0.0
    if not records:
        raise InputError(f"{files.join(folder, NAME)} holds no record. Export the model again.")
    for number, record in enumerate(records):
        name = record["signature"]
        specs = model.signatures[name].inputs if name in model.signatures else {}
        inputs = {n: _array(v, specs.get(n)) for n, v in record["inputs"].items()}
        got, meant = model.run(name, inputs), record["outputs"]
        where = f"Record {number} of {NAME}, signature {name}"
        if set(got) != set(meant):
            raise KerasftError(
                f"{where}: the outputs should be {', '.join(sorted(meant))}. "
                f"Received: {', '.join(sorted(got))}."
            )
        for output in sorted(got):
            want = _array(meant[output], model.signatures[name].outputs[output])
            most = record.get("tolerance", TOLERANCE)
            worst = max(worst, _difference(f"{where}, output {output}", got[output], want, most))
    return len(records), worst


def _difference(where: str, got: np.ndarray, want: np.ndarray, most: float) -> float:
    """The largest difference, as a share of the largest number."""
    if got.shape != want.shape:
        raise KerasftError(
            f"{where}: the shape should be {list(want.shape)}. Received: {list(got.shape)}."
        )
    if got.dtype.kind in "Obiu":
        wrong = np.argwhere(got != want)
        found = np.inf if len(wrong) else 0.0
    else:
        got, want = got.astype("float64"), want.astype("float64")
        off = np.abs(got - want) / np.abs(want).max(initial=1.0)
        found = float(off.max(initial=0.0))
        wrong = np.argwhere(~(off <= most))  # NaN is wrong, too
    if len(wrong):
        place = wrong[0].tolist()
        raise KerasftError(
            f"{where}: at {place} it should be {want.item(*place)!r}. "
            f"Received: {got.item(*place)!r}."
        )
    return found


def _array(values: Any, spec: TensorSpec | None) -> np.ndarray:
    """Nested lists as the tensor that a signature has; without one as they are."""
    try:
        if spec is None or spec.dtype == "string":
            return np.array(values, dtype=object)
        given = np.array(values)
        with np.errstate(invalid="ignore"):
            array = given.astype(spec.numpy_type)
        if array.dtype.kind in "biu" and not np.array_equal(array, given):
            raise ValueError(f"{values} are not all of that type")  # 1.5 is never taken for 1
        return array
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{NAME} should hold {spec}: {error}.") from None


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and all(
        isinstance(record.get(part), kind) for part, kind in _PARTS.items()
    )


def _to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_json(v) for v in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return value


def _from_json(path: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(path, v) for v in value]
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, dict):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise InputError(f'{path} holds {value}, which should be {{"b64": ...}}.') from None
    return value
