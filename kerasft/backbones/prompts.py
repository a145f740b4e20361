"""Virtual tokens: vectors of a soft prompt that stand in front of every text."""

from typing import Any

from kerasft._core.errors import InputError
from kerasft.backbones import _surgery
from kerasft.backbones.crossing import run
from kerasft.backbones.vocabulary import token_table


def virtual_tokens(backbone: Any) -> int:
    """How many virtual tokens a method has put in front of every text, 0 without a soft prompt.

    Their ids follow the vocabulary: the layer around the token embedding knows their vectors.
    """
    return sum(layer.virtual_tokens for layer in _surgery.around(backbone.token_embedding))


def virtual_ids(backbone: Any, rows: Any) -> Any:
    """The ids of the virtual tokens, int32 [rows, virtual tokens]."""
    from keras import ops

    first, count = token_table(backbone).input_dim, virtual_tokens(backbone)
    return ops.broadcast_to(ops.arange(first, first + count, dtype="int32")[None], (rows, count))


def longest_text(backbone: Any) -> int | None:
    """The most tokens of a text: the learned positions that virtual tokens leave, None without
    learned positions."""
    positions = getattr(backbone, "max_sequence_length", None)
    return None if positions is None else positions - virtual_tokens(backbone)


def run_prompted(backbone: Any, inputs: Any, training: bool | None = None) -> Any:
    """A backbone's outputs for texts behind its virtual tokens, where it has any.

        [v_1 ... v_n, x_1 ... x_T]  ->  [h_1 ... h_T] of the text alone

    The virtual tokens are of segment 0 and take the first n positions. A vector pooled from [CLS]
    is made of the text's own first token.

    Args:
        backbone: a KerasHub backbone, with its method.
        inputs: its inputs by name, int32 [batch, length] each.
        training: whether dropout is active; None leaves it to the layer that calls.

    Returns:
        What the backbone returns, for the positions of the text.

    Raises:
        InputError: if a text and the virtual tokens are more than the backbone has positions.
    """
    from keras import ops

    count = virtual_tokens(backbone)
    if not count:
        return run(backbone, inputs, training)
    token_ids = ops.cast(inputs["token_ids"], "int32")
    length, limit = token_ids.shape[1], longest_text(backbone)
    if limit is not None and length is not None and length > limit:
        raise InputError(
            f"This {type(backbone).__name__} has {limit + count} positions, of which {count} are "
            f"taken by virtual tokens. Received: texts of {length} tokens. Cut them to {limit} "
            "(max_length), or take fewer virtual tokens."
        )
    prompt = virtual_ids(backbone, ops.shape(token_ids)[0])
    fill = {
        "token_ids": prompt,
        "padding_mask": ops.ones_like(prompt),
        "segment_ids": ops.zeros_like(prompt),
    }
    longer = {n: ops.concatenate([fill[n], ops.cast(x, "int32")], 1) for n, x in inputs.items()}
    outputs = run(backbone, longer, training)
    if not isinstance(outputs, dict):
        return outputs[:, count:]
    sequence = outputs["sequence_output"][:, count:]
    pooled = backbone.pooled_dense(sequence[:, backbone.cls_token_index])
    return {"sequence_output": sequence, "pooled_output": pooled}
