"""Level 1: optimizers and learning-rate schedules."""

from kerasft.optimizers.adamw import adamw
from kerasft.optimizers.schedules import SCHEDULES, WarmupDecay

__all__ = ["SCHEDULES", "WarmupDecay", "adamw"]
