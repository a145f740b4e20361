"""The private names that soft prompts and prefixes need: embedding, and what attention sees."""

from collections.abc import Callable
from typing import Any

# Class of a block -> the attribute of its self-attention, where a prefix can stand before the keys
# and values. DeBERTa's and T5's scores are made of distances too, and a prefix has no place.
ATTENTIONS = dict.fromkeys(
    (
        "TransformerEncoder",
        "TransformerDecoder",
        "LlamaTransformerDecoder",
        "MistralTransformerDecoder",
        "QwenTransformerDecoder",
        "Qwen3TransformerDecoder",
    ),
    "_self_attention_layer",
) | {"GemmaDecoderBlock": "attention"}
_COMPUTE, _WINDOW = "_compute_attention", "_mask_sliding_window"


def embedding_of(backbone: Any) -> list[tuple[Any, str]]:
    """The places, (owner, attribute), that keep the token embedding, the one that calls it first.

    In some families it is a node of the graph, in others a part of the layer `embeddings`.
    """
    places = [(backbone, "token_embedding")]
    outer = getattr(backbone, "embeddings", None)
    return [(outer, "token_embedding"), *places] if outer is not None else places


def let_look_at(attention: Any, count: int, prefix: Callable[[], tuple[Any, Any]]) -> None:
    """Make an attention layer look at keys and values that stand before those of the text.

    They come behind the cache and behind the rotation: neither sees them. Every token sees all of
    them, whatever mask or sliding window the text has.

    Args:
        attention: an attention layer of a block in `ATTENTIONS`.
        count: how many they are, n.
        prefix: gives keys and values, [n, key/value heads, head size] each.
    """
    from keras import ops

    plain, narrow = getattr(attention, _COMPUTE), getattr(attention, _WINDOW, None)

    def widened(mask: Any) -> Any:
        ones = ops.repeat(ops.ones_like(mask[..., :1]), count, axis=-1)
        return ops.concatenate([ones, mask], axis=-1)

    def compute(query: Any, key: Any, value: Any, attention_mask: Any = None, *args, **kwargs):
        keys, values = prefix()
        mask = None if attention_mask is None else widened(attention_mask)
        return plain(query, _joined(keys, key), _joined(values, value), mask, *args, **kwargs)

    setattr(attention, _COMPUTE, compute)
    if narrow is not None:
        # Some layers narrow the mask to their window only here, where it has the prefix already.
        def window(mask: Any, **place: Any) -> Any:
            return widened(narrow(mask[..., count:], **place))

        setattr(attention, _WINDOW, window)


def look_away(attention: Any) -> None:
    """Undo `let_look_at`."""
    for name in (_COMPUTE, _WINDOW):
        vars(attention).pop(name, None)


def _joined(prefix: Any, of_text: Any) -> Any:
    """[batch, n + length, heads, size]; each head of the prefix serves its group of heads."""
    from keras import ops

    heads = of_text.shape[2]
    prefix = ops.repeat(ops.cast(prefix, of_text.dtype), heads // prefix.shape[1], axis=1)
    shape = (ops.shape(of_text)[0], *prefix.shape)
    return ops.concatenate([ops.broadcast_to(prefix[None], shape), of_text], axis=1)
