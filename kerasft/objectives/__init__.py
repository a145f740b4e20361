"""Level 3: objectives, one a file: training signals added to the task's loss.

An objective is a frozen dataclass with a `name`, a `weight`, and

    bind(model) -> objective      what it needs of the model, e.g. a frozen copy
    __call__(forward, x, y, y_pred) -> float [batch]      one value a row

Weighting by rows and division by replicas happen once, in `training/fitted.py`.
"""

from kerasft._core.registry import Registry

registry = Registry("objective", "kerasft.objectives")
