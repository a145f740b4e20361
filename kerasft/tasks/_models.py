"""A backbone and a head as one functional model."""

from typing import Any

from kerasft._core.errors import InputError
from kerasft.backbones import family_of
from kerasft.methods import Adapted, adapt


def functional(backbone: Any, head: Any, name: str, **options: Any) -> Any:
    """Connect a backbone and a head.

    Args:
        backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).
        head: `build(family, features, inputs)` gives the symbolic outputs.
        name: name of the model.
        options: of the call of `Adapted`, e.g. `table=True`.

    Returns:
        keras.Model from the backbone's inputs, int32 [batch, length] each, to the head's outputs.
    """
    import keras

    adapted = backbone if isinstance(backbone, Adapted) else adapt(backbone)
    names = [i.name.split(":")[0] for i in adapted.backbone.inputs]
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    outputs = head.build(family_of(adapted.backbone), adapted(inputs, **options), inputs)
    return keras.Model(inputs, outputs, name=name)


def language_model(backbone: Any, name: str, packed: bool = False) -> Any:
    """A decoder as a functional model from ids to logits of the next token.

    Args:
        backbone: a KerasHub decoder backbone, or one with a method (`kerasft.methods.adapt`).
        name: name of the model.
        packed: take `document_ids` too: rows of several documents that do not see each other.

    Returns:
        keras.Model from the backbone's inputs, int32 [batch, length] each, to float32
        [batch, length, vocabulary]. It has no weights but the backbone's.

    Raises:
        InputError: for an encoder, or with `packed` a family that cannot keep documents apart.
    """
    import keras

    adapted = backbone if isinstance(backbone, Adapted) else adapt(backbone)
    family = family_of(adapted.backbone)
    if family.kind != "decoder":
        raise InputError(
            "Text is written by a decoder, such as GPT-2 or Llama. Received: "
            f"{family.backbone}, an encoder."
        )
    names = [i.name.split(":")[0] for i in adapted.backbone.inputs]
    names += ["document_ids"] if packed else []
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    return keras.Model(inputs, adapted(inputs, logits=True), name=name)
