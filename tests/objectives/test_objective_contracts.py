"""Every objective holds its contract, one from outside too; a wrong one does not."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from keras import ops

from kerasft.objectives import registry
from kerasft.testing import check_objective
from kerasft.testing.contracts import OBJECTIVE_PARTS


@registry.register
@dataclass(frozen=True)
class ExampleSmallLogits:
    """Small logits, as an example of an objective from outside: the mean of their squares."""

    name: ClassVar[str] = "example-small-logits"
    weight: float = 0.5

    def bind(self, model: Any) -> "ExampleSmallLogits":
        """Needs nothing of the model."""
        return self

    def __call__(self, forward: Any, x: Any, y: Any, y_pred: Any) -> Any:
        """One value a row."""
        return ops.mean(ops.square(y_pred), axis=-1)


MEMBERS = registry.names()


@pytest.mark.contract("objectives", of=len(MEMBERS))
@pytest.mark.parametrize("name", MEMBERS)
def test_contract(name):
    results = check_objective(registry.get(name)())
    assert set(results) == set(OBJECTIVE_PARTS)
    assert results["rows"] == results["training"] == "passed"
    if name == ExampleSmallLogits.name:
        assert set(results.values()) == {"passed"}


def test_one_value_a_batch_is_caught(monkeypatch):
    wrong = lambda self, forward, x, y, y_pred: ops.mean(ops.square(y_pred))  # noqa: E731
    monkeypatch.setattr(ExampleSmallLogits, "__call__", wrong)
    with pytest.raises(AssertionError, match="one a row"):
        check_objective(ExampleSmallLogits(), parts=["rows"])


def test_a_value_that_hangs_on_the_other_rows_is_caught(monkeypatch):
    """What a row is given must not change with the rows that share its replica."""

    def wrong(self, forward, x, y, y_pred):
        return ops.ones_like(y_pred[:, 0]) * ops.sum(ops.square(y_pred))

    monkeypatch.setattr(ExampleSmallLogits, "__call__", wrong)
    with pytest.raises(AssertionError, match="two replicas"):
        check_objective(ExampleSmallLogits(), parts=["replicas"], method="freeze")


def test_a_weight_that_does_nothing_is_caught(monkeypatch):
    monkeypatch.setattr(ExampleSmallLogits, "__call__", lambda self, f, x, y, p: 0.0 * p[:, 0])
    with pytest.raises(AssertionError, match="weight 1 adds something"):
        check_objective(ExampleSmallLogits(), parts=["weight"], method="freeze")


def test_weight_and_configuration():
    made = registry.build({"name": "example-small-logits", "weight": 2.0})
    assert made == dataclasses.replace(ExampleSmallLogits(), weight=2.0)
    assert registry.config(made) == {"name": "example-small-logits", "weight": 2.0}
