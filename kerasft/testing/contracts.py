"""The contract suites: plain functions that raise `AssertionError` with what does not hold."""

from kerasft.testing._families import FAMILY_PARTS, check_family
from kerasft.testing._methods import METHOD_PARTS, REFUSALS, Refusal, check_method
from kerasft.testing._objectives import OBJECTIVE_PARTS, check_objective
from kerasft.testing._tasks import TASK_PARTS, check_task

__all__ = [
    "FAMILY_PARTS",
    "METHOD_PARTS",
    "OBJECTIVE_PARTS",
    "REFUSALS",
    "TASK_PARTS",
    "Refusal",
    "check_family",
    "check_method",
    "check_objective",
    "check_task",
]
