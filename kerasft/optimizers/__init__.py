"""Level 1: optimizers and learning-rate schedules."""

from kerasft.optimizers.adamw import adamw
from kerasft.optimizers.paced import Pace, PacedAdamW
from kerasft.optimizers.schedules import SCHEDULES, WarmupDecay

__all__ = ["SCHEDULES", "Pace", "PacedAdamW", "WarmupDecay", "adamw"]
