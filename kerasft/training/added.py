"""The rows of a retraining: those of the old run, where they were, and new ones beside them."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.data import DataSpec, Source, check_labels, make_splits, open_source, take, text_keys
from kerasft.training.prepare import data_spec
from kerasft.training.recipe import Recipe

DATA, RECORD = "data", "rows.json"
_OUT, _IN = 0, 1
_PARTS = ("train", "validation", "test")
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "answers": lambda found: [{"text": text, "answer_start": start} for start, text in found],
    "messages": lambda found: [{"role": role, "content": said} for role, said in found],
}


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows that a run is trained on and compared with.

    Args:
        parts: part of the new run -> the sources whose rows it has, the old ones first.
        compared: what the rows are -> rows that neither model has learned.
        held: the parts of the new run that no later retraining may train on, and compares with.
        counts: `added` rows; of these `train`, `validation`, `held_out`, and `leaks`, which stand
            among held-out rows and were left out; `replaced` old rows, whose text an added row
            has; `seen` rows of the held-out file that were trained on, and were left out.
    """

    parts: dict[str, list[Source]]
    compared: dict[str, Source]
    held: tuple[str, ...]
    counts: dict[str, int]

    def write(self, folder: str | os.PathLike) -> None:
        """Write each part as JSON lines into a new folder, and beside them what they are."""
        with files.new_folder(folder) as local:
            for part in self.parts:
                with open(local / f"{part}.jsonl", "wb") as file:
                    file.writelines(self._lines(part))
            files.write_json(local / RECORD, self.record())

    def check_written(self, folder: str | os.PathLike) -> None:
        """Raise `InputError` unless a folder holds these very rows."""
        path = files.join(folder, RECORD)
        if not files.exists(path) or files.read_json(path) != self.record():
            raise InputError(
                f"The rows in {os.fspath(folder)} are not those that the run and the added file "
                "give now, so this run cannot be resumed. Bring them back, or give a new folder."
            )

    def record(self) -> dict[str, Any]:
        """What `rows.json` holds."""
        return {"held": list(self.held), "counts": self.counts, "sha256": self._digests()}

    def _digests(self) -> dict[str, str]:
        found = {}
        for part in self.parts:
            digest = hashlib.sha256()
            for line in self._lines(part):
                digest.update(line)
            found[part] = digest.hexdigest()
        return found

    def _lines(self, part: str) -> Iterator[bytes]:
        for source in self.parts[part]:
            # Rows without their answer are left out again when they are read.
            source = source.every_row()
            names = {f: source.columns.get(f, f) for f in source.fields}
            plain = {f: _PLAIN.get(kind, lambda v: v) for f, kind in source.fields.items()}
            for chunk in source.chunks():
                for i in range(len(next(iter(chunk.values())))):
                    row = {names[f]: plain[f](values[i]) for f, values in chunk.items()}
                    yield (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8")


def gather(
    run: str, pipe: Any, recipe: Recipe, seed: int, add: Any, held_out: Any, share: float
) -> Rows:
    """Find the old rows in their parts, and give each added row one.

    Args:
        run: the folder of the old run.
        pipe: its pipeline.
        recipe: its recipe, with the places where its data lie now.
        seed: the seed that split them.
        add: labelled rows; anything that `open_source` takes.
        held_out: further rows to compare the models on, or None.
        share: of the added rows, to be held out.

    Returns:
        `Rows`.

    Raises:
        InputError: if the old data are gone or have changed, a row is wrong, or has a label that
            the model does not know.
    """
    task, old = pipe.task, _old(run, pipe, recipe, seed)
    spec = data_spec(recipe.data)

    def opened(data: Any) -> Source:
        options = {"separator": spec.separator, "broken": spec.broken, "missing": spec.missing}
        source = open_source(data, task.fields(), spec.columns, **options)
        if task.labelled:
            _check_labels(source, task.labels)
        return source

    added, own = opened(add), None if held_out is None else opened(held_out)
    keys = {part: text_keys(source) for part, source in old.items()}
    new = text_keys(added)
    held_keys = [keys[part] for part in old if part != "train"]
    compared, seen = {}, 0
    if own is not None:
        own_keys = text_keys(own)
        learned = np.isin(own_keys, keys["train"])
        seen = int(learned.sum())
        if learned.all():
            raise InputError(
                f"Held-out rows are rows that the run has not learned. Received: {own.name}, all "
                f"of whose rows stand in {old['train'].name}."
            )
        compared[own.name] = take(own, learned, 0)
        held_keys.append(own_keys)
    leaks = np.isin(new, np.concatenate(held_keys)) if held_keys else np.zeros(len(new), bool)
    known = np.isin(new, keys["train"]) & ~leaks
    fresh = ~(known | leaks)
    given = _shared_out(take(added, fresh, _IN), old, spec, seed, share) if fresh.any() else {}
    given.setdefault("train", []).extend([take(added, known, _IN)] if known.any() else [])
    if not given["train"]:
        raise InputError(
            f"{added.name} has no row to learn from: all {len(new)} stand among the held-out rows, "
            "and are not trained on. Label other rows."
        )
    replaced = np.isin(keys["train"], new[~leaks])
    if replaced.all():
        del old["train"]
    elif replaced.any():
        old["train"] = take(old["train"], replaced, _OUT)
    held = _held(run, old)
    compared = {f"old {part} rows": old[part] for part in held} | compared
    if "test" in given:
        compared["held-out new rows"] = given["test"][0]
        held = tuple(dict.fromkeys((*held, "test")))
    if not compared:
        raise InputError(
            f"There are no held-out rows to compare the models on: {run} has none, and none of the "
            "added rows are held out. Give --held-out FILE, or a --share above 0."
        )
    counts = {"added": len(new)}
    counts |= {p: sum(map(len, given.get(p, ()))) for p in _PARTS}
    counts |= {"leaks": int(leaks.sum()), "replaced": int(replaced.sum()), "seen": seen}
    counts["held_out"] = counts.pop("test")
    parts = {p: [*([old[p]] if p in old else []), *given.get(p, ())] for p in _PARTS}
    return Rows({p: sources for p, sources in parts.items() if sources}, compared, held, counts)


def _old(run: str, pipe: Any, recipe: Recipe, seed: int) -> dict[str, Source]:
    """The parts of the old run, split as they were."""
    try:
        sources, split = make_splits(data_spec(recipe.data), pipe.task.fields(), seed)
    except InputError as error:
        raise InputError(
            f"Retraining goes on with the old rows too, and those of {run} cannot be read: {error} "
            "If they lie elsewhere now, say data.train=FILE (and data.validation, data.test)."
        ) from None
    # The names of the files may be others by now, not what is in them.
    now, then = (
        {name: value for name, value in record.items() if name != "sources"}
        for record in (split.to_json(), files.read_json(files.join(run, "split.json")))
    )
    if now != then:
        raise InputError(
            f"The data of {run} have changed since it was trained (see its split.json), so its "
            "held-out rows are not known any more. Bring them back, or train anew on all rows with "
            "`kerasft train`."
        )
    return dict(sources)


def _held(run: str, old: dict[str, Source]) -> tuple[str, ...]:
    """The parts that the models are compared on: those that the last retraining held out, or test,
    or validation where there is no test."""
    path = files.join(run, DATA, RECORD)
    if files.exists(path):
        return tuple(part for part in files.read_json(path)["held"] if part in old)
    return next(((part,) for part in ("test", "validation") if part in old), ())


def _shared_out(
    fresh: Source, old: dict[str, Source], spec: DataSpec, seed: int, share: float
) -> dict[str, list[Source]]:
    """New rows in parts: some held out, and a validation part as large as that of the old rows."""
    validation = 0.0
    if "validation" in old:
        validation = len(old["validation"]) / (len(old["validation"]) + len(old["train"]))
    validation *= 1 - share
    # A handful of rows is for learning.
    shares = {"validation": validation if validation * len(fresh) >= 1 else 0.0, "test": share}
    wanted = dataclasses.replace(spec, train=fresh, **shares)
    sources, _ = make_splits(wanted, fresh.fields, seed)
    return {part: [source] for part, source in sources.items()}


def _check_labels(source: Source, labels: Any) -> None:
    try:
        check_labels(source, labels)
    except InputError as error:
        raise InputError(
            f"{error} A model keeps its labels when it is retrained: correct the row, or train "
            "anew on all rows with `kerasft train`."
        ) from None
