"""What adapters share: where they stand, and the bottleneck."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kerasft._core.errors import InputError
from kerasft.backbones import Site, sites
from kerasft.methods._site_layers import SiteLayer, projection_of, put

import keras  # isort: skip  (kerasft.backbones has chosen the backend)

# Behind attention and behind the feed-forward, behind the latter alone, or beside it.
PLACEMENTS = {"houlsby": ("output", "down"), "pfeiffer": ("down",), "parallel": ("up", "down")}
ACTIVATIONS = ("relu", "gelu", "silu", "tanh")


@dataclass(frozen=True)
class Bottleneck:
    """D [width, size], f and U [size, outputs]: what an adapter makes of what it reads.

    Args:
        kind: the method's name.
        size: the width of the bottleneck.
        activation: f, of `ACTIVATIONS`.
        matrix: (layer, name, inputs, outputs, whether it is zero at the start) -> a function that
            gives the matrix [inputs, outputs], of weights of the layer.
        scale: the adapter's output is multiplied by it.
    """

    kind: str
    size: int
    activation: str
    matrix: Callable[[SiteLayer, str, int, int, bool], Callable[[], Any]]
    scale: float = 1.0


def place(
    backbone: Any, placement: str, blocks: tuple[int | str, ...], bottleneck: Bottleneck
) -> Any:
    """Freeze a backbone and put adapters into it; `InputError` where they have no place."""
    places = sites(backbone)
    if placement == "houlsby" and not any("output" in b.projections for b in places.blocks):
        raise InputError(
            f"`placement: houlsby` puts adapters behind attention, and {places.family.backbone} "
            f"has none. Received: placement={placement!r}. Use pfeiffer."
        )
    # What the feed-forward of a block reads, in the thread that runs the block.
    read = {block.index: threading.local() for block in places.blocks}

    def make(site: Site) -> SiteLayer:
        if site.role == "up":
            return Reader(site.layer, site.path, bottleneck.kind, read[site.block])
        if placement != "parallel":
            return BottleneckLayer(site.layer, site.path, bottleneck)
        width = projection_of(places.blocks[site.block].projections["up"].layer).inputs
        return BottleneckLayer(site.layer, site.path, bottleneck, width, read[site.block])

    return put(backbone, places.targets(PLACEMENTS[placement], blocks), BottleneckLayer, make)


class Reader(SiteLayer):
    """Stands at `up` and keeps what the feed-forward reads, for the adapter at `down`.

    A block runs `up` and then `down` within one call of its own, so what is kept is always that
    of the same call, in a graph as well as outside; the adapter takes it away.

    Args:
        base: the projection that is wrapped.
        site: the site's path.
        kind: the method's name.
        read: where it is kept.
    """

    def __init__(self, base: Any, site: str, kind: str, read: threading.local):
        super().__init__(base, site, kind)
        self.read = read
        self.built = True

    def call(self, inputs):
        """Keep the inputs and project them."""
        self.read.inputs = inputs
        return self.base(inputs)


class BottleneckLayer(SiteLayer):
    """A projection with an adapter: y + scale * (f(z D + d) U + u).

    z is y, what the projection gives, or what the block's feed-forward reads.

    Args:
        base: the projection that is wrapped.
        site: the site's path.
        bottleneck: the adapter.
        width: the size of z; that of y where None.
        read: where a `Reader` keeps z; z is y where None.
    """

    unmergeable = "an adapter has an activation between its matrices"

    def __init__(
        self,
        base: Any,
        site: str,
        bottleneck: Bottleneck,
        width: int | None = None,
        read: threading.local | None = None,
    ):
        super().__init__(base, site, bottleneck.kind)
        outputs, size, matrix = projection_of(base).outputs, bottleneck.size, bottleneck.matrix
        self.read, self.scale = read, bottleneck.scale
        self.activation = keras.activations.get(bottleneck.activation)
        self.down = matrix(self, "down", outputs if width is None else width, size, False)
        self.down_bias = self.add_weight(name="down_bias", shape=(size,), initializer="zeros")
        # Zero at the start, so that a fresh adapter is silent.
        self.up = matrix(self, "up", size, outputs, True)
        self.up_bias = self.add_weight(name="up_bias", shape=(outputs,), initializer="zeros")
        self.built = True

    def call(self, inputs):
        """Project, and add what the adapter makes of it, or of what the feed-forward reads."""
        seen = given = self.base(inputs)
        if self.read is not None:
            seen = self.read.inputs
            del self.read.inputs  # no tensor outlives the call
        inner = self.activation(keras.ops.matmul(seen, self.down()) + self.down_bias)
        return given + (keras.ops.matmul(inner, self.up()) + self.up_bias) * self.scale
