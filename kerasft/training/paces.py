"""At which rate each weight of a run learns, where not all do at one."""

from typing import Any

from kerasft._core.weights import named
from kerasft.backbones import depths
from kerasft.methods import paces_of
from kerasft.optimizers import Pace
from kerasft.training.prepare import Prepared, has_new_head
from kerasft.training.recipe import Recipe

# At the rate of a backbone that has learned much, a head that knows nothing stays behind: it hands
# down noise, and in a short training ends where it began, at the most frequent class. A step of
# Adam moves a logit by rate * width * mean |feature|, so a wide backbone wants less for as much.
NEW_HEAD, MOVE = 1e-2, 4.0


def run_paces(prepared: Prepared, model: Any, fitted: Any) -> dict[str, Pace]:
    """The paces that the method asks for, times those of `training.layer_decay`; and the head's.

        backbone: method's * layer_decay ^ depth, see `depths`
        head:     head_learning_rate / learning_rate

    Args:
        prepared: the run: its recipe, and the head that the checkpoint brought.
        model: the task's model, with the method applied.
        fitted: the model that is trained, which shares its weights.

    Returns:
        Path of a trained weight, as the optimizer will name it -> pace.

    Raises:
        InputError: for `layer_decay` where blocks share their weights (ALBERT).

    Example:
        >>> run_paces(prepared, model, model)["transformer_layer_1/self_attention/query/kernel"]
        Pace(multiplier=0.9, from_epoch=0)
    """
    recipe = prepared.recipe
    backbone, decay = model.get_layer("backbone").backbone, recipe.training.layer_decay
    asked = paces_of(recipe.method_value(), backbone)
    depth = {} if decay is None else depths(backbone)
    # A head may have a weight of the same path as the backbone, so the weights are told by id.
    found = {
        id(v): asked.get(path, Pace()) * Pace((decay or 1.0) ** depth.get(path, 0))
        for path, v in named(backbone.weights).items()
    }
    body = {id(v) for v in model.get_layer("backbone").weights}
    head = Pace(head_rate(prepared, backbone) / recipe.learning_rate())
    return {
        path: found.get(id(v), Pace()) if id(v) in body else head
        for path, v in named(fitted.trainable_variables).items()
    }


def head_rate(prepared: Prepared, backbone: Any) -> float:
    """The peak of the head's learning rate."""
    recipe: Recipe = prepared.recipe
    given, rate = recipe.training.head_learning_rate, recipe.learning_rate()
    if given is not None:
        return given
    if not has_new_head(prepared, backbone):
        return rate
    return max(rate, min(NEW_HEAD, MOVE / backbone.hidden_dim))
