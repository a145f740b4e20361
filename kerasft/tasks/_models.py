"""A backbone and a head as one functional model."""

from typing import Any

from kerasft.backbones import family_of
from kerasft.methods import Adapted, adapt


def functional(backbone: Any, head: Any, name: str) -> Any:
    """Connect a backbone and a head.

    Args:
        backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).
        head: `build(family, features, inputs)` gives the symbolic outputs.
        name: name of the model.

    Returns:
        keras.Model from the backbone's inputs, int32 [batch, length] each, to the head's outputs.
    """
    import keras

    adapted = backbone if isinstance(backbone, Adapted) else adapt(backbone)
    names = [i.name.split(":")[0] for i in adapted.backbone.inputs]
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    outputs = head.build(family_of(adapted.backbone), adapted(inputs), inputs)
    return keras.Model(inputs, outputs, name=name)
