"""What prompt-tuning and p-tuning share: vectors of virtual tokens around the token embedding."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kerasft._core.errors import InputError
from kerasft.backbones import Site, family_of, sites
from kerasft.backbones._surgery import inside
from kerasft.backbones.prompts import longest_text
from kerasft.backbones.vocabulary import token_table
from kerasft.methods._dense import fixed
from kerasft.methods._site_layers import SiteLayer, put

from keras import ops  # isort: skip  (kerasft.backbones has chosen the backend)


class SoftPromptLayer(SiteLayer):
    """The token embedding, which knows the vectors of virtual tokens too.

        e(id) = E[id] where id < vocabulary, else f(P)[id - vocabulary]

    with the encoder f, or the identity where it has no layers.

    Args:
        base: the token embedding.
        site: the site's path.
        prompt: P at the start, [virtual tokens, width of the embedding].
        encoder: gives the layers of f, of [1, virtual tokens, width], for the layer that owns them.
    """

    unmergeable = "a soft prompt stands in front of the text and is no part of a weight"

    def __init__(
        self,
        base: Any,
        site: str,
        prompt: np.ndarray,
        encoder: Callable[[SiteLayer], list[Any]] | None = None,
    ):
        super().__init__(base, site, "prompt")
        self.virtual_tokens = len(prompt)
        self.vocabulary = inside(base).input_dim
        self.prompt = self.add_weight(name="vectors", shape=prompt.shape, initializer=fixed(prompt))
        self.encoder = [] if encoder is None else encoder(self)
        self.built = True

    def call(self, inputs, reverse=False, training=None):
        """Embed; with `reverse` logits of the vocabulary, as the embedding alone gives them."""
        if reverse:
            return self.base(inputs, reverse=True)
        places = inputs - self.vocabulary
        virtual = places >= 0
        found = self.base(ops.where(virtual, ops.zeros_like(inputs), inputs))

        def replaced():
            # A product and not a lookup: its gradient is one row a virtual token. That of a lookup
            # has one for each text of the batch, which Keras' optimizers square before they add
            # them up.
            chosen = ops.one_hot(places, self.virtual_tokens, dtype=found.dtype)
            made = ops.matmul(chosen, self.vectors(found.dtype))
            return ops.where(virtual[..., None], made, found)

        # The encoder would run for every token that is written. A replica without rows reads no
        # virtual token, and has to have a gradient all the same.
        if training or not self.encoder:
            return replaced()
        return ops.cond(ops.any(virtual), replaced, lambda: found)

    def vectors(self, dtype: Any = "float32") -> Any:
        """What stands in front of every text, [virtual tokens, width]."""
        x = ops.cast(self.prompt, self.compute_dtype)[None]
        for layer in self.encoder:
            x = layer(x)
        return ops.cast(x[0], dtype)


def prompt_backbone(
    backbone: Any,
    prompt: np.ndarray,
    encoder: Callable[[SiteLayer], list[Any]] | None = None,
) -> Any:
    """Freeze a backbone and put virtual tokens in front of its texts.

    Args:
        backbone: the backbone.
        prompt, encoder: as in `SoftPromptLayer`.

    Raises:
        InputError: for an encoder-decoder, a backbone whose positions they would fill, or one that
            has a soft prompt.
    """

    def layer(site: Site) -> SoftPromptLayer:
        return SoftPromptLayer(site.layer, site.path, prompt, encoder)

    family, limit = family_of(backbone), longest_text(backbone)
    if family.kind == "encoder-decoder":
        raise InputError(
            "A soft prompt stands in front of one sequence, of an encoder or a decoder. Received: "
            f"{family.backbone}, an encoder-decoder. Use lora."
        )
    if limit is not None and len(prompt) >= limit:
        raise InputError(
            f"`virtual_tokens` must leave positions for the text: this {family.backbone} has "
            f"{limit}. Received: virtual_tokens={len(prompt)}."
        )
    return put(backbone, [sites(backbone).embedding], SoftPromptLayer, layer)


def drawn_rows(backbone: Any, count: int, seed: int) -> np.ndarray:
    """Rows of the token embedding drawn by the seed, none twice where there are enough."""
    table = np.asarray(token_table(backbone).embeddings, np.float32)
    random = np.random.default_rng(seed)
    return table[random.choice(len(table), count, replace=count > len(table))]


def drawn_vectors(backbone: Any, count: int, seed: int) -> np.ndarray:
    """Vectors whose numbers are spread as those of the token embedding are: N(mean, deviation)."""
    table = np.asarray(token_table(backbone).embeddings, np.float32)
    shape = (count, table.shape[1])
    return np.random.default_rng(seed).normal(table.mean(), table.std(), shape).astype(np.float32)
