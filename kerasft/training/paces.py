"""At which rate each weight of a run learns, where not all do at one."""

from typing import Any

from kerasft._core.weights import named
from kerasft.backbones import depths
from kerasft.methods import paces_of
from kerasft.optimizers import Pace
from kerasft.training.recipe import Recipe


def run_paces(recipe: Recipe, model: Any, fitted: Any) -> dict[str, Pace]:
    """The paces that the method asks for, times those of `training.layer_decay`.

        multiplier = method's * layer_decay ^ depth,   depth 0 for the head, see `depths`

    Args:
        recipe: the recipe.
        model: the task's model, with the method applied.
        fitted: the model that is trained, which shares its weights.

    Returns:
        Path of a trained weight, as the optimizer will name it -> pace.

    Raises:
        InputError: for `layer_decay` where blocks share their weights (ALBERT).

    Example:
        >>> run_paces(recipe, model, model)["transformer_layer_1/self_attention/query/kernel"]
        Pace(multiplier=0.9, from_epoch=0)
    """
    backbone, decay = model.get_layer("backbone").backbone, recipe.training.layer_decay
    asked = paces_of(recipe.method_value(), backbone)
    depth = {} if decay is None else depths(backbone)
    # A head may have a weight of the same path as the backbone, so the weights are told by id.
    found = {
        id(v): asked.get(path, Pace()) * Pace((decay or 1.0) ** depth.get(path, 0))
        for path, v in named(backbone.weights).items()
    }
    trained = named(fitted.trainable_variables)
    return {path: found[id(v)] for path, v in trained.items() if id(v) in found}
