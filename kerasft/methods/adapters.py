"""Adapters: small bottlenecks behind, or beside, the parts of each block."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import sites
from kerasft.methods._bottleneck import (
    ACTIVATIONS,
    PLACEMENTS,
    Bottleneck,
    BottleneckLayer,
    RandomDepth,
    place,
)
from kerasft.methods._site_layers import SiteLayer, layers_of

import keras  # isort: skip  (kerasft.backbones has chosen the backend)


@dataclass(frozen=True)
class Adapters:
    """Adapters: a trained bottleneck in each block of a frozen backbone.

        y + scale * (f(z D + d) U + u),   U = u = 0 at the start

    so that a fresh adapter is silent. With `houlsby` y = z is what attention's output projection
    gives, and another adapter reads what the feed-forward gives; `pfeiffer` has the latter alone;
    with `parallel` y is what the feed-forward gives and z what it reads.

    Args:
        placement: `houlsby`, `pfeiffer` or `parallel`.
        size: the width of the bottleneck: D is [hidden, size], U [size, hidden].
        activation: f, of `relu`, `gelu`, `silu`, `tanh`.
        scale: what the adapter's output is multiplied by; He et al. take 4 with `parallel`.
        blocks: numbers or names of the blocks that get adapters; all where empty.
        drop_first_blocks: the first n blocks get none (AdapterDrop), and run faster for it.
        drop_random_blocks: the most of the first blocks that go without their adapters in a step
            of training (the robust AdapterDrop), 0 for never: each update has a number of its own,
            drawn from `drop_first_blocks` to this, the same on all replicas. What the adapters
            left out add is multiplied by 0, so that the step takes as long, and their gradients
            are 0, by which AdamW still moves them a little. Any such number of blocks may lose
            their adapters afterwards (`kerasft.without_first_blocks`). In a loop of your own the
            next number is drawn by `watch_of(method, backbone, steps).after([])`.

    Raises:
        InputError: if no block is left, or the backbone has no place for the adapters.

    Example:
        >>> adapted = adapt(backbone, Adapters(placement="pfeiffer", size=48))

    Reference: Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP",
    https://arxiv.org/abs/1902.00751; Pfeiffer et al. 2020, "AdapterFusion",
    https://arxiv.org/abs/2005.00247; He et al. 2021, "Towards a Unified View of
    Parameter-Efficient Transfer Learning", https://arxiv.org/abs/2110.04366; Rücklé et al. 2020,
    "AdapterDrop", https://arxiv.org/abs/2010.11918
    """

    name: ClassVar[str] = "adapters"
    learning_rate: ClassVar[float] = 1e-3
    placement: str = "houlsby"
    size: int = 64
    activation: str = "relu"
    scale: float = 1.0
    blocks: tuple[int | str, ...] = ()
    drop_first_blocks: int = 0
    drop_random_blocks: int = 0

    def __post_init__(self):
        one_of("placement", self.placement, PLACEMENTS)
        one_of("activation", self.activation, ACTIVATIONS)
        whole("size", self.size, 1)
        whole("drop_first_blocks", self.drop_first_blocks)
        whole("drop_random_blocks", self.drop_random_blocks)
        if 0 < self.drop_random_blocks <= self.drop_first_blocks:
            raise InputError(
                "`drop_random_blocks` is more than `drop_first_blocks`, whose blocks have no "
                f"adapters anyway, or 0. Received: drop_random_blocks={self.drop_random_blocks}, "
                f"drop_first_blocks={self.drop_first_blocks}."
            )
        in_range("scale", self.scale, 0, above=True)

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put adapters into its blocks."""
        bottleneck = Bottleneck(self.name, self.size, self.activation, _matrix, self.scale)
        blocks, depth = self._blocks(backbone), None
        if self.drop_random_blocks:
            depth = RandomDepth(self.drop_first_blocks, self.drop_random_blocks)
        return place(backbone, self.placement, blocks, bottleneck, depth)

    def watch(self, backbone: Any, steps: int) -> RandomDepth | None:
        """With `drop_random_blocks`: draws how many blocks are left out, step by step."""
        if not self.drop_random_blocks:
            return None
        return layers_of(backbone, BottleneckLayer)[0].left_out.depth

    def without_first_blocks(self, count: int) -> "Adapters":
        """The method without the adapters of the first blocks, and none left out at random.

        Raises:
            InputError: if it has fewer already.
        """
        whole("count", count, self.drop_first_blocks)
        return replace(self, drop_first_blocks=count, drop_random_blocks=0)

    def _blocks(self, backbone: Any) -> tuple[int | str, ...]:
        """The blocks that get adapters; one at least has them in every step."""
        option = "drop_random_blocks" if self.drop_random_blocks else "drop_first_blocks"
        most = getattr(self, option)
        if not most:
            return self.blocks
        places = sites(backbone)
        places.need_separate_blocks(f"`{option}`")
        found = [b.index for b in places.chosen(self.blocks) if b.index >= self.drop_first_blocks]
        if not any(index >= most for index in found):
            raise InputError(
                f"`{option}` leaves no block with an adapter: this "
                f"{places.family.backbone} has {len(places.blocks)} blocks. "
                f"Received: {option}={most}, blocks={list(self.blocks)}. Drop fewer."
            )
        return tuple(found)


def _matrix(
    layer: SiteLayer, name: str, inputs: int, outputs: int, zero: bool
) -> Callable[[], Any]:
    """A matrix that is a weight itself, drawn as LoRA's."""
    bound = 1.0 / np.sqrt(inputs)
    start = "zeros" if zero else keras.initializers.RandomUniform(-bound, bound)
    weight = layer.add_weight(name=name, shape=(inputs, outputs), initializer=start)
    return lambda: weight
