"""A backbone in two parts: the blocks below, in which nothing learns, and what reads them."""

from typing import Any

from kerasft.backbones import _surgery_cut
from kerasft.backbones.families import family_of
from kerasft.backbones.prompts import virtual_tokens
from kerasft.backbones.sites import sites


def cut(backbone: Any, count: int) -> tuple[Any, Any]:
    """Two functional models that share the backbone's layers.

        upper([lower(inputs), *inputs]) == backbone(inputs)

    Args:
        backbone: a KerasHub encoder or decoder, with its method.
        count: how many blocks are below, at least 1; where blocks share their weights (ALBERT) all
            of them.

    Returns:
        The lower part, from the backbone's inputs to hidden states [batch, length, width], and the
        upper one, from these and the backbone's inputs to what the backbone gives.

    Example:
        >>> lower, upper = cut(backbone, 4)
    """
    import keras

    states = _surgery_cut.states_after(backbone, count)
    # Keras takes a tensor that goes in and comes out of a model for two.
    same = keras.layers.Identity()(states)
    given = keras.tree.map_structure(lambda x: same if x is states else x, backbone.output)
    return _below(backbone, states), keras.Model([states, *backbone.inputs], given)


def frozen_blocks(backbone: Any) -> int:
    """How many blocks from the bottom give the same in every epoch, because neither they nor what
    lies below them learns; 0 where it cannot be told.

    Virtual tokens, an encoder-decoder's two sequences, and mixing without a mask (FNet), where
    padding counts, are not looked into.
    """
    family, blocks = family_of(backbone), sites(backbone).blocks
    if family.kind == "encoder-decoder" or not family.maskable or virtual_tokens(backbone):
        return 0
    learning = {id(v) for v in backbone.trainable_variables}
    shared = family.shares_blocks

    def stands(count: int) -> bool:
        lower = _below(backbone, _surgery_cut.states_after(backbone, count))
        return not learning & {id(v) for v in lower.variables}

    counts = (len(blocks),) if shared else range(len(blocks), 0, -1)
    return next((count for count in counts if stands(count)), 0)


def _below(backbone: Any, states: Any) -> Any:
    import keras

    return keras.Model(list(backbone.inputs), states)
