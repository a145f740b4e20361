"""VeRA: one random low-rank pair for all projections, and two trained vectors at each."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, whole
from kerasft.backbones import Site, sites
from kerasft.methods._site_layers import ProjectionLayer, Shared, projection_of, put, roles
from kerasft.methods._trainable import hold

import keras  # isort: skip  (kerasft.backbones has chosen the backend)


@dataclass(frozen=True)
class VeRA:
    """VeRA: two trained vectors scale a random low-rank update that all projections share.

        y = x W + c + b * ((d * (x A)) B),   b = 0 at the start, A and B drawn once and frozen

    so that a fresh one changes nothing, and merging adds A diag(d) B diag(b) to W. A and B have
    the sizes of the largest projection; the others read their first rows of A and columns of B.
    An adapter file holds d and b alone: the seed gives A and B again, and the fingerprint of the
    base covers them.

    Args:
        rank: the number of columns of A [inputs, rank] and of rows of B [rank, outputs]; d has
            as many numbers, b [outputs].
        seed: A and B are drawn from it, uniform within sqrt(6 / inputs) and sqrt(6 / rank).
        d_initial: what all numbers of d are at the start.
        targets: the projections that get an update, of `query`, `key`, `value`, `output`,
            `gate`, `up`, `down`, and `cross_query` ... in an encoder-decoder; all where empty.
        blocks: numbers or names of the blocks that get updates; all where empty.

    Raises:
        InputError: if the backbone has no such projection.

    Example:
        >>> adapted = adapt(backbone, VeRA(rank=256))

    Reference: Kopiczko et al. 2023, "VeRA: Vector-based Random Matrix Adaptation",
    https://arxiv.org/abs/2310.11454
    """

    name: ClassVar[str] = "vera"
    learning_rate: ClassVar[float] = 1.5e-2
    rank: int = 256
    seed: int = 0
    d_initial: float = 0.1
    targets: tuple[str, ...] = ("query", "value")
    blocks: tuple[int | str, ...] = ()

    def __post_init__(self):
        whole("rank", self.rank, 1)
        whole("seed", self.seed)
        in_range("d_initial", self.d_initial, 0, above=True)
        roles(self.targets)

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put an update beside each target."""
        chosen = sites(backbone).targets(self.targets, self.blocks)
        shapes = [projection_of(site.layer) for site in chosen]
        inputs, outputs = (max(getattr(s, n) for s in shapes) for n in ("inputs", "outputs"))
        pair = Shared(lambda layer: layer.frozen(*self.matrices(inputs, outputs)))

        def make(site: Site) -> VeRALayer:
            return VeRALayer(site.layer, site.path, pair, self.rank, self.d_initial)

        return put(backbone, chosen, VeRALayer, make)

    def matrices(self, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
        """A [inputs, rank] and B [rank, outputs], float32: the same whenever they are drawn."""
        random = np.random.default_rng(self.seed)
        a = random.uniform(-1, 1, (inputs, self.rank)) * np.sqrt(6 / inputs)
        b = random.uniform(-1, 1, (self.rank, outputs)) * np.sqrt(6 / self.rank)
        return a.astype(np.float32), b.astype(np.float32)


class VeRALayer(ProjectionLayer):
    """A projection with its two vectors; see `VeRA`.

    Args:
        base: the projection that is wrapped; its weights stay where they are.
        site: the site's path.
        pair: A and B, of all sites.
        rank, d_initial: as in `VeRA`.
    """

    def __init__(self, base: Any, site: str, pair: Shared, rank: int, d_initial: float):
        super().__init__(base, site, "vera")
        start = keras.initializers.Constant(d_initial)
        self.scale_d = self.add_weight(name="scale_d", shape=(rank,), initializer=start)
        self.scale_b = self.add_weight(
            name="scale_b", shape=(self.shape.outputs,), initializer="zeros"
        )
        self.pair = pair
        pair.weights(self)
        self.built = True

    def frozen(self, a: np.ndarray, b: np.ndarray) -> tuple[Any, Any]:
        """A and B as weights of this layer that never learn."""

        def weight(name: str, values: np.ndarray) -> Any:
            start = keras.initializers.Constant(values)
            return hold(self.add_weight(name=name, shape=values.shape, initializer=start))

        return weight("vera_a", a), weight("vera_b", b)

    @property
    def own(self):
        """The two vectors: A and B follow from the seed, so an adapter does without them."""
        return [self.scale_d, self.scale_b]

    def call(self, inputs):
        """Project, and add the update."""
        a, b = self.pair.weights(self)
        left = a[: self.shape.inputs] * self.scale_d
        right = b[:, : self.shape.outputs] * self.scale_b
        return self.activation(self.base(inputs) + self.shape.low_rank(inputs, left, right))

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """A diag(d) and B diag(b), float64."""
        a, b = (np.asarray(v, np.float64) for v in self.pair.weights(self))
        d, scale = (np.asarray(v, np.float64) for v in self.own)
        return a[: self.shape.inputs] * d, b[:, : self.shape.outputs] * scale

    def change(self, inner):
        """The two factors."""
        return inner.plus(*self.factors())
