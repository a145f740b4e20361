"""The recipe: everything that decides a run, as one frozen value; YAML in, YAML out."""

import copy
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft._version import __version__
from kerasft.training import yaml_text
from kerasft.training.complaints import explain, short, unknown_key
from kerasft.training.sections import Data, Section, Text, Training, Whole, note

_NAMED = ("task", "method")
Spec = Annotated[dict[str, Any], Field(description="a name, or a mapping with the key `name`")]


class Recipe(Section):
    """Everything that decides a run: task, preset, method, data, training, strategy, seed.

    Args:
        task: name of a task, or a mapping of `name` and its options.
        preset: KerasHub preset, local folder, `hf://...`, or the embedded `bert_tiny`.
        method: name of a method, or a mapping of `name` and its options;
            `{"freeze": {"train_top_blocks": 2}}` is short for
            `{"name": "freeze", "train_top_blocks": 2}`.
        data: `train`, `validation`, `test`, `columns`, `max_length`, `separator`
            (see `kerasft.training.sections.Data`).
        training: `epochs`, `batch_size`, `learning_rate`, ...
            (see `kerasft.training.sections.Training`).
        start: a run folder, whose model is trained on: backbone, head and what its method added,
            with the same task, labels and method; None: from what the preset holds.
        strategy: `auto`, `one-device`, `mirrored`, `tpu` or `multi-worker`.
        seed: seed of the split, the shuffling and every random state.

    Raises:
        InputError: an unknown key or a wrong value, in one line with the dotted key.

    Relative paths, those of a recipe file too, are relative to the current directory.

    Example:
        recipe = Recipe(data={"train": "spam.csv"}, method={"lora": {"rank": 8}})
        recipe.replace("training.epochs=5", "data.test=test.csv").save("recipe.yaml")
    """

    task: Spec = {"name": "text-classification"}
    preset: Text = Field("bert_tiny", description="the name or the folder of a preset")
    method: Spec = {"name": "full"}
    data: Data
    training: Training = Training()
    start: Text | None = Field(None, description="a run folder, or null")
    strategy: Literal["auto", "one-device", "mirrored", "tpu", "multi-worker"] = "auto"
    seed: Whole = Field(0, ge=0, lt=2**32, description="a whole number, from 0 to 4294967295")

    def __init__(self, **sections: Any):
        tree = {"data": {}} | sections
        tree |= {key: _named(key, tree[key]) for key in _NAMED if key in tree}
        tree |= {key: {} for key in ("data", "training") if key in tree and tree[key] is None}
        try:
            super().__init__(**tree)
        except ValidationError as error:
            raise explain(error, Recipe) from None

    @classmethod
    def load(cls, path: str | os.PathLike, *overrides: str) -> "Recipe":
        """Read a recipe file; `overrides` are put in before it is checked (see `replace`).

        Raises:
            InputError: no such file, broken YAML (with its line), a key given twice, an
                unknown key, a wrong value.

        Example:
            Recipe.load("recipe.yaml", "data.train=mails.csv", "training.epochs=5")
        """
        name = os.fspath(path)
        tree = yaml_text.parse(_read(name), name)
        if not isinstance(tree, dict):
            kind = "an empty file" if tree is None else f"a {type(tree).__name__}"
            raise InputError(
                f"{name}: a recipe is a mapping of sections, such as `preset: bert_tiny`. "
                f"Received: {kind}."
            )
        try:
            return cls(**_overridden(_with_text_keys(tree), overrides))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    def replace(self, *overrides: str) -> "Recipe":
        """Return a recipe in which each `section.key=value` is set, in the order given.

        The value is YAML (`5`, `2e-5`, `null`, `[a, b]`, `{name: lora, rank: 8}`), and it takes
        the place of what was there, a mapping of a mapping too.

        Raises:
            InputError: not of that form, an unknown key, a wrong value.

        Example:
            recipe.replace("training.epochs=5", "method=lora", "method.rank=16")
        """
        return Recipe(**_overridden(self._tree(), overrides))

    def save(self, path: str | os.PathLike) -> None:
        """Write the whole recipe, defaults spelled out, so that it can be run again.

        The file appears whole or not at all. Rows in memory are written as a note of their
        number; whoever trains from that file is asked for a path.
        """
        tree = self._tree()
        tree["data"] |= {
            split: note(tree["data"][split]) for split in ("train", "validation", "test")
        }
        head = f"# kerasft {__version__}; relative paths are relative to the current directory\n"
        files.write_text(path, head + yaml_text.write(tree, "A recipe"))

    def task_value(self) -> Any:
        """Return the task as `kerasft.tasks` builds it; `InputError` for an unknown one."""
        from kerasft.tasks import registry

        return registry.build(copy.deepcopy(self.task))

    def method_value(self) -> Any:
        """Return the method as `kerasft.methods` builds it; `InputError` for an unknown one."""
        from kerasft.methods import registry

        return registry.build(copy.deepcopy(self.method))

    def learning_rate(self) -> float:
        """Return the peak learning rate: the one given, or what suits the method."""
        return self.training.rate_for(self.method)

    def _tree(self) -> dict[str, Any]:
        """Nested mappings of everything; rows in memory are the same objects, not copies."""
        tree = {name: getattr(self, name) for name in type(self).model_fields}
        for name in ("data", "training"):
            section = tree[name]
            tree[name] = {key: getattr(section, key) for key in type(section).model_fields}
        tree["data"]["columns"] = dict(self.data.columns)
        return tree | {key: copy.deepcopy(tree[key]) for key in _NAMED}


def _read(name: str) -> str:
    """The text of a recipe file."""
    if not files.is_remote(name) and Path(name).is_dir():
        raise InputError(f"A recipe file is expected. Received: the folder {name}.")
    if not files.exists(name):
        raise InputError(f"There is no recipe file {name}. (Current directory: {os.getcwd()})")
    data = files.read_bytes(name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x}"
        raise InputError(
            f"{name}, line {line}: UTF-8 text is expected. Received: {byte}."
        ) from None


def _with_text_keys(tree: Mapping) -> dict[str, Any]:
    for key in tree:
        if not isinstance(key, str):
            raise InputError(unknown_key(str(key), Recipe))
    return dict(tree)


def _named(key: str, spec: Any) -> dict[str, Any]:
    """A task or method as a mapping with `name`: from a name, a short form or a value."""
    if dataclasses.is_dataclass(spec) and isinstance(getattr(spec, "name", None), str):
        return _plain(spec)
    if isinstance(spec, str) and spec:
        return {"name": spec}
    if isinstance(spec, Mapping) and isinstance(spec.get("name"), str):
        return _plain(spec)
    if isinstance(spec, Mapping) and len(spec) == 1:
        ((name, options),) = spec.items()
        if isinstance(name, str) and isinstance(options, Mapping | None) and name != "name":
            return {"name": name} | _plain(options or {})
    raise InputError(
        f"`{key}` must be a name, or a mapping with the key `name`. Received: {key}={short(spec)}."
    )


def _plain(value: Any) -> Any:
    """Lists and mappings for tuples and dataclasses with a name, all the way down."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return {"name": value.name} | _plain(fields)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _overridden(tree: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """The tree with every `section.key=value` put in."""
    tree = dict(tree)
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise InputError(f"An override is section.key=value. Received: {override!r}.")
        if path[0] in _NAMED and path[0] in tree:
            tree[path[0]] = _named(path[0], tree[path[0]])
        tree = _put(tree, path, yaml_text.parse(text, f"{key}={text}"), key)
    return tree


def _put(tree: Any, path: list[str], value: Any, key: str) -> Any:
    """A copy of the nested mappings with `value` at `path`."""
    if not path:
        return value
    if tree is not None and not isinstance(tree, Mapping):
        raise InputError(f"`{key}` cannot be set: it would lie within {short(tree)}.")
    inner = dict(tree or {})
    return inner | {path[0]: _put(inner.get(path[0]), path[1:], value, key)}
