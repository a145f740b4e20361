"""DeBERTa-v3's weights (model type deberta-v2), which KerasHub has no converter for."""

from typing import Any

from kerasft.backbones.huggingface.encoder import port_encoder_block, port_norm

_ATTENTION = "query_proj key_proj value_proj"


def convert_weights(backbone: Any, loader: Any, config: dict[str, Any]) -> None:
    """Port the encoder; the keys of relative positions are those of the content (share_att_key)."""
    loader.port_weight(backbone.token_embedding.embeddings, "embeddings.word_embeddings.weight")
    port_norm(loader, backbone.embeddings_layer_norm, "embeddings.LayerNorm")
    relative = backbone.relative_embeddings
    loader.port_weight(relative.rel_embeddings, "encoder.rel_embeddings.weight")
    port_norm(loader, relative.layer_norm, "encoder.LayerNorm")
    for index, block in enumerate(backbone.transformer_layers):
        port_encoder_block(loader, block, f"encoder.layer.{index}", _ATTENTION)
