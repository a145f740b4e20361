"""Rows as users write them, and what a model says that it takes and gives."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasft._core.checks import nearest, one_of
from kerasft._core.errors import InputError
from kerasft.serving.errors import ServingError

Row = dict[str, Any]


@dataclass(frozen=True)
class Signature:
    """Inputs (name -> type, as DT_STRING) and names of outputs."""

    inputs: Mapping[str, str]
    outputs: tuple[str, ...]


def signature_of(metadata: Mapping[str, Any], name: str) -> Signature:
    """A signature of what `Client.metadata` gives.

    Raises:
        InputError: for one that is not there.
        ServingError: INTERNAL, where this is no metadata.
    """
    try:
        known = metadata["metadata"]["signature_def"]["signature_def"]
        made = {
            key: Signature({n: i["dtype"] for n, i in one["inputs"].items()}, tuple(one["outputs"]))
            for key, one in known.items()
            if not key.startswith("__saved_model")  # TensorFlow's own
        }
    except (KeyError, TypeError, AttributeError):
        raise ServingError("INTERNAL", f"No metadata: {str(metadata)[:200]}") from None
    return made[one_of("signature", name, made)]


def listed_rows(rows: Iterable[Any]) -> list[Any]:
    """The rows as a list.

    Raises:
        InputError: for one text or one mapping, which are a row and no rows.
    """
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise InputError(f"Rows are a list, a row each. Received: {rows!r}. Write [{rows!r}].")
    return list(rows)


def named_rows(
    rows: Sequence[Any], given: Mapping[str, Any], inputs: Iterable[str], *, all_of_them: bool
) -> list[Row]:
    """Rows with the names of their inputs, in values that JSON has.

    Args:
        rows: mappings, or values of the one input that is not given.
        given: inputs that are the same for every row.
        inputs: that the signature takes.
        all_of_them: whether a row needs each, as a tensor does and a tf.Example does not.

    Raises:
        InputError: where a row is not what the signature takes.
    """
    inputs, fixed = sorted(inputs), {name: plain(value) for name, value in given.items()}
    free = [name for name in inputs if name not in fixed]
    made = []
    for row in rows:
        if not isinstance(row, Mapping):
            if len(free) != 1:
                raise InputError(
                    f"A row is a mapping of {', '.join(free) or 'nothing more'}. Received: {row!r}."
                )
            row = {free[0]: row}
        if twice := sorted(row.keys() & fixed.keys()):
            raise InputError(
                f"An input stands in the rows or is given for all. Received: {twice[0]!r} twice."
            )
        found = {str(name): plain(value) for name, value in row.items()} | fixed
        extra = sorted(found.keys() - set(inputs))
        if extra or (all_of_them and len(found) < len(inputs)):
            raise InputError(
                f"The signature takes {', '.join(inputs)}. Received: "
                f"{', '.join(sorted(found)) or 'nothing'}."
                + (nearest(extra[0], inputs) if extra else "")
            )
        made.append(found)
    return made


def plain(value: Any) -> Any:
    """A value as JSON has it; bytes are {"b64": ...}, as TF Serving reads them.

    Raises:
        InputError: for anything but texts, bytes, numbers, arrays, and lists of these.
    """
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        value = value.tolist()
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str | bool | int | float):
        return value
    raise InputError(
        f"A value is a text, bytes, a number, an array or a list. Received: {value!r}."
    )
