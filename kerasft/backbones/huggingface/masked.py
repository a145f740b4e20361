"""The head of a masked language model (`...ForMaskedLM`) in a checkpoint folder."""

import os
from dataclasses import dataclass

import numpy as np

from kerasft.backbones.huggingface.config import read_config
from kerasft.backbones.huggingface.store import Store, open_store

_CLS = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions")
_LM = ("lm_head.dense", "lm_head.layer_norm", "lm_head")
# model type -> names of the dense layer, its norm, and what the bias of the logits belongs to.
_NAMES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "bert": (_CLS,),
    "roberta": (_LM,),
    "xlm-roberta": (_LM,),
    "distilbert": (("vocab_transform", "vocab_layer_norm", "vocab_projector"),),
    "albert": (("predictions.dense", "predictions.LayerNorm", "predictions"),),
    "electra": (
        (
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head",
        ),
    ),
    # As Transformers has it, and as Microsoft's own checkpoints do.
    "deberta-v2": (
        _CLS,
        (
            "lm_predictions.lm_head.dense",
            "lm_predictions.lm_head.LayerNorm",
            "lm_predictions.lm_head",
        ),
    ),
}


@dataclass(frozen=True)
class MaskedWeights:
    """The head of a masked language model, in Keras' layout; its matrix of logits is tied.

    Args:
        kernel, bias: the dense layer, [hidden, width] and [width].
        gamma, beta: the norm, [width] each.
        logits_bias: [vocabulary].
    """

    kernel: np.ndarray
    bias: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    logits_bias: np.ndarray


def read_masked_head(folder: str, hidden: int, width: int, vocabulary: int) -> MaskedWeights | None:
    """Read the masked language model's head of a Hugging Face checkpoint folder.

    Args:
        folder: a local folder with config.json and model.safetensors or tf_model.h5.
        hidden, width, vocabulary: the backbone's units, and its table of embeddings.

    Returns:
        The head; None if the folder holds none, or one with a matrix of its own that is not tied
        to the embeddings.

    Raises:
        InputError: if a weight is missing or of another shape.

    Example:
        >>> read_masked_head("bert-base-uncased", 768, 768, 30522).kernel.shape
        (768, 768)
    """
    folder = os.fspath(folder).rstrip("/") or "/"
    layout, config = read_config(folder)
    store = open_store(folder)
    if config.get("tie_word_embeddings") is False:
        return None
    for dense, norm, logits in _NAMES.get(layout.model_type, ()):
        if f"{dense}.weight" in store:
            return MaskedWeights(
                np.ascontiguousarray(store.get(f"{dense}.weight", (width, hidden)).T),
                store.get(f"{dense}.bias", (width,)),
                store.get(f"{norm}.weight", (width,)),
                store.get(f"{norm}.bias", (width,)),
                _bias(store, logits, vocabulary),
            )
    return None


def _bias(store: Store, owner: str, vocabulary: int) -> np.ndarray:
    """The bias of the logits, which old and new checkpoints keep in different places."""
    first, second = f"{owner}.bias", f"{owner}.decoder.bias"
    return store.get(second if first not in store and second in store else first, (vocabulary,))
