"""A backbone and a head as one functional model."""

from typing import Any

from kerasft._core.errors import InputError
from kerasft.backbones import family_of
from kerasft.backbones.crossing import input_names
from kerasft.backbones.packing import check_packable
from kerasft.methods import Adapted, adapt


def for_a_head(backbone: Any) -> tuple[Any, tuple[str, ...]]:
    """A backbone as `Adapted`, for a head on its vectors, and the names of its inputs.

    Raises:
        InputError: for an encoder-decoder, which has vectors of two sequences.
    """
    adapted = backbone if isinstance(backbone, Adapted) else adapt(backbone)
    family = family_of(adapted.backbone)
    if family.kind == "encoder-decoder":
        raise InputError(
            "This task reads vectors of a text from an encoder or a decoder, such as BERT or "
            f"GPT-2. Received: {family.backbone}, an encoder-decoder, which writes texts: its "
            "task is text-to-text."
        )
    return adapted, input_names(adapted.backbone)


def functional(backbone: Any, head: Any, name: str, **options: Any) -> Any:
    """Connect a backbone and a head.

    Args:
        backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).
        head: `build(family, features, inputs)` gives the symbolic outputs.
        name: name of the model.
        options: of the call of `Adapted`, e.g. `table=True`.

    Returns:
        keras.Model from the backbone's inputs, int32 [batch, length] each, to the head's outputs.

    Raises:
        InputError: for an encoder-decoder.
    """
    import keras

    adapted, names = for_a_head(backbone)
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    outputs = head.build(family_of(adapted.backbone), adapted(inputs, **options), inputs)
    return keras.Model(inputs, outputs, name=name)


def language_model(backbone: Any, name: str, packed: bool = False, source: bool = False) -> Any:
    """A decoder as a functional model from ids to logits of the next token.

    Args:
        backbone: a KerasHub decoder backbone, or one with a method (`kerasft.methods.adapt`).
        name: name of the model.
        source: take encoder-decoders too, whose next token follows from a source as well.
        packed: take `document_ids` too: rows of several documents that do not see each other.

    Returns:
        keras.Model from the backbone's inputs, int32 [batch, length] each, to float32
        [batch, length, vocabulary]. It has no weights but the backbone's.

    Raises:
        InputError: for a backbone that does not write, or with `packed` a family that cannot keep
            documents apart.
    """
    import keras

    adapted = backbone if isinstance(backbone, Adapted) else adapt(backbone)
    family = family_of(adapted.backbone)
    if family.kind == "encoder-decoder" and not source:
        raise InputError(
            "This task is learned by a decoder alone, such as GPT-2 or Llama. Received: "
            f"{family.backbone}, an encoder-decoder: its task is text-to-text."
        )
    if family.kind == "encoder":
        raise InputError(
            "Text is written by a decoder, such as GPT-2 or Llama. Received: "
            f"{family.backbone}, an encoder."
        )
    if packed:
        check_packable(adapted.backbone)
    names = (*input_names(adapted.backbone), *(("document_ids",) if packed else ()))
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    return keras.Model(inputs, adapted(inputs, logits=True), name=name)
