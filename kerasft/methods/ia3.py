"""IA3: learned vectors rescale keys, values and the feed-forward's inner activations."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft.backbones import Site, sites
from kerasft.methods._site_layers import ProjectionLayer, put, roles


@dataclass(frozen=True)
class IA3:
    """IA3: a trained vector rescales what a frozen projection gives, or what it reads.

        y = l * (x W + b)        y = (l * x) W + b  at `down`        l = 1 at the start

    so that a fresh one changes nothing, and merging scales W's columns and b, or W's rows.

    Args:
        targets: the projections that are rescaled, of `query`, `key`, `value`, `output`, `gate`,
            `up`, `down`, and `cross_query` ... in an encoder-decoder; all where empty. At `down`
            the inputs are (l [inputs]), which are the feed-forward's inner activations; elsewhere
            the outputs, before an activation (l [outputs]).
        blocks: numbers or names of the blocks that are rescaled; all where empty.

    Raises:
        InputError: if the backbone has no such projection.

    Example:
        >>> adapted = adapt(backbone, IA3(targets=("key", "value", "down")))

    Reference: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper
    than In-Context Learning", https://arxiv.org/abs/2205.05638
    """

    name: ClassVar[str] = "ia3"
    learning_rate: ClassVar[float] = 1e-2
    targets: tuple[str, ...] = ("key", "value", "down")
    blocks: tuple[int | str, ...] = ()

    def __post_init__(self):
        roles(self.targets)

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put a vector at each target."""
        chosen = sites(backbone).targets(self.targets, self.blocks)
        return put(backbone, chosen, IA3Layer, self._layer)

    def _layer(self, site: Site) -> "IA3Layer":
        return IA3Layer(site.layer, site.path, of_inputs=site.role == "down")


class IA3Layer(ProjectionLayer):
    """A projection with its vector; see `IA3`.

    Args:
        base: the projection that is wrapped; its weights stay where they are.
        site: the site's path.
        of_inputs: whether the inputs are rescaled, and not the outputs.
    """

    def __init__(self, base: Any, site: str, of_inputs: bool):
        super().__init__(base, site, "ia3")
        self.of_inputs = of_inputs
        size = self.shape.inputs if of_inputs else self.shape.outputs
        self.ia3_l = self.add_weight(name="ia3_l", shape=(size,), initializer="ones")
        self.built = True

    def call(self, inputs):
        """Project what is rescaled, or rescale what is projected."""
        if self.of_inputs:
            return self.activation(self.base(inputs * self.shape.beside_x(self.ia3_l)))
        return self.activation(self.base(inputs) * self.shape.beside_y(self.ia3_l))

    def change(self, inner):
        """The vector, of what is read or of what is given."""
        factors = np.asarray(self.ia3_l, np.float64)
        return inner.reading(factors) if self.of_inputs else inner.scaled(factors)
