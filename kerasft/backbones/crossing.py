"""The inputs of a backbone by the names that they have everywhere here.

KerasHub's encoder-decoders take `encoder_token_ids` and `encoder_padding_mask`; here the sequence
that a text is read from is `token_ids` in every family, and `decoder_` stands before the other.
"""

from typing import Any

from kerasft.backbones import _surgery
from kerasft.backbones.families import family_of
from kerasft.data.encoded import DECODER

_ENCODER = "encoder_"


def input_names(backbone: Any) -> tuple[str, ...]:
    """Names of the inputs of a backbone, or of a model on it; of an encoder-decoder `token_ids`,
    `padding_mask`, `decoder_token_ids` and `decoder_padding_mask`."""
    return tuple(i.name.split(":")[0].removeprefix(_ENCODER) for i in backbone.inputs)


def steady(backbone: Any) -> Any:
    """The backbone itself, with paths of its weights that are the same in every process."""
    return _surgery.steady_paths(backbone)


def run(backbone: Any, inputs: Any, training: bool | None = None) -> Any:
    """A backbone's outputs from inputs by those names; an encoder-decoder's are its decoder's."""
    import tensorflow as tf

    family = family_of(backbone)
    if family.kind != "encoder-decoder":
        return backbone(inputs, training=training)
    given = {n if n.startswith(DECODER) else _ENCODER + n: v for n, v in inputs.items()}
    if family.name != "t5":
        return backbone(given, training=training)["decoder_sequence_output"]
    # KerasHub's T5 cannot reshape a batch of no rows, which a replica may be given.
    rows = tf.shape(given["encoder_token_ids"])[0]
    missing = tf.maximum(1 - rows, 0)
    given = {n: tf.pad(v, [[0, missing], [0, 0]]) for n, v in given.items()}
    return backbone(given, training=training)["decoder_sequence_output"][:rows]
