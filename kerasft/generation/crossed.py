"""The decoder of an encoder-decoder, step by step: what it says, and what it looks at."""

from typing import Any

import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.backbones import family_of, lm_logits
from kerasft.generation._plain_ops import plain_ops
from kerasft.generation.cached import Cached


def crossed(backbone: Any) -> Cached:
    """Read an encoder-decoder step by step; see `step_model`.

    The encoder reads a source once, when the cache is made, and what the decoder's blocks look at
    of it is kept as their own keys and values are.
    """
    import keras

    names = ("encoder_token_ids", "encoder_padding_mask")
    encoder = keras.Model(
        {name: backbone.input[name] for name in names}, backbone.output["encoder_sequence_output"]
    )
    read = {"bart": _read_bart, "t5": _read_t5}[family_of(backbone).name]

    def hidden(token_ids: Any, cache: Any, index: Any) -> tuple[Any, Any]:
        kept, mask = cache
        with plain_ops():
            x, kept = read(backbone, token_ids, kept, index, mask)
        return x, (kept, mask)

    def empty(rows: Any, length: Any, *source: Any) -> Any:
        if len(source) != 2:
            raise InputError(
                f"A {type(backbone).__name__} writes what follows from a source. Received: none. "
                "Give `source`, token_ids and padding_mask of what its encoder is to read."
            )
        ids, mask = (tf.cast(part, tf.int32) for part in source)
        own, other = (_zeros(backbone, rows, size) for size in (length, tf.shape(ids)[1]))
        with plain_ops():
            encoded = encoder(dict(zip(names, (ids, mask), strict=True)), training=False)
            # One token is read for the sake of the blocks' keys and values of the source.
            first = tf.zeros([rows, 1], tf.int32)
            pairs = tuple(zip(own, other, strict=True))
            _, filled = read(backbone, first, pairs, 0, mask, encoded)
        return tuple(zip(own, (of_source for _, of_source in filled), strict=True)), mask

    return Cached(
        hidden,
        lambda x: lm_logits(backbone, x),
        empty,
        backbone.vocabulary_size,
        getattr(backbone, "max_sequence_length", None),
    )


def _zeros(backbone: Any, rows: Any, length: Any) -> tuple[Any, ...]:
    heads = backbone.num_heads
    size = getattr(backbone, "key_value_dim", None) or backbone.hidden_dim // heads
    blocks = backbone.decoder_transformer_layers
    return tuple(tf.zeros([rows, 2, length, heads, size], b.compute_dtype) for b in blocks)


def _caches(kept: tuple, index: Any, encoded: Any) -> dict[str, Any]:
    """A block's caches; those of the source are made where it is given, and then stay."""
    return {
        "self_attention_cache": kept[0],
        "self_attention_cache_update_index": index,
        "cross_attention_cache": kept[1],
        "cross_attention_cache_update_index": None if encoded is None else 0,
    }


def _same_shapes(new: tuple, old: tuple) -> tuple:
    for one, other in zip(new, old, strict=True):
        one.set_shape(other.shape)
    return tuple(new)


def _read_bart(
    backbone: Any, ids: Any, kept: tuple, index: Any, mask: Any, encoded: Any = None
) -> tuple[Any, tuple]:
    tokens = backbone.token_embedding(ids)
    places = backbone.decoder_position_embedding(tokens, start_index=index)
    x = backbone.decoder_embeddings_layer_norm(backbone.decoder_embeddings_add((tokens, places)))
    found = []
    for block, old in zip(backbone.decoder_transformer_layers, kept, strict=True):
        # Where its keys and values are kept, a block looks at nothing else of the source.
        source = x if encoded is None else encoded
        more = {"encoder_padding_mask": mask, **_caches(old, index, encoded)}
        x, *new = block(x, encoder_sequence=source, **more)
        found.append(_same_shapes(new, old))
    return x, tuple(found)


def _read_t5(
    backbone: Any, ids: Any, kept: tuple, index: Any, mask: Any, encoded: Any = None
) -> tuple[Any, tuple]:
    x, bias, found = backbone.token_embedding(ids), None, []
    for block, old in zip(backbone.decoder_transformer_layers, kept, strict=True):
        source = x if encoded is None else encoded
        x, bias, *new = block(
            x,
            position_bias=bias,
            encoder_hidden_states=source,
            encoder_attention_mask=mask[:, None, :],
            use_causal_mask=True,
            **_caches(old, index, encoded),
        )
        found.append(_same_shapes(new, old))
    return backbone.decoder_layer_norm(x), tuple(found)
