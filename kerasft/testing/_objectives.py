"""The contract of an objective, part by part."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft.objectives import registry
from kerasft.pipeline import Pipeline
from kerasft.testing import _rig, tiny
from kerasft.testing._compare import close, equal, same, same_names
from kerasft.training.fitted import compiled

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)


@dataclass
class Case:
    """One objective on one family, with the method whose weights move."""

    objective: Any
    family: Any
    method: Any
    deterministic: bool

    def pipe(self) -> Pipeline:
        """A pipeline, always with the same weights."""
        made = _rig.pipeline(self.family, self.method)
        tiny.randomize(made.model, seed=2, scale=0.15)
        return made


def check_objective(
    objective: Any,
    family: Any = "bert",
    *,
    method: Any = "full",
    deterministic: bool = True,
    parts: Iterable[str] | None = None,
) -> dict[str, str]:
    """Hold an objective to its contract on a tiny backbone of one family.

    Args:
        objective: an objective that is registered (`kerasft.objectives.registry`).
        family: the family's name, or its row of `FAMILIES`.
        method: the method with which the backbone is trained.
        deterministic: whether two calls on one batch give the same; else what compares two calls
            is left out.
        parts: names of `OBJECTIVE_PARTS`; all when None.

    Returns:
        Part -> "passed", or why there was nothing to check.

    Raises:
        AssertionError: says what does not hold.

    Example:
        >>> check_objective(MyObjective(weight=0.5))["weight"]
        'passed'
    """
    case = Case(objective, tiny.family(family), method, deterministic)
    wanted = OBJECTIVE_PARTS if parts is None else tuple(parts)
    return {name: OBJECTIVE_PARTS[name](case) or "passed" for name in wanted}


def _config(case: Case) -> None:
    config = json.loads(json.dumps(registry.config(case.objective)))
    equal(registry.build(config), case.objective, "the objective built from its configuration")
    equal(isinstance(case.objective.weight, (int, float)), True, "the weight is a number")


def _rows(case: Case) -> None:
    pipe = case.pipe()
    before = sorted(v.path for v in pipe.model.weights)
    fitted, x, y = _fitted(pipe, (case.objective,))
    y_pred = fitted(x, training=True)
    values = np.asarray(fitted.objectives[0](fitted, x, y, y_pred))
    equal(values.shape, (len(y),), "the shape of the objective's values: one a row")
    equal(bool(np.isfinite(values).all()), True, "finite values")
    same_names([v.path for v in pipe.model.weights], before, "the model's weights")


def _weight(case: Case) -> str | None:
    if not case.deterministic:
        return "two calls on one batch differ"
    pipe = case.pipe()
    losses = {}
    for weight in (None, 0.0, 1.0, 3.0):
        chosen = () if weight is None else (dataclasses.replace(case.objective, weight=weight),)
        fitted, x, y = _fitted(pipe, chosen)
        y_pred = fitted(x, training=True)
        losses[weight] = np.asarray(fitted.compute_loss(x, y, y_pred))
    same(losses[0.0], losses[None], "with weight 0 the loss")
    added = losses[1.0] - losses[0.0]
    equal(bool(abs(added) > 1e-6), True, f"weight 1 adds something ({added})")
    close(losses[3.0] - losses[0.0], 3.0 * added, 1e-4, "three times the weight: what is added")
    quiet = np.asarray(fitted.compute_loss(x, y, y_pred, training=False))
    same(quiet, losses[None], "in evaluation the loss")
    return None


def _fitted(pipe: Pipeline, objectives: tuple[Any, ...]) -> tuple[Any, dict, Any]:
    bound = tuple(o.bind(pipe.model) for o in objectives)
    fitted = compiled(pipe.model, pipe.task, keras.optimizers.SGD(0.1), bound)
    x = tiny.features(pipe.model)
    x = {name: keras.ops.convert_to_tensor(value) for name, value in x.items()}
    return fitted, x, keras.ops.convert_to_tensor(_rig.targets(pipe.task, 3))


def _training(case: Case) -> None:
    pipe = case.pipe()
    moving = set(_rig.trainable(pipe.model))
    before = _rig.values(pipe.model.weights)
    losses = _rig.stepped(pipe, 2, (case.objective.bind(pipe.model),))
    equal(bool(np.isfinite(losses).all()), True, f"finite losses ({losses})")
    after = _rig.values(pipe.model.weights)
    frozen = {p: v for p, v in before.items() if p not in moving}
    same({p: after[p] for p in frozen}, frozen, "after two steps the frozen weight")


def _replicas(case: Case) -> str | None:
    strategy = _rig.replicas()
    if strategy is None:
        return "there is one CPU device; two are set with tf.config"
    if not case.deterministic:
        return "two calls on one batch differ"
    one, loss = _rig.fitted_with_sgd(None, case.pipe, (case.objective,))
    two, loss_of_two = _rig.fitted_with_sgd(strategy, case.pipe, (case.objective,))
    close(loss_of_two, loss, 1e-5, "the loss on two replicas")
    wanted = _rig.values(one.model.weights)
    close(_rig.values(two.model.weights), wanted, 1e-6, "two replicas:", absolute=True)
    return None


OBJECTIVE_PARTS: dict[str, Callable[[Case], str | None]] = {
    "config": _config,
    "rows": _rows,
    "weight": _weight,
    "training": _training,
    "replicas": _replicas,
}
