"""The inputs of a backbone by the names that they have everywhere here.

KerasHub's encoder-decoders take `encoder_token_ids` and `encoder_padding_mask`; here the sequence
that a text is read from is `token_ids` in every family, and `decoder_` stands before the other.
"""

from typing import Any

from kerasft.backbones.families import family_of
from kerasft.data import DECODER

_ENCODER = "encoder_"


def input_names(backbone: Any) -> tuple[str, ...]:
    """Names of a backbone's inputs; of an encoder-decoder `token_ids`, `padding_mask`,
    `decoder_token_ids` and `decoder_padding_mask`."""
    return tuple(i.name.split(":")[0].removeprefix(_ENCODER) for i in backbone.inputs)


def run(backbone: Any, inputs: Any, training: bool | None = None) -> Any:
    """A backbone's outputs from inputs by those names; an encoder-decoder's are its decoder's."""
    if family_of(backbone).kind != "encoder-decoder":
        return backbone(inputs, training=training)
    given = {n if n.startswith(DECODER) else _ENCODER + n: v for n, v in inputs.items()}
    return backbone(given, training=training)["decoder_sequence_output"]
