"""Several versions of a model in service: labels, rollback, and what stays loaded.

All of it is said in one file, `saved_models/NAME/deploy/models.config`, which a server with
`--model_config_file_poll_wait_seconds` reads again and again. Each change is one write of that
file, aside and then renamed. The history of the labels stands in its comments.

What TF Serving does with a change, and what follows from it here:

- It refuses a label that moves to a version that is not loaded yet, and with it the whole file, so
  that the version is never loaded either. So `load` comes first, and `label` says so.
- A label that is new may be on a version that is not loaded, with
  `--allow_version_labels_for_unavailable_models=true`; without that flag a server does not even
  start on a file with labels.
- A rollback goes to a version that has to be loaded. So the version that a label was on before
  stays loaded, and leaves when the label moves on once more.
- A request without a version and a label is answered by the highest version that is loaded, so
  clients should name a label.
"""

import dataclasses
import datetime
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.export.deploy.config import (
    ServedModel,
    name_of_label,
    read_models_config,
    write_models_config,
)

CONFIG = "deploy/models.config"
METRICS = "assets.extra/metrics.json"
HINT = (
    "TF Serving refuses a label, and the whole file with it, on a version that it has not loaded; "
    "a new label passes with --allow_version_labels_for_unavailable_models=true. Load first, wait "
    "until /v1/models/NAME says AVAILABLE, then move the label. Requests without a label go to the "
    "highest version that is loaded."
)
_HEAD = (
    "# Written by `kerasft versions`. Each line below: a label and its versions, oldest first.\n"
)
PLAIN_HEAD = "# The latest version is served; `kerasft versions` writes labels here.\n"
_PAST = re.compile(r"^# (\w+):((?: \d+)+)$", re.ASCII | re.MULTILINE)
_SHARD = re.compile(r"variables\.data-\d{5}-of-(\d{5})")


@dataclasses.dataclass(frozen=True)
class Version:
    """One version of an exported model.

    Args:
        number: its number, the name of its folder.
        time: when it was written, UTC, ISO 8601.
        labels: its labels.
        served: whether `models.config` lets a server load it.
        whole: whether the graph and all parts of the weights are there.
        metrics: scores of the report, where the export has them.
    """

    number: int
    time: str
    labels: tuple[str, ...] = ()
    served: bool = False
    whole: bool = True
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _State:
    """What stands in `models.config`: this model, the others of the file, and past labels."""

    model: ServedModel
    others: tuple[ServedModel, ...] = ()
    past: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    @property
    def needed(self) -> set[int]:
        """The versions with a label, and those that a rollback goes to."""
        before = {history[-2] for history in self.past.values() if len(history) > 1}
        return set(self.model.labels.values()) | before


def versions(folder: str | os.PathLike) -> tuple[Version, ...]:
    """The versions of an exported model, the lowest first.

    Args:
        folder: `saved_models/NAME`.

    Returns:
        One `Version` each.

    Raises:
        InputError: if the folder holds no exported version.

    Example:
        >>> [v.number for v in versions("saved_models/spam") if "stable" in v.labels]
    """
    found = _numbers(folder)
    model = _read(folder, found).model
    served = _served(model, found)
    return tuple(
        Version(
            number,
            _time(files.join(folder, name)),
            tuple(sorted(label for label, on in model.labels.items() if on == number)),
            number in served,
            _whole(files.join(folder, name)),
            _metrics(files.join(folder, name)),
        )
        for number, name in found.items()
    )


def load(folder: str | os.PathLike, number: int) -> None:
    """Let a server load a version too, so that a label can move to it.

    From then on the versions are the listed ones, and a new export waits for its own `load` or
    label.

    Args:
        folder: `saved_models/NAME`.
        number: the version.

    Raises:
        InputError: for a version that is not there, or not whole.
    """
    found = _numbers(folder)
    _known(folder, found, number)
    state = _read(folder, found)
    _write(folder, state, served=_served(state.model, found) | {number})


def label(folder: str | os.PathLike, name: str, number: int) -> None:
    """Put a label on a version, or move it there.

    TF Serving refuses a label on a version that is not loaded yet (and the whole file with it),
    unless the label is new and `--allow_version_labels_for_unavailable_models` is true. So a label
    that stands on another version moves only to one that `models.config` has loaded already: `load`
    first, and wait until the server says AVAILABLE.

    Args:
        folder: `saved_models/NAME`.
        name: the label, such as "stable": letters, digits and "_".
        number: the version.

    Raises:
        InputError: for a version that is not there, not whole or not loaded, and for a label that
            is no word.

    Example:
        >>> label("saved_models/spam", "stable", 3)
    """
    name_of_label(name)
    found = _numbers(folder)
    _known(folder, found, number)
    state = _read(folder, found)
    served, before = _served(state.model, found), state.model.labels.get(name)
    if before == number:
        return
    if before is not None:
        _check_loaded(folder, name, number, served)
    past = {**state.past, name: (*state.past.get(name, ()), number)}
    _relabel(folder, state, served, {**state.model.labels, name: number}, past)


def rollback(folder: str | os.PathLike, name: str = "stable") -> int:
    """Put a label back on the version that it was on before.

    That version stays loaded for it, so a server takes the label at once; a second rollback in a
    row goes one further back. The version that is left is not loaded any more, unless another label
    is on it.

    Args:
        folder: `saved_models/NAME`.
        name: the label.

    Returns:
        The version that the label is on now.

    Raises:
        InputError: if there is no such label, or no version before it.
    """
    found = _numbers(folder)
    state = _read(folder, found)
    _known_label(name, state.model)
    past, left = list(state.past[name]), state.model.labels[name]
    while past and past[-1] == left:
        past.pop()
    if not past:
        raise InputError(
            f"There is no version before {left} that {name!r} was on and that is still there, so "
            f"there is nothing to go back to. Put it on one: --label {name}=VERSION."
        )
    served = _served(state.model, found)
    _known(folder, found, past[-1])
    _check_loaded(folder, name, past[-1], served)
    labels = {**state.model.labels, name: past[-1]}
    _relabel(folder, state, served, labels, {**state.past, name: tuple(past)})
    return past[-1]


def remove_label(folder: str | os.PathLike, name: str) -> None:
    """Take a label away; without any label the latest version is loaded again.

    Raises:
        InputError: if there is no such label.
    """
    found = _numbers(folder)
    state = _read(folder, found)
    _known_label(name, state.model)
    labels = {n: v for n, v in state.model.labels.items() if n != name}
    past = {n: v for n, v in state.past.items() if n != name}
    if labels:
        _relabel(folder, state, _served(state.model, found), labels, past)
    else:
        plain = dataclasses.replace(state.model, policy="latest", labels={})
        _save(folder, _State(plain, state.others))


def retire(folder: str | os.PathLike, number: int) -> None:
    """Let a server unload a version; its folder stays.

    Raises:
        InputError: for a version that is not loaded, that has a label, or that is the only one.
    """
    found = _numbers(folder)
    state = _read(folder, found)
    served = _served(state.model, found)
    on = sorted(name for name, version in state.model.labels.items() if version == number)
    if on:
        raise InputError(
            f"Version {number} has the label {', '.join(on)}, so it is asked for. Move or remove "
            "the label first."
        )
    if number not in served:
        raise InputError(
            f"`retire` takes a version that is loaded: {_listed(served)}. Received: {number!r}."
        )
    rest = served - {number} or set(_whole_ones(folder, found)[-2:]) - {number}
    if not rest:
        raise InputError(f"Version {number} is the only one, and a model must serve one.")
    past = {n: tuple(v for v in history if v != number) for n, history in state.past.items()}
    _write(folder, dataclasses.replace(state, past=past), served=rest)


# --- the folder -------------------------------------------------------------------------------


def _numbers(folder: str | os.PathLike) -> dict[int, str]:
    """Number -> name of the folder, the lowest first."""
    names = files.names(folder)
    found = {int(n): n for n in names if n.isascii() and n.isdigit()}
    if found:
        return dict(sorted(found.items()))
    advice = "Give saved_models/NAME, as `kerasft export` writes it."
    if "saved_model.pb" in names:
        advice = "It is one version: give the folder that it lies in."
    raise InputError(f"{os.fspath(folder)} holds no versions (folders 1, 2, ...). {advice}")


def _known(folder: str | os.PathLike, found: Mapping[int, str], number: Any) -> None:
    if number not in found or isinstance(number, bool):
        raise InputError(
            f"{os.fspath(folder)} has the versions {_listed(found)}. Received: {number!r}."
        )
    if not _whole(files.join(folder, found[number])):
        raise InputError(
            f"Version {number} of {os.fspath(folder)} is not whole: the graph or a part of the "
            "weights is not there. Export or copy it again."
        )


def _known_label(name: str, model: ServedModel) -> None:
    if name not in model.labels:
        there = ", ".join(model.labels) or "none"
        raise InputError(f"{model.name} has the labels: {there}. Received: {name!r}.")


def _check_loaded(folder: Any, name: str, number: int, served: set[int]) -> None:
    if number not in served:
        raise InputError(
            f"Version {number} is not loaded (loaded: {_listed(served)}), and TF Serving refuses "
            f"to move the label {name!r} there. First: kerasft versions {os.fspath(folder)} "
            f"--load {number}; when the server says AVAILABLE, move the label."
        )


def _whole(place: str) -> bool:
    """Whether the graph is there, and the index and all shards of the weights."""
    if not files.exists(files.join(place, "saved_model.pb")):
        return False
    names = files.names(files.join(place, "variables"))
    shards = [found for name in names if (found := _SHARD.fullmatch(name))]
    return "variables.index" in names and bool(shards) and len(shards) == int(shards[0][1])


def _whole_ones(folder: str | os.PathLike, found: Mapping[int, str]) -> list[int]:
    return [number for number, name in found.items() if _whole(files.join(folder, name))]


def _time(place: str) -> str:
    """When the version was written."""
    graph = files.join(place, "saved_model.pb")
    if not files.exists(graph):
        return ""
    if files.is_remote(graph):
        seconds = files.gfile().stat(graph).mtime_nsec / 1e9
    else:
        seconds = os.stat(graph).st_mtime
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _metrics(place: str) -> dict[str, Any]:
    path = files.join(place, METRICS)
    found = files.read_json(path) if files.exists(path) else {}
    return found if isinstance(found, dict) else {}


# --- models.config ----------------------------------------------------------------------------


def _read(folder: str | os.PathLike, found: Mapping[int, str]) -> _State:
    """What `models.config` says; without one, the latest version is served."""
    path, name = files.join(folder, CONFIG), os.fspath(folder).rstrip("/").rsplit("/", 1)[-1]
    if name in ("", ".", ".."):
        name = os.path.basename(os.path.abspath(os.fspath(folder)))
    if not files.exists(path):
        return _State(ServedModel(name, f"/models/{name}"))
    try:
        text = files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.") from None
    models = read_models_config(text, path)
    mine = [m for m in models if m.name == name] or (list(models) if len(models) == 1 else [])
    if len(mine) != 1:
        told = ", ".join(m.name for m in models) or "none"
        raise InputError(f"{path} must have one model {name!r}. Received: {told}.")
    told, past = dict(_PAST.findall(text)), {}
    for word, number in mine[0].labels.items():
        there = tuple(n for n in map(int, told.get(word, "").split()) if n in found)
        # A file that was edited by hand may have moved the label on.
        past[word] = there if there[-1:] == (number,) else (*there, number)
    return _State(mine[0], tuple(m for m in models if m is not mine[0]), past)


def _served(model: ServedModel, found: Mapping[int, str]) -> set[int]:
    """The versions that a server loads."""
    if isinstance(model.policy, tuple):
        return set(model.policy)
    count = {"latest": 1, "all": len(found)}.get(model.policy, model.policy)
    return set(list(found)[-count:])


def _relabel(
    folder: str | os.PathLike,
    state: _State,
    served: set[int],
    labels: Mapping[str, int],
    past: Mapping[str, tuple[int, ...]],
) -> None:
    """Write new labels: what they need is loaded, and what was loaded for no label's sake stays."""
    kept = served - state.needed if isinstance(state.model.policy, tuple) else set()
    model = dataclasses.replace(state.model, policy="all", labels=labels)
    changed = _State(model, state.others, past)
    _write(folder, changed, served=changed.needed | kept)


def _write(folder: str | os.PathLike, state: _State, served: Iterable[int]) -> None:
    model = dataclasses.replace(state.model, policy=tuple(served))
    _save(folder, dataclasses.replace(state, model=model))


def _save(folder: str | os.PathLike, state: _State) -> None:
    lines = [f"# {n}: {' '.join(map(str, v))}\n" for n, v in sorted(state.past.items()) if v]
    text = _HEAD + "".join(lines) + write_models_config([*state.others, state.model])
    files.write_text(files.join(folder, CONFIG), text)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
