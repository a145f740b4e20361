"""ELECTRA's weights, which KerasHub has no converter for."""

from typing import Any

from kerasft.backbones.huggingface.encoder import port_dense, port_encoder_block, port_norm


def convert_weights(backbone: Any, loader: Any, config: dict[str, Any]) -> None:
    """Port the encoder of a discriminator or a generator.

    ELECTRA has no pooler: KerasHub's `pooled_dense` keeps its initial weights, and no head of
    kerasft reads it.
    """
    names = {
        "embeddings.word_embeddings.weight": backbone.token_embedding.embeddings,
        "embeddings.position_embeddings.weight": backbone.position_embedding.position_embeddings,
        "embeddings.token_type_embeddings.weight": backbone.segment_embedding.embeddings,
    }
    for key, variable in names.items():
        loader.port_weight(variable, key)
    port_norm(loader, backbone.embeddings_layer_norm, "embeddings.LayerNorm")
    if backbone.embedding_dim != backbone.hidden_dim:
        port_dense(loader, backbone.embeddings_projection, "embeddings_project")
    for index, block in enumerate(backbone.transformer_layers):
        port_encoder_block(loader, block, f"encoder.layer.{index}", "query key value")
