"""YAML for recipes: numbers and booleans as YAML 1.2 reads them, and no key twice.

PyYAML reads YAML 1.1, in which `5e-5` is a text, `no` is false, `012` is ten and a
date is an object. In a recipe each of these is a mistake waiting to happen (labels
are often called yes and no), so the plain values are resolved by the rules of 1.2.
"""

import json
import re
from typing import Any

import yaml

from kerasft._core.errors import InputError

_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_TAGS = {None, *(f"tag:yaml.org,2002:{tag}" for tag in _PLAIN)}
_MERGE = "tag:yaml.org,2002:merge"
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*|(?=[eE]))|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


class _Loader(yaml.SafeLoader):
    """Safe loader with the plain values of YAML 1.2; a key given twice is an error."""

    yaml_implicit_resolvers = {}
    yaml_constructors = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in _TAGS
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Safe dumper that quotes what either version of YAML would not read as a text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", _NULL, ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver(_MERGE, re.compile(r"^<<$"), ["<"])
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse(text: str, where: str) -> Any:
    """Return the value that the YAML `text` spells.

    Args:
        text: YAML of one document.
        where: what to call the text in an error: a file name, or an override.

    Raises:
        InputError: broken YAML or a key given twice; the message names `where` and the line.

    Example:
        parse("{rate: 5e-5, labels: [yes, no]}", "recipe.yaml")
    """
    try:
        value = yaml.load(text, _Loader)
        json.dumps(value)  # finds an anchor that holds itself
        return value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: not valid YAML: {error.problem}.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{where}, line {line}: not valid YAML: the character {chr(error.character)!r} "
            "is not allowed."
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{where}: not valid YAML: {reason}.") from None


def write(value: Any, what: str) -> str:
    """Return `value` as YAML, keys in the order given; `InputError` if it has no YAML."""
    try:
        return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    except yaml.representer.RepresenterError as error:
        kind = type(error.args[-1]).__name__
        raise InputError(
            f"{what} can hold texts, numbers, lists and mappings. Received: a value of type {kind}."
        ) from None
