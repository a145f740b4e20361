"""Checkpoints that resume bit for bit: weights, optimizer, random states, metrics, position."""

import re
from typing import Any

import numpy as np

from kerasft._core import files, weights
from kerasft._core.errors import DivergedError, InputError

_NAME = re.compile(r"step-(\d{9})\.safetensors")


class Store:
    """The checkpoints of a run, each one file that is whole or absent.

    Args:
        folder: where they lie.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: str, keep: int = 1):
        self.folder, self.keep = folder, keep

    def save(self, fitted: Any, step: int, notes: dict[str, Any]) -> str:
        """Write everything that decides the next step; returns the path.

        Raises:
            DivergedError: if a weight is no number; the checkpoints there are stay.
        """
        arrays = {key: np.asarray(variable) for key, variable in _everything(fitted).items()}
        _check_finite(arrays)
        path = files.join(self.folder, f"step-{step:09d}.safetensors")
        files.write_bytes(path, weights.to_bytes(arrays, notes))
        for old in self.steps()[: -self.keep]:
            files.remove(files.join(self.folder, f"step-{old:09d}.safetensors"))
        for name in files.names(self.folder):
            if name.endswith(".tmp"):  # left by a process that was killed while it wrote
                files.remove(files.join(self.folder, name))
        return path

    def steps(self) -> list[int]:
        """Steps at which there is a checkpoint, oldest first."""
        found = (_NAME.fullmatch(name) for name in files.names(self.folder))
        return sorted(int(match[1]) for match in found if match)

    def newest(self) -> str:
        """Path of the newest checkpoint; `InputError` if there is none."""
        steps = self.steps()
        if not steps:
            raise InputError(
                f"There is no checkpoint in {self.folder} to go on from. "
                "Train without --resume, into a new folder."
            )
        return files.join(self.folder, f"step-{steps[-1]:09d}.safetensors")

    def restore(self, fitted: Any, path: str) -> dict[str, np.ndarray]:
        """Set weights, optimizer and random states; returns the metrics, for `set_metrics`."""
        arrays, _ = weights.read(path)
        variables = _everything(fitted)
        if {k: v.shape for k, v in arrays.items()} != {
            k: tuple(v.shape) for k, v in variables.items()
        }:
            raise InputError(
                f"{path} belongs to another model or recipe: its variables differ. "
                "Resume with the recipe that began the run."
            )
        for key, variable in variables.items():
            variable.assign(arrays[key])
        return {k: v for k, v in arrays.items() if k.startswith("metric.")}

    # --- best weights ---------------------------------------------------------------------------

    @property
    def best_path(self) -> str:
        """Where the best weights lie."""
        return files.join(self.folder, "best.safetensors")

    def save_best(self, model: Any) -> None:
        """Keep the weights of the best epoch so far."""
        files.write_bytes(self.best_path, weights.to_bytes(weights.state_of(model)))

    def load_best(self, model: Any) -> bool:
        """Set the best weights; False if none were kept."""
        if not files.exists(self.best_path):
            return False
        arrays, _ = weights.read(self.best_path)
        weights.assign(model, arrays, self.best_path)
        return True


def _check_finite(arrays: dict[str, np.ndarray]) -> None:
    for key, values in arrays.items():
        if key.startswith("model.") and not np.isfinite(values).all():
            raise DivergedError(
                "A weight became NaN or infinite, so training stopped. Lower "
                "training.learning_rate, or check the data; float32 is safer than mixed_float16."
            )


def set_metrics(fitted: Any, arrays: dict[str, np.ndarray]) -> None:
    """Set the running metrics of an epoch that was interrupted."""
    for key, variable in _everything(fitted).items():
        if key in arrays:
            variable.assign(arrays[key])


def _everything(fitted: Any) -> dict[str, Any]:
    """Every variable that decides what comes next, by kind and place in the structure.

    Places, not paths: Keras numbers random generators over the whole process, so their names
    differ from one process to the next.
    """
    groups = {
        "model": fitted.model.variables,
        "optimizer": fitted.optimizer.variables,
        "metric": fitted.running,
    }
    return {
        f"{kind}.{place:05d}": variable
        for kind, variables in groups.items()
        for place, variable in enumerate(variables)
    }
