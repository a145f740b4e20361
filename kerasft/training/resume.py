"""What a run folder promises: it is new, or it goes on with the very run that is in it."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kerasft._core import files
from kerasft._core.errors import DivergedError, InputError, Interrupted
from kerasft.data import Split
from kerasft.training.callbacks.checkpoints import Store
from kerasft.training.complaints import short
from kerasft.training.recipe import Recipe
from kerasft.training.sections import note

# What may differ from the recipe that began the run: it decides no weight.
_FREE = {
    "training.checkpoint_minutes",
    "training.checkpoint_steps",
    "training.keep",
    "training.tensorboard",
}


def check_folder(folder: str, store: Store, resume: bool, keeps: bool) -> None:
    """Raise `InputError` unless the run folder is new, or holds a run to go on with."""
    if resume:
        if not keeps:
            raise InputError("`resume` needs the run folder. Received: out=None.")
        if files.exists(files.join(folder, "metrics.json")):
            raise InputError(f"The run in {folder} is complete; there is nothing to resume.")
        store.newest()
    elif keeps and files.names(folder):
        raise InputError(
            f"{folder} exists and is not empty, and a run is never overwritten. "
            "Give a new folder, or --resume to go on with the run in it."
        )
    elif keeps and not files.is_remote(folder):
        place = next(p for p in (Path(folder), *Path(folder).absolute().parents) if p.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            why = "may not be written to" if place.is_dir() else "is a file"
            raise InputError(f"The run folder {folder} cannot be made: {place} {why}.")


def check_same_run(recipe: Recipe, split: Split, folder: str) -> None:
    """Raise `InputError` naming what differs from the recipe, or the data, that began a run."""
    path = files.join(folder, "recipe.yaml")
    began, now = _flat(Recipe.load(path)), _flat(recipe)
    said = [
        f"{key} is {short(now.get(key))} and was {short(began.get(key))}"
        for key in sorted(began.keys() | now.keys())
        if key not in _FREE and began.get(key) != now.get(key)
    ]
    if said:
        more = f" (and {len(said) - 3} more)" if len(said) > 3 else ""
        raise InputError(
            f"The run in {folder} was begun with another recipe: {'; '.join(said[:3])}{more}. "
            f"Resume with the recipe that began it: {path}."
        )
    if split.to_json() != files.read_json(files.join(folder, "split.json")):
        raise InputError(
            f"The data have changed since the run in {folder} was begun (see its split.json). "
            "Bring them back, or train into a new folder."
        )


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Every value of a recipe by its dotted key, as a recipe file would hold it."""
    found = {name: getattr(recipe, name) for name in ("preset", "start", "strategy", "seed")}
    for name in ("task", "method"):
        found |= {f"{name}.{key}": value for key, value in getattr(recipe, name).items()}
    for name in ("data", "training"):
        section = getattr(recipe, name)
        found |= {f"{name}.{key}": getattr(section, key) for key in type(section).model_fields}
    for part in ("data.train", "data.validation", "data.test"):
        found[part] = note(found[part])
    return found


@contextlib.contextmanager
def standing(folder: str, store: Store, keeps: bool) -> Iterator[None]:
    """Whatever stops a run: leave a checkpoint and say how to go on, or leave nothing.

    Raises:
        Interrupted: for Ctrl-C and the like, where there is a checkpoint.
        InputError: where the disk is full and there is a checkpoint.
    """
    new = _missing(folder)
    try:
        yield
    except BaseException as error:
        if not keeps:
            if isinstance(error, Interrupted):
                raise Interrupted("Stopped. Nothing was kept: no run folder was given.") from error
            raise
        if not store.steps():
            _remove(folder, new)
            raise
        _explain(error, store)
        raise


def _explain(error: BaseException, store: Store) -> None:
    """Raise what says that the checkpoint stands, where the error itself does not."""
    again = f"The checkpoint in {store.folder} stands; run the same command with --resume to go on."
    if not isinstance(error, Exception):
        name = "Ctrl-C" if isinstance(error, KeyboardInterrupt) else str(error) or "a signal"
        raise Interrupted(f"Stopped by {name}. {again}") from error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise InputError(f"The disk is full: free some space. ({error}) {again}") from error
    if isinstance(error, DivergedError):
        raise DivergedError(f"{error} The last good checkpoint is {store.newest()}.") from None


def _missing(folder: str) -> list[Path]:
    """The folders that a run has to make, the innermost first."""
    if files.is_remote(folder):
        return []
    return [p for p in (Path(folder), *Path(folder).parents) if not p.exists()]


def _remove(folder: str, new: list[Path]) -> None:
    """Remove what the run wrote, and the folders that it made; a folder that was there stays."""
    if files.is_remote(folder):
        files.remove_tree(folder)
        return
    shutil.rmtree(folder, ignore_errors=True)
    for place in new:
        with contextlib.suppress(OSError):  # somebody else has put something there
            place.rmdir()
    if not new:
        Path(folder).mkdir(exist_ok=True)
