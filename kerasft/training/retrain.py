"""`retrain`: a run trained on with new rows, and exported only if it has not become worse."""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

from kerasft._core import files, stack
from kerasft._core.checks import in_range
from kerasft._core.errors import InputError
from kerasft.backbones.saved import saved_folder
from kerasft.evaluation import Comparison, compare
from kerasft.export.deploy import versions
from kerasft.export.deploy.config import name_of_label, name_of_model
from kerasft.pipeline import Pipeline
from kerasft.training.added import DATA, Rows, gather
from kerasft.training.callbacks.checkpoints import Store
from kerasft.training.recipe import Recipe
from kerasft.training.resume import check_folder, standing
from kerasft.training.train import train_into

NAME = "comparison.json"
DRAWS = 1000
_SLACK = 1e-9  # a difference of exactly the tolerance passes, whatever its last bit
_KEPT = ("task", "preset", "method", "start")


@dataclasses.dataclass(frozen=True)
class Retrained:
    """A run that was trained on, and how it compares with what it was.

    Args:
        run: the folder of the old run.
        pipe: the new pipeline.
        compared: what the rows are -> both models on them.
        tolerance: by how much the new score may be lower on any of these.
        rows: how many rows went where (see `kerasft.training.added.Rows`).
        method: name of the method.
        exported: the path of the version, or None.
        label: the label that was put on the version, or None.
        waits: the label that stands on another version, and moves once this one is loaded.
    """

    run: str
    pipe: Pipeline
    compared: dict[str, Comparison]
    tolerance: float
    rows: dict[str, int]
    method: str
    exported: str | None = None
    label: str | None = None
    waits: str | None = None

    @property
    def worse(self) -> tuple[str, ...]:
        """The rows on which the new model is worse by more than the tolerance; an undefined
        difference says nothing."""
        least = -self.tolerance - _SLACK
        return tuple(n for n, c in self.compared.items() if c.gain is not None and c.gain < least)

    @property
    def passed(self) -> bool:
        """Whether the new model is not worse: on no set of rows, and known of one at least."""
        return not self.worse and any(c.gain is not None for c in self.compared.values())

    def to_json(self) -> dict[str, Any]:
        """The object of `comparison.json`."""
        return {
            "old": self.run,
            "started_from": "the old run: its backbone, head and what its method added",
            "method": self.method,
            "rows": self.rows,
            "compared": {name: found.to_json() for name, found in self.compared.items()},
            "draws": DRAWS,
            "rule": "on each set of rows the gain is at least -tolerance",
            "tolerance": self.tolerance,
            "passed": self.passed,
            "worse": list(self.worse),
            "exported": self.exported,
            "label": self.label,
        }


def retrain(
    run: str | os.PathLike,
    add: Any,
    out: str | os.PathLike,
    *,
    held_out: Any = None,
    overrides: Sequence[str] = (),
    export: str | os.PathLike | None = None,
    label: str | None = None,
    tolerance: float = 0.0,
    share: float = 0.2,
    resume: bool = False,
    verbose: Any = "auto",
) -> Retrained:
    """Train on from a finished run, with its old rows and new ones, and compare before and after.

    The new run starts from the old one's weights (with an adapter: base, adapter and head), by
    the old recipe. Old rows stay in their parts. Of the added rows a share is held out, and as much
    becomes validation rows as of the old ones; those that stand among held-out rows are not
    trained on, and an old training row with the text of an added one makes room for it. Both
    models are then scored on the old test rows (validation rows where there is no test), on the
    rows of `held_out`, and on the new rows that were held out. The new model passes if on none of
    these its score is lower by more than `tolerance`; only then it is exported.

    Args:
        run: the folder of the old run.
        add: labelled rows with the columns of the old ones, anything that `open_source` takes.
        out: the folder of the new run; its rows lie in `out/data`, so that it can be retrained too.
        held_out: further labelled rows to compare on, none of which is trained on.
        overrides: `section.key=value` for the recipe; `data.train=FILE` says where the old rows lie
            now.
        export: `saved_models/NAME`, for the next version.
        label: a label for that version (see `kerasft versions`).
        tolerance: by how much the score may fall on any set of rows, at least 0.
        share: of the added rows, held out, 0 to 0.9.
        resume: go on from the last checkpoint in `out`.
        verbose: Keras' progress: "auto", 0, 1 or 2.

    Returns:
        `Retrained`: `.passed`, `.compared`, `.exported`, `.pipe`; `out/comparison.json` holds it.

    Raises:
        InputError: if the old rows are gone or changed, or the added ones wrong; before anything
            is written.
        Interrupted: as `train`.

    Example:
        >>> retrain("runs/spam", "labelled.jsonl", "runs/spam-2", export="saved_models/spam").passed
    """
    stack.ensure()
    run, folder = os.fspath(run), os.fspath(out)
    in_range("tolerance", tolerance, 0)
    in_range("share", share, 0, 0.9)
    _check_export(export, label)
    before, recipe = _recipes(run, overrides)
    store = Store(files.join(folder, "checkpoints"), recipe.training.keep)
    names = files.names(folder)
    # What was stopped after its training has the comparison left.
    trained = resume and "metrics.json" in names and NAME not in names
    if not trained:
        check_folder(folder, store, resume, keeps=True)
    old = Pipeline.load(run)
    rows = gather(run, old, _data_of(run, recipe), before.seed, add, held_out, share)
    # Before the training, so that there is one model in memory at a time.
    answered = {name: old.collected(source) for name, source in rows.compared.items()}
    del old
    plan, place = _plan(run, recipe, rows, folder), files.join(folder, DATA)
    with standing(folder, store, keeps=True):
        rows.check_written(place) if resume else rows.write(place)
        new = None if trained else train_into(folder, plan, store, resume, True, verbose)
    new = Pipeline.load(folder) if new is None else new
    compared = {
        name: compare(answered[name], new.collected(source), DRAWS, plan.seed)
        for name, source in rows.compared.items()
    }
    found = Retrained(run, new, compared, tolerance, rows.counts, recipe.method["name"])
    files.write_json(files.join(folder, NAME), found.to_json())
    if export is not None and found.passed:
        found = _exported(found, os.fspath(export), label, folder)
        files.write_json(files.join(folder, NAME), found.to_json())
    return found


def _check_export(export: Any, label: str | None) -> None:
    """Raise for wrong names now, and not after hours of training."""
    if export is not None:
        name_of_model(os.path.basename(os.path.abspath(os.fspath(export))))
    if label is not None:
        name_of_label(label)
        if export is None:
            raise InputError(
                f"A label is put on a version that is exported. Received: label={label!r} and no "
                "export. Give saved_models/NAME."
            )


def _recipes(run: str, overrides: Sequence[str]) -> tuple[Recipe, Recipe]:
    """The recipe of a finished run as it was, and with what is set anew."""
    path = files.join(run, "recipe.yaml")
    if not files.exists(path) or saved_folder(run) is None:
        raise InputError(
            "A run is retrained from the folder that `kerasft train` wrote and finished: "
            f"recipe.yaml, model, data. Received: {run}."
        )
    before, now = Recipe.load(path), Recipe.load(path, *overrides)
    changed = [name for name in _KEPT if getattr(before, name) != getattr(now, name)]
    if changed:
        raise InputError(
            f"A retraining goes on with the {changed[0]} of its run. Received another "
            f"`{changed[0]}`. For that, train anew: kerasft train, with the run as preset."
        )
    return before, now


def _data_of(run: str, recipe: Recipe) -> Recipe:
    """The recipe with the rows that a retraining left in its own folder, wherever that lies now."""
    moved = []
    for part in ("train", "validation", "test"):
        place, said = files.join(run, DATA, f"{part}.jsonl"), getattr(recipe.data, part)
        if isinstance(said, str) and said.endswith(f"/{DATA}/{part}.jsonl") and files.exists(place):
            moved.append(f"data.{part}={json.dumps(place)}")
    return recipe.replace(*moved)


def _plan(run: str, recipe: Recipe, rows: Rows, folder: str) -> Recipe:
    """The recipe of the new run."""
    changes = [f"start={json.dumps(run)}"]
    for part in ("train", "validation", "test"):
        path = files.join(folder, DATA, f"{part}.jsonl") if part in rows.parts else None
        changes.append(f"data.{part}={json.dumps(path)}")
    return recipe.replace(*changes)


def _exported(found: Retrained, export: str, label: str | None, folder: str) -> Retrained:
    """The next version, and its label where a server takes it at once."""
    path = found.pipe.export(export, run=folder)
    if label is None:
        return dataclasses.replace(found, exported=path)
    number = int(path.rpartition("/")[2])
    if any(label in version.labels for version in versions.versions(export)):
        # TF Serving refuses a label that moves to a version which is not loaded yet.
        versions.load(export, number)
        return dataclasses.replace(found, exported=path, waits=label)
    versions.label(export, label, number)
    return dataclasses.replace(found, exported=path, label=label)
