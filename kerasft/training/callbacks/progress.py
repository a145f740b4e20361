"""What a run has reached, as plain JSON, so that it goes on as if it had never stopped."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Progress:
    """History, best epoch and patience of a run.

    Args:
        monitor: the column of the history that decides.
        patience: epochs without improvement before training stops, or None.
        rows: one mapping an epoch.
        best: the best value so far and its epoch.
        seconds: time spent in `fit` so far.
        before: the scores before fine-tuning.
    """

    monitor: str
    patience: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    before: dict[str, Any] | None = None

    def add(self, row: dict[str, Any]) -> bool:
        """Add an epoch; True if it is the best so far."""
        self.rows.append(row)
        value = row.get(self.monitor)
        if value is None or not math.isfinite(value):
            return False
        sign = 1.0 if lower_is_better(self.monitor) else -1.0
        if self.best is not None and sign * value >= sign * self.best:
            return False
        self.best, self.best_epoch = value, row["epoch"]
        return True

    @property
    def exhausted(self) -> bool:
        """Whether patience is used up."""
        if self.patience is None or self.best_epoch is None:
            return False
        return self.rows[-1]["epoch"] - self.best_epoch >= self.patience

    def to_json(self) -> dict[str, Any]:
        """A mapping from which `Progress(**mapping)` is made again."""
        return asdict(self)


def lower_is_better(column: str) -> bool:
    """Whether a column of the history is to fall (losses and errors) or to rise."""
    name = column.removeprefix("val_")
    return "loss" in name or name in ("mae", "mse", "perplexity")
