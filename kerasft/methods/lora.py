"""LoRA: a low-rank update beside frozen projections."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, whole
from kerasft.backbones import Site, sites
from kerasft.methods._site_layers import ProjectionLayer, carried, put, roles, wrappers
from kerasft.optimizers import Pace

import keras  # isort: skip  (kerasft.backbones has chosen the backend)


@dataclass(frozen=True)
class LoRA:
    """LoRA: a trained low-rank update beside each frozen projection.

        y = x W + b + (alpha / rank) * dropout(x) A B,   B = 0 at the start

    so that a fresh adapter changes nothing, and merging adds (alpha / rank) * A B to W.

    Args:
        rank: the number of columns of A [inputs, rank] and of rows of B [rank, outputs].
        alpha: the update is scaled by alpha / rank.
        dropout: share of the update's inputs dropped in training, 0 to 1.
        targets: the projections that get an update, of `query`, `key`, `value`, `output`,
            `gate`, `up`, `down`, and `cross_query` ... in an encoder-decoder.
        blocks: numbers or names of the blocks that get updates; all where empty.
        plus: LoRA+: by how much the rate of B is above that of A, more than 0 (see
            https://arxiv.org/abs/2402.12354, Hayou et al. 2024, which takes 16).

    Raises:
        InputError: if the backbone has no such projection.

    Example:
        >>> adapted = LoRA(rank=8, alpha=16).apply(backbone)

    Reference: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
    https://arxiv.org/abs/2106.09685
    """

    name: ClassVar[str] = "lora"
    learning_rate: ClassVar[float] = 2e-4
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("query", "value")
    blocks: tuple[int | str, ...] = ()
    plus: float = 1.0

    def __post_init__(self):
        in_range("plus", self.plus, 0, above=True)
        whole("rank", self.rank, 1)
        in_range("alpha", self.alpha, 0, above=True)
        in_range("dropout", self.dropout, 0, 0.999)
        roles(self.targets)

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put an update beside each target."""
        chosen = sites(backbone).targets(self.targets, self.blocks)
        return put(backbone, chosen, LoRALayer, self._layer)

    def paces(self, backbone: Any) -> dict[str, Pace]:
        """The rate of each B beside that of the rest."""
        found = [x for site in carried(backbone) for x in wrappers(site.layer)]
        return {x.lora_b.path: Pace(self.plus) for x in found if isinstance(x, LoRALayer)}

    def _layer(self, site: Site) -> "LoRALayer":
        return LoRALayer(site.layer, site.path, self.rank, self.alpha, self.dropout)


class LoRALayer(ProjectionLayer):
    """A projection with its low-rank update; see `LoRA`.

    Args:
        base: the projection that is wrapped; its weights stay where they are.
        site: the site's path.
        rank, alpha, dropout: as in `LoRA`.
    """

    def __init__(self, base: Any, site: str, rank: int, alpha: float, dropout: float):
        super().__init__(base, site, "lora")
        self.scale = alpha / rank
        self.drop = keras.layers.Dropout(dropout, dtype=base.dtype_policy) if dropout else None
        bound = 1.0 / np.sqrt(self.shape.inputs)
        self.lora_a = self.add_weight(
            name="lora_a",
            shape=(self.shape.inputs, rank),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        self.lora_b = self.add_weight(
            name="lora_b", shape=(rank, self.shape.outputs), initializer="zeros"
        )
        self.built = True

    def call(self, inputs, training=None):
        """Project, and add the update."""
        seen = self.drop(inputs, training=training) if self.drop else inputs
        update = self.shape.low_rank(seen, self.lora_a, self.lora_b)
        return self.activation(self.base(inputs) + update * self.scale)

    def delta(self) -> np.ndarray:
        """(alpha / rank) * A B in the kernel's shape, float64."""
        product = np.asarray(self.lora_a, np.float64) @ np.asarray(self.lora_b, np.float64)
        return self.shape.as_kernel(product) * self.scale

    def changed(self, kernel, bias):
        """The kernel with the update."""
        return kernel + self.delta(), bias
