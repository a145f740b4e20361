"""Which variables move: set and read, variable by variable."""

from collections.abc import Callable, Iterable
from typing import Any


def set_trainable(layer: Any, wanted: Callable[[Any], bool]) -> None:
    """Let exactly the wanted variables of a layer move.

    Set on variables, not on layers: a layer's flag would also stop the adapter wrapped around it.
    """
    for variable in layer.variables:
        if not is_random_state(variable) and not is_held(variable):
            variable.trainable = bool(wanted(variable))


def freeze_all_but(layer: Any, parts: Iterable[Any]) -> None:
    """Freeze a layer's variables except those of the given sublayers."""
    kept = {id(v) for part in parts for v in part.variables}
    set_trainable(layer, lambda variable: id(variable) in kept)


def hold(variable: Any) -> Any:
    """Let a weight that a method adds stand still for good, whatever other methods train."""
    variable.trainable = False
    variable.kerasft_held = True
    return variable


def is_held(variable: Any) -> bool:
    """Whether `hold` has been said of a variable."""
    return getattr(variable, "kerasft_held", False)


def record(variable: Any) -> Any:
    """Mark a weight in which a method notes what it has seen in training.

    No gradient moves it (see `hold`), the method does, so it is none of the weights that have to
    stay as they are; checkpoints and saved models hold it, an adapter file does without it.
    """
    variable.kerasft_record = True
    return hold(variable)


def is_record(variable: Any) -> bool:
    """Whether `record` has been said of a variable."""
    return getattr(variable, "kerasft_record", False)


def is_random_state(variable: Any) -> bool:
    """Whether a variable is the state of a random generator, which is never trained."""
    return variable.path.endswith("seed_generator_state")
