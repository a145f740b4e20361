"""`train`: a recipe in, a pipeline out."""

import contextlib
import hashlib
import os
import tempfile
import time
from typing import Any

import numpy as np

from kerasft._core import files, stack, weights
from kerasft._core.errors import KerasftError
from kerasft._core.seeds import set_seed
from kerasft.backbones import template_of
from kerasft.backbones.crossing import input_names
from kerasft.data import Feed, draw_of, encode_rows, encoder, feed_of
from kerasft.export.profile import NAME, Reference, reference_of
from kerasft.methods import is_record, watch_of
from kerasft.optimizers import WarmupDecay, adamw
from kerasft.pipeline import Pipeline
from kerasft.training.callbacks.checkpoints import Store
from kerasft.training.callbacks.interrupt import Interrupt
from kerasft.training.callbacks.progress import Progress
from kerasft.training.paces import run_paces
from kerasft.training.prepare import Prepared, build_model, monitor_of, prepare_data
from kerasft.training.recipe import Recipe
from kerasft.training.resume import check_folder, check_same_run, standing


def train(
    recipe: Recipe,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    verbose: Any = "auto",
) -> Pipeline:
    """Fine-tune what a recipe says.

    Args:
        recipe: the recipe.
        out: the run folder: recipe.yaml, model, metrics.json, history.csv, report, plots,
            checkpoints. Nothing is kept but the pipeline when None.
        resume: go on from the last checkpoint in `out`.
        verbose: Keras' progress: "auto", 0, 1 or 2.

    Returns:
        `Pipeline` with the best weights; its `.report` holds the scores before and after.

    Raises:
        InputError: for wrong data or a wrong recipe, before anything is written.
        Interrupted: after SIGTERM or Ctrl-C; the last checkpoint stands.
        DivergedError: if the loss became NaN.

    Example:
        >>> pipe = train(Recipe(preset="bert_tiny", data={"train": "spam.csv"}), out="runs/spam")
    """
    stack.ensure()
    with contextlib.ExitStack() as context:
        folder = os.fspath(out) if out is not None else context.enter_context(_temporary())
        store = Store(files.join(folder, "checkpoints"), recipe.training.keep)
        keeps = out is not None
        check_folder(folder, store, resume, keeps)
        return train_into(folder, recipe, store, resume, keeps, verbose)


def train_into(
    folder: str, recipe: Recipe, store: Store, resume: bool, keeps: bool, verbose: Any
) -> Pipeline:
    """`train` in a folder that has been looked at (`check_folder`)."""
    set_seed(recipe.seed)
    prepared = prepare_data(recipe)
    if resume:
        check_same_run(recipe, prepared.split, folder)
    with standing(folder, store, keeps):
        run = Run(prepared, store, folder, verbose)
        run.build()
        run.fit(resume)
        return run.finish(save=keeps)


def _temporary() -> Any:
    return tempfile.TemporaryDirectory(prefix="kerasft-run-")


class Run:
    """The steps of one training, in order: `build`, `fit`, `finish`."""

    def __init__(self, prepared: Prepared, store: Store, folder: str, verbose: Any):
        self.prepared, self.store, self.folder, self.verbose = prepared, store, folder, verbose
        self.recipe, self.task = prepared.recipe, prepared.task
        self.settings = self.recipe.training

    def build(self) -> None:
        """Load the backbone and encode the rows."""
        from kerasft.training.fitted import compiled
        from kerasft.training.kept import kept_of
        from kerasft.training.strategy import dtype_for, strategy_for

        self.strategy = strategy_for(self.recipe.strategy)
        with self.strategy.scope():
            self.dtype = dtype_for(self.settings.precision)
            model, tokenizer = build_model(self.prepared, self.dtype)
            data = self.recipe.data
            info = {
                "columns": dict(data.columns),
                "separator": data.separator,
                "preset": self.recipe.preset,
            }
            self.pipe = Pipeline(model, tokenizer, self.task, info)
            # What is fitted may read its rows in another form (packed); its weights are the same.
            fitted = self.task.trained(model) if hasattr(self.task, "trained") else model
            self.kept = kept_of(fitted) if self.settings.reuse_frozen else None
            fitted = self.kept.model if self.kept else fitted
            self.inputs = input_names(fitted)
            self.frozen = _frozen(model)
            self.feeds = {
                part: self._feed(part)
                for part in ("train", "validation")
                if part in self.prepared.sources
            }
            steps = self.feeds["train"].plan.steps * self.settings.epochs
            backbone = model.get_layer("backbone").backbone
            watch = watch_of(self.recipe.method_value(), backbone, steps)
            optimizer = self._optimizer(model, fitted, steps)
            self.fitted = compiled(
                fitted,
                self.task,
                optimizer,
                watch=watch,
                parts=self.settings.gradient_accumulation,
            )

    def _feed(self, part: str) -> Feed:
        pipe, source = self.pipe, self.prepared.sources[part]
        task, pad = self.task, template_of(pipe.tokenizer).pad
        encode = encoder(task, pipe.tokenizer, task.reads)
        rows = encode_rows(source.chunks(), encode, task, keep=pipe.inputs, pad=pad)
        return feed_of(
            task,
            self.kept.rows(rows) if self.kept else rows,
            self.inputs,
            self.settings.batch_size,
            self.recipe.seed,
            shuffle=part == "train",
            length=pipe.fixed_length,
            draw=draw_of(task, pipe.tokenizer),
        )

    def _optimizer(self, model: Any, fitted: Any, steps: int) -> Any:
        settings = self.settings
        rate = WarmupDecay(
            self.recipe.learning_rate(), steps, round(steps * settings.warmup), settings.schedule
        )
        made = adamw(
            rate,
            model,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            paces=run_paces(self.prepared, model, fitted),
            steps_per_epoch=self.feeds["train"].plan.steps,
        )
        if self.dtype != "mixed_float16":
            return made
        import keras

        # Keras adds this only where the outer model itself is of that policy: without it small
        # gradients vanish in float16.
        return keras.optimizers.LossScaleOptimizer(made)

    # --- fit ------------------------------------------------------------------------------------

    def fit(self, resume: bool) -> None:
        """Train, from the beginning or from the last checkpoint."""
        from kerasft.training.callbacks.keeper import Keeper

        steps, settings = self.feeds["train"].plan.steps, self.settings
        self.progress, start, metrics = self._resumed() if resume else self._fresh()
        with Interrupt() as interrupt:
            keeper = Keeper(
                self.store,
                steps,
                self.progress,
                interrupt,
                start=start,
                history_path=files.join(self.folder, "history.csv"),
                every_steps=settings.checkpoint_steps,
                every_minutes=settings.checkpoint_minutes,
                metrics=metrics,
            )
            started = time.monotonic()
            epoch, step = start
            if step:  # the rest of an interrupted epoch has fewer steps, so it is a fit of its own
                self._fit(keeper, epoch, step, epoch + 1, steps - step)
                epoch += 1
            if epoch < settings.epochs and not self.progress.exhausted:
                self._fit(keeper, epoch, 0, settings.epochs, steps)
            self.progress.seconds += time.monotonic() - started
        moved = [v.path for v, before in self.frozen if _digest(v) != before]
        if moved:
            raise KerasftError(f"{len(moved)} frozen weights moved in training, first {moved[0]}.")

    def _fit(self, keeper: Any, epoch: int, step: int, epochs: int, steps: int) -> None:
        held_out = self.feeds.get("validation")
        self.fitted.fit(
            self.feeds["train"].endless(epoch, step),
            validation_data=held_out.once() if held_out else None,
            initial_epoch=epoch,
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=[keeper, *self._more_callbacks()],
            shuffle=False,
            verbose=self.verbose,
        )

    def _fresh(self) -> tuple[Progress, tuple[int, int], dict]:
        """A new run: its recipe and split are written before the first step."""
        progress = Progress(monitor_of(self.prepared), self.settings.early_stopping)
        if self.prepared.scored != "train":
            progress.before = self._score().after
        self.recipe.save(files.join(self.folder, "recipe.yaml"))
        split = self.prepared.split
        files.write_json(files.join(self.folder, "split.json"), split.to_json())
        files.write_text(files.join(self.folder, "split.csv"), split.to_csv())
        return progress, (0, 0), {}

    def _resumed(self) -> tuple[Progress, tuple[int, int], dict]:
        """Progress, position and running metrics of the last checkpoint."""
        path = self.store.newest()
        _, notes = weights.read(path)
        running = self.store.restore(self.fitted, path)
        metrics = running if notes["step"] else {}  # a new epoch begins from zero
        return Progress(**notes["progress"]), (notes["epoch"], notes["step"]), metrics

    def _more_callbacks(self) -> list[Any]:
        import keras

        if not self.settings.tensorboard:
            return []
        return [keras.callbacks.TensorBoard(files.join(self.folder, "logs"), write_graph=False)]

    # --- finish ---------------------------------------------------------------------------------

    def finish(self, save: bool) -> Pipeline:
        """Take the best weights, score them, and write model and report."""
        self.store.load_best(self.pipe.model)
        if "validation" in self.feeds:
            rows = self.prepared.sources["validation"]
            self._tune(rows)
        report = self._score(
            before=self.progress.before,
            history=self.progress.rows,
            fit_seconds=self.progress.seconds,
            extra=self._facts(),
        )
        self.pipe.report = report
        if save:
            # A run that was killed while it wrote the model is resumed into the same place.
            files.remove_tree(files.join(self.folder, "model"))
            self.pipe.save(files.join(self.folder, "model"))
            report.save(self.folder)
            self._profile().save(files.join(self.folder, NAME))
        return self.pipe

    def _profile(self) -> Reference:
        """What a monitor of the served model compares with."""
        part, sources = self.prepared.scored, self.prepared.sources
        held_out = None if part == "train" else sources[part]
        return reference_of(self.pipe, sources["train"], held_out, part)

    def _tune(self, rows: Any) -> None:
        if not self.task.tunable:
            return
        truth, scores, task = [], [], self.task.untuned
        for fields in rows.chunks():
            features = self.pipe.encode(fields)
            truth += list(task.truth(fields))
            scores += list(task.scores(self.pipe.outputs(features), features))
        self.pipe.task = self.task = self.task.tuned(truth, scores)

    def _score(self, **facts: Any) -> Any:
        part = self.prepared.scored
        return self.pipe.evaluate(self.prepared.sources[part], split=part, **facts)

    def _facts(self) -> dict[str, Any]:
        model = self.pipe.model
        return {
            "preset": self.recipe.preset,
            "method": self.recipe.method,
            "start": self.recipe.start,
            "seed": self.recipe.seed,
            "data": {n: dict(s.notes) for n, s in self.prepared.sources.items() if s.notes},
            "best_epoch": self.progress.best_epoch,
            "parameters": int(sum(_size(v) for v in model.weights)),
            "trainable_parameters": int(sum(_size(v) for v in model.trainable_weights)),
            "versions": stack.versions(),
        }


def _size(variable: Any) -> int:
    return int(np.prod(variable.shape))


def _frozen(model: Any) -> list[tuple[Any, bytes]]:
    """Frozen weights and digests of their values, to be compared after training."""
    return [(v, _digest(v)) for v in model.weights if not v.trainable and not is_record(v)]


def _digest(variable: Any) -> bytes:
    return hashlib.blake2b(np.asarray(variable).tobytes(), digest_size=16).digest()
