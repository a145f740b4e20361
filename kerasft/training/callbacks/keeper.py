"""The callback that keeps history and checkpoints, and stops in time."""

import math
import time

import keras
import numpy as np

from kerasft._core.errors import DivergedError, Interrupted
from kerasft.evaluation import history
from kerasft.training.callbacks.checkpoints import Store, set_metrics
from kerasft.training.callbacks.interrupt import Interrupt
from kerasft.training.callbacks.progress import Progress


class Keeper(keras.callbacks.Callback):
    """Keep a run safe while it trains.

    Args:
        store: where checkpoints go.
        steps: batches in an epoch.
        progress: history and best epoch so far.
        interrupt: set by a signal.
        start: epoch and step at which training begins.
        history_path: where history.csv goes.
        every_steps, every_minutes: when to write a checkpoint in mid-epoch, or None.
        metrics: running metrics of the epoch that was interrupted.
    """

    def __init__(
        self,
        store: Store,
        steps: int,
        progress: Progress,
        interrupt: Interrupt,
        *,
        history_path: str,
        start: tuple[int, int] = (0, 0),
        every_steps: int | None = None,
        every_minutes: float | None = None,
        metrics: dict[str, np.ndarray] | None = None,
    ):
        super().__init__()
        self.store, self.steps, self.progress, self.interrupt = store, steps, progress, interrupt
        self.history_path, self.metrics = history_path, metrics or {}
        self.every_steps, self.every_seconds = every_steps, (every_minutes or math.inf) * 60
        self.epoch, self.step = start
        self.saved_at = self.started_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Begin an epoch; the first after a resume begins in its middle."""
        self.step = self.step if epoch == self.epoch else 0
        self.epoch = epoch
        set_metrics(self.model, self.metrics)
        self.metrics = {}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Check the loss, and write a checkpoint where one is due."""
        self.step += 1
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise DivergedError(
                f"The loss became {loss} in step {self.step} of epoch {self.epoch + 1}, so "
                "training stopped. Lower training.learning_rate, or check the data; float32 is "
                "safer than mixed_float16."
            )
        if self.step == self.steps:
            return  # the end of the epoch follows, with a checkpoint of its own
        by_step = self.every_steps and self.step % self.every_steps == 0
        by_time = time.monotonic() - self.saved_at >= self.every_seconds
        wanted = self.interrupt.wanted  # read once: a signal may come at any time
        if by_step or by_time or wanted:
            self.save(self.epoch, self.step)
        self.stop_if(wanted)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Add the epoch to the history, keep the best weights, write a checkpoint."""
        row = {"epoch": epoch + 1} | {k: float(v) for k, v in (logs or {}).items()}
        if self.progress.add(row):
            self.store.save_best(self.model.model)
        history.write(self.history_path, self.progress.rows)
        wanted = self.interrupt.wanted
        self.save(epoch + 1, 0)
        self.stop_if(wanted)
        if self.progress.exhausted:
            self.model.stop_training = True

    def save(self, epoch: int, step: int) -> None:
        """Write a checkpoint that begins at this batch."""
        now = time.monotonic()
        spent = self.progress.seconds + now - self.started_at
        notes = {
            "epoch": epoch,
            "step": step,
            "progress": self.progress.to_json() | {"seconds": spent},
        }
        self.store.save(self.model, epoch * self.steps + step, notes)
        self.saved_at = time.monotonic()

    def stop_if(self, wanted: str | None) -> None:
        """Raise `Interrupted` for a signal that came before the checkpoint was written."""
        if wanted:
            raise Interrupted(
                f"Stopped by {wanted}. The checkpoint in {self.store.folder} "
                "stands; run the same command with --resume to go on."
            )
