"""LoRA: a low-rank update beside frozen projections."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, whole
from kerasft._core.errors import InputError
from kerasft.backbones import ROLES, Site, sites
from kerasft.methods._projection import Projection
from kerasft.methods._trainable import set_trainable


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
            `gate`, `up`, `down`.

    Raises:
        InputError: if the backbone has no such projection.

    Example:
        >>> adapted = LoRA(rank=8, alpha=16).apply(backbone)

    Reference: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
    https://arxiv.org/abs/2106.09685
    """

    name: ClassVar[str] = "lora"
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("query", "value")

    def __post_init__(self):
        whole("rank", self.rank, 1)
        in_range("alpha", self.alpha, 0, above=True)
        in_range("dropout", self.dropout, 0, 0.999)
        if not self.targets or isinstance(self.targets, str):
            raise InputError(
                f"`targets` is a list of projections, of: {', '.join(ROLES)}. "
                f"Received: targets={self.targets!r}."
            )

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put an update beside each target."""
        chosen = list(sites(backbone).targets(tuple(self.targets)))
        set_trainable(backbone, lambda variable: False)
        for site in chosen:
            if isinstance(site.layer, LoRALayer):
                raise InputError(f"{site.path} carries a LoRA update already; merge it first.")
            site.put(LoRALayer(site.layer, self.rank, self.alpha, self.dropout, name=site.path))
        return backbone

    def merge(self, backbone: Any) -> Any:
        """Add every update to its projection, in float64, and take the wrappers away."""
        for site in self.adapted_sites(backbone):
            layer = site.layer
            kernel = layer.base.kernel
            merged = np.asarray(kernel, np.float64) + layer.delta()
            kernel.assign(merged.astype(np.float32))
            site.put(layer.unwrap())
        set_trainable(backbone, lambda variable: True)
        return backbone

    def adapted_sites(self, backbone: Any) -> list[Site]:
        """The sites that carry an update; `InputError` if there is none (merged already)."""
        found = [s for s in sites(backbone).targets(self.targets) if isinstance(s.layer, LoRALayer)]
        if not found:
            raise InputError("This backbone carries no LoRA update: it was merged already.")
        return found

    def state(self, backbone: Any) -> dict[str, np.ndarray]:
        """The adapter's weights by site path: `blocks.0.query.A` [in, rank], `...B` [rank, out]."""
        found = {}
        for site in self.adapted_sites(backbone):
            found[f"{site.path}.A"] = np.asarray(site.layer.lora_a, np.float32)
            found[f"{site.path}.B"] = np.asarray(site.layer.lora_b, np.float32)
        return found

    def load_state(self, backbone: Any, state: dict[str, np.ndarray]) -> None:
        """Set the adapter's weights; `InputError` unless exactly the expected ones are there."""
        expected = self.state(backbone)
        shapes = {k: v.shape for k, v in state.items()}
        if shapes != {k: v.shape for k, v in expected.items()}:
            odd = sorted(set(shapes) ^ set(expected)) or [
                k for k in expected if shapes[k] != expected[k].shape
            ]
            raise InputError(
                f"The adapter does not fit this method and backbone; {len(odd)} weights differ, "
                f"first: {odd[0]}."
            )
        for site in self.adapted_sites(backbone):
            site.layer.lora_a.assign(state[f"{site.path}.A"])
            site.layer.lora_b.assign(state[f"{site.path}.B"])


import keras  # noqa: E402  (kerasft.backbones has chosen the backend)


class LoRALayer(keras.layers.Layer):
    """A projection with its low-rank update; see `LoRA`.

    Args:
        base: the `Dense` or `EinsumDense` that is wrapped; its weights stay where they are.
        rank, alpha, dropout: as in `LoRA`.
    """

    def __init__(self, base: Any, rank: int, alpha: float, dropout: float, name: str):
        super().__init__(name=name.replace(".", "_") + "_lora", dtype=base.dtype_policy)
        self.base, self.shape = base, Projection.of(base)
        self.scale = alpha / rank
        # The update comes before the activation, so the wrapper takes the activation over.
        self.activation, base.activation = base.activation, keras.activations.linear
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

    def unwrap(self) -> Any:
        """Give the wrapped layer back as it was."""
        self.base.activation = self.activation
        return self.base
