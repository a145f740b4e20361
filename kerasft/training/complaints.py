"""One line of our own for what pydantic finds wrong."""

import difflib
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from kerasft._core.checks import nearest
from kerasft._core.errors import InputError


def explain(error: ValidationError, model: type[BaseModel]) -> InputError:
    """Return the error that says what was expected, what came, and what to do.

    An unknown key comes before the rest, since it often is the cause of the rest.

    Args:
        error: what pydantic raised for `model`.
        model: the model, whose fields may be sections (models themselves).
    """
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, InputError):
        return inner
    place = [str(part) for part in first["loc"] if part != "[key]"]
    key = ".".join(place)
    if first["type"] in ("extra_forbidden", "invalid_key"):
        return InputError(unknown_key(key, model))
    fields = _fields(model)
    owner = next(k for k in (".".join(place[:2]), place[0]) if k in fields)
    field = fields[owner]
    if first["type"] == "missing":
        return InputError(f"`{key}` is missing. Expected: {_expected(field)}.")
    hint = nearest(first["input"], _choices(field)) if isinstance(first["input"], str) else ""
    return InputError(
        f"`{owner}` must be {_expected(field)}. Received: {key}={short(first['input'])}.{hint}"
    )


def unknown_key(key: str, model: type[BaseModel]) -> str:
    """Return the line about a key that `model` lacks, with the nearest one that it has.

    A key of that very name in another section is nearest, then a similar one of the same
    section, then a similar one of another.
    """
    section, _, leaf = key.rpartition(".")
    known = {k: k.rpartition(".") for k in _fields(model)}
    here = {name: k for k, (owner, _, name) in known.items() if owner == section}
    anywhere = {name: k for k, (_, _, name) in known.items()}
    similar = difflib.get_close_matches(leaf, here) or difflib.get_close_matches(leaf, anywhere)
    if leaf in anywhere or similar:
        found = anywhere[leaf] if leaf in anywhere else (anywhere | here)[similar[0]]
        return f"Unknown key `{key}`. Did you mean `{found}`?"
    owner = f"The section `{section}`" if section else "A recipe"
    return f"Unknown key `{key}`. {owner} has the keys: {', '.join(here)}."


def _fields(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Every key, with the section before a dot; a section's own name first."""
    found = {}
    for name, field in model.model_fields.items():
        found[prefix + name] = field
        if _is_section(field):
            found |= _fields(field.annotation, f"{name}.")
    return found


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _choices(field: FieldInfo) -> tuple[str, ...]:
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _expected(field: FieldInfo) -> str:
    if _is_section(field):
        return f"a mapping with the keys: {', '.join(field.annotation.model_fields)}"
    return field.description or f"one of: {', '.join(_choices(field))}"


def short(value: Any) -> str:
    """Return `repr(value)` in one line of at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
