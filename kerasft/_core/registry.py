"""Find the tasks, methods and objectives that live one a file in a package.

A member is a frozen dataclass with a class attribute `name`. Dropping a file with
one into the room is all it takes: nothing else has to be edited. Code outside
kerasft adds one with `register`.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from typing import Any

from kerasft._core.checks import nearest, one_of
from kerasft._core.errors import InputError

_VERSION = re.compile(r"\.v(\d+)$")


class Registry:
    """Members of one room by name: `lora`, or `lora.v1` with its version spelled out."""

    def __init__(self, kind: str, package: str):
        self.kind, self.package = kind, package
        self._members: dict[str, type] = {}
        self._scanned = False

    def register(self, member: type) -> type:
        """Add a frozen dataclass with a `name`; usable as a decorator. Raises on a double name."""
        name = getattr(member, "name", None)
        if not (isinstance(name, str) and dataclasses.is_dataclass(member)):
            raise TypeError(
                f"A {self.kind} is a frozen dataclass with a `name`. Received: {member!r}"
            )
        if not member.__dataclass_params__.frozen:
            raise TypeError(f"The {self.kind} {name!r} must be a frozen dataclass.")
        if self._members.setdefault(name, member) is not member:
            raise ValueError(f"Two {self.kind}s are named {name!r}.")
        return member

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._scan()))

    def get(self, name: str) -> type:
        """Return the class of that name, e.g. `lora` or `lora.v1`; `InputError` if unknown."""
        members = self._scan()
        wanted = re.sub(r"\.v1$", "", str(name))
        version = _VERSION.search(str(name))
        if version and wanted not in members and _VERSION.sub("", wanted) in members:
            raise InputError(
                f"This release of kerasft has no {self.kind} {name!r}; it may be newer than "
                f"this installation. Upgrade kerasft, or use {_VERSION.sub('', wanted)!r}."
            )
        return members[one_of(self.kind, wanted, sorted(members))]

    def build(self, spec: Any) -> Any:
        """Return a member from a name, a mapping with `name`, or a member (given back as is)."""
        if type(spec) in self._scan().values():
            return spec
        if isinstance(spec, str):
            return self.get(spec)()
        if not isinstance(spec, dict) or "name" not in spec:
            raise InputError(
                f"A {self.kind} is a name, or a mapping with the key `name`. Received: {spec!r}."
            )
        options = {k: v for k, v in spec.items() if k != "name"}
        member = self.get(spec["name"])
        known = {f.name: f for f in dataclasses.fields(member) if f.init}
        for key in options:
            if key not in known:
                raise InputError(
                    f"The {self.kind} {member.name!r} has no option {key!r}; it has: "
                    f"{', '.join(known) or 'none'}." + nearest(key, known)
                )
        missing = [
            f.name
            for f in known.values()
            if f.name not in options
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise InputError(f"The {self.kind} {member.name!r} needs: {', '.join(missing)}.")
        frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        return member(**frozen)

    def config(self, member: Any) -> dict[str, Any]:
        """Return the mapping from which `build` makes the member again (JSON types only)."""
        return _plain(member)

    def describe(self) -> dict[str, str]:
        """First line of each member's docstring by name, and its remark, where it has one."""
        lines = {n: (c.__doc__ or "").strip().splitlines()[0] for n, c in self._scan().items()}
        return {n: f"{lines[n]} {self._remark(n)}".rstrip() for n in sorted(lines)}

    def explain(self, name: str) -> str:
        """A member's docstring: its formula, options and source; and what it sets by default.

        Raises:
            InputError: for an unknown name.

        Example:
            >>> print(methods.registry.explain("lora"))
        """
        member = self.get(name)
        text = inspect.cleandoc(member.__doc__ or "")
        rate = vars(member).get("learning_rate")
        told = f"Learning rate by default: {rate:g}" if isinstance(rate, float) else ""
        return "\n\n".join(part for part in (text, told, self._remark(name)) if part)

    def _remark(self, name: str) -> str:
        """What was measured and a user should know before the choice: `remark` of the class."""
        return getattr(self.get(name), "remark", "")

    def _scan(self) -> dict[str, type]:
        if not self._scanned:
            self._scanned = True
            package = importlib.import_module(self.package)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                if not module.startswith("_"):
                    found = importlib.import_module(f"{self.package}.{module}")
                    for value in list(vars(found).values()):
                        if _is_member(value, found.__name__):
                            self.register(value)
        return self._members


def _is_member(value: Any, module: str) -> bool:
    return (
        isinstance(value, type)
        and value.__module__ == module
        and dataclasses.is_dataclass(value)
        and isinstance(value.__dict__.get("name"), str)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value):  # a method that holds methods
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return {"name": value.name} | _plain(fields)
    return value
