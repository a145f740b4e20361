"""Several documents in one row of ids, with nothing between them."""

from typing import Any

from kerasft._core.errors import InputError
from kerasft.backbones import _surgery_packing
from kerasft.backbones.families import family_of
from kerasft.backbones.prompts import virtual_tokens

DOCUMENTS = "document_ids"


def run_packed(backbone: Any, features: dict[str, Any], training: bool | None = None) -> Any:
    """Run a backbone on rows that hold several documents each, as if each stood alone.

        token i sees token j  <=>  document_ids[i] == document_ids[j]  (a decoder: and j <= i)

    The backbone's own layers run, with whatever a method has put into them. Learned positions begin
    anew in each document; rotary ones and DeBERTa's buckets see distances only.

    Args:
        backbone: a KerasHub backbone of a family that is `packable`.
        features: the backbone's inputs, int32 [batch, length] each, and `document_ids` int32
            [batch, length]: 1, 2, ... for the documents of a row, each in one piece, and 0 on
            padding. They decide; `padding_mask` is not read. A row may be longer than the
            backbone's longest text, a document may not.
        training: whether dropout is active; None leaves it to the layer that calls.

    Returns:
        What the backbone returns, without vectors pooled over a row (which make no sense here):
        a tensor [batch, length, width], or a mapping with `sequence_output`. What stands on
        padding is finite and means nothing.

    Raises:
        InputError: if the family is not packable, or an input is missing.

    Example:
        >>> run_packed(backbone, {"token_ids": ids, "padding_mask": mask, "document_ids": numbers})

    Reference: Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination",
    https://arxiv.org/abs/2107.02027
    """
    from keras import ops

    check_packable(backbone)
    wanted = [tensor.name for tensor in backbone.inputs]
    missing = [name for name in (*wanted, DOCUMENTS) if name not in features]
    if missing:
        raise InputError(
            f"Packed rows of {type(backbone).__name__} need {', '.join((*wanted, DOCUMENTS))}. "
            f"Received: {', '.join(features)}. Add {', '.join(missing)}."
        )
    given = {
        name: ops.cast(ops.convert_to_tensor(features[name]), "int32")
        for name in (*wanted, DOCUMENTS)
    }
    documents = given.pop(DOCUMENTS)
    mask, positions = document_mask(documents), document_positions(documents)
    outputs = _surgery_packing.run_graph(backbone, given, mask, positions, training)
    if not isinstance(outputs, dict):
        return outputs
    return {"sequence_output": outputs["sequence_output"]}


def check_packable(backbone: Any) -> None:
    """Raise `InputError`, with the reason, if a backbone cannot keep documents in a row apart."""
    family = family_of(backbone)
    if not family.packable:
        reason = family.unpackable or "its blocks take no mask between tokens"
        raise InputError(
            f"Several texts in one row need a backbone that keeps them apart, and {family.backbone}"
            f" cannot: {reason}. Train it without packing."
        )
    if count := virtual_tokens(backbone):
        raise InputError(
            "Several texts in one row cannot each have a soft prompt in front. Received: a method "
            f"with {count} virtual tokens. Train it without packing, or use prefix-tuning."
        )


def document_mask(document_ids: Any) -> Any:
    """1 where two tokens are of one document: int32 [batch, length, length].

    Padding counts as a document, so that no token is left with nothing to look at.
    """
    from keras import ops

    same = ops.equal(document_ids[:, :, None], document_ids[:, None, :])
    return ops.cast(same, "int32")


def document_positions(document_ids: Any) -> Any:
    """The place of each token in its document, from 0: int32 [batch, length]; 0 on padding."""
    from keras import ops

    places = ops.arange(ops.shape(document_ids)[1], dtype="int32")
    earlier = ops.cast(places[:, None] > places[None, :], "int32")
    counted = ops.sum(document_mask(document_ids) * earlier, axis=-1)
    return ops.where(document_ids > 0, counted, ops.zeros_like(counted))
