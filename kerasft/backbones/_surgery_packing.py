"""The private names that packing needs: a backbone's own graph, run with another mask.

KerasHub's backbones hand a padding mask [batch, length] to their blocks and let positions run from
0; their layers take more than that. So the graph is run as it stands, node by node, and only the
calls of those layers get other arguments: whatever sits inside a block (LoRA, dropout, another
activation, mixed precision) is run as it always is.
"""

from collections.abc import Callable
from typing import Any

_ENCODER = ("padding_mask", "attention_mask")
_DECODER = ("decoder_padding_mask", "decoder_attention_mask")
# Class of a block -> its arguments for the mask [batch, length] and for [batch, length, length].
MASKS: dict[str, tuple[str, str]] = {
    "TransformerEncoder": _ENCODER,
    "DisentangledAttentionEncoder": _ENCODER,
    "TransformerDecoder": _DECODER,
    "LlamaTransformerDecoder": _DECODER,
    "MistralTransformerDecoder": _DECODER,
    "QwenTransformerDecoder": _DECODER,
    "Qwen3TransformerDecoder": _DECODER,
    # It has no argument of the second kind; `_widen` makes the first one take both.
    "GemmaDecoderBlock": ("padding_mask", "padding_mask"),
}
# Layers that hold a learned vector for each position. Rotations and DeBERTa's buckets see distances
# only, which are the same wherever a document begins.
POSITIONED = ("PositionEmbedding", "TokenAndPositionEmbedding")


def run_graph(
    backbone: Any, inputs: dict[str, Any], mask: Any, positions: Any, training: bool | None
) -> Any:
    """Run a backbone's graph with a mask between tokens and with positions of one's own.

    Args:
        backbone: a KerasHub backbone whose blocks are in `MASKS`.
        inputs: the backbone's inputs by name.
        mask: int32 [batch, length, length], 1 where a token (second axis) may see another (third);
            a decoder's block adds that it sees no later one.
        positions: int32 [batch, length], for the layers in `POSITIONED`.
        training: as in `keras.Layer.__call__`.

    Returns:
        The backbone's outputs, pooled ones included.
    """
    import keras

    def changed(operation: Any) -> Callable[..., Any]:
        if not isinstance(operation, keras.Layer):
            return operation
        kind, extra = type(operation).__name__, {}
        dropped = None
        if kind in MASKS:
            dropped, name = MASKS[kind]
            extra[name] = mask
        elif kind in POSITIONED:
            extra["positions"] = positions
        if kind == "GemmaDecoderBlock":
            _widen(operation)
        if training is not None:
            extra["training"] = training

        def call(*args: Any, **kwargs: Any) -> Any:
            kept = {k: v for k, v in kwargs.items() if k != dropped}
            return operation(*args, **(kept | extra))

        return call

    flat = [inputs[tensor.name] for tensor in backbone.inputs]
    return backbone._run_through_graph(flat, operation_fn=changed)


def _widen(block: Any) -> None:
    """Make Gemma's block take a mask [batch, length, length] for its `padding_mask` too.

    It stays so, and changes nothing for a mask [batch, length]: a mask that comes as an argument
    is still there when the block is run again for its gradient.
    """
    if "_compute_attention_mask" in vars(block):
        return
    narrow = block._compute_attention_mask

    def wide(x: Any, padding_mask: Any, cache: Any, cache_update_index: Any) -> Any:
        from keras import ops

        if padding_mask is None or len(padding_mask.shape) == 2:
            return narrow(x, padding_mask, cache, cache_update_index)
        causal = narrow(x, None, cache, cache_update_index)
        return ops.minimum(padding_mask, ops.cast(causal, padding_mask.dtype))

    block._compute_attention_mask = wide
