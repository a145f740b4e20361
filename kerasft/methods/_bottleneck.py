"""What adapters share: where they stand, and the bottleneck."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kerasft._core.errors import InputError
from kerasft.backbones import Site, sites
from kerasft.methods._site_layers import SiteLayer, projection_of, put

import keras  # isort: skip  (kerasft.backbones has chosen the backend)
import tensorflow as tf

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


class RandomDepth:
    """How many of the first blocks go without their adapters in a step of training.

    It follows from the state of a random generator, which moves on after every step: the replicas
    and the parts of a step read one number, and a checkpoint, which holds the state, the next ones.

    Args:
        least, most: what is drawn is from least to most, each as likely.
    """

    def __init__(self, least: int, most: int):
        self.least, self.most = least, most
        self.generator = keras.random.SeedGenerator()

    def now(self) -> Any:
        """The number of this step, int32."""
        seed = tf.cast(self.generator.state.value, tf.int32)
        return tf.random.stateless_uniform((), seed, self.least, self.most + 1, tf.int32)

    def penalty(self) -> float:
        """No penalty; see `watch_of`."""
        return 0.0

    def after(self, pairs: list[tuple[Any, Any]]) -> None:
        """Let the next step draw another number."""
        self.generator.next()


def place(
    backbone: Any,
    placement: str,
    blocks: tuple[int | str, ...],
    bottleneck: Bottleneck,
    depth: RandomDepth | None = None,
) -> Any:
    """Freeze a backbone and put adapters into it; `InputError` where they have no place.

    `depth` says which of them are left out in training, where it is given.
    """
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
        left_out = None if depth is None else LeftOut(depth, site.block)
        if placement != "parallel":
            return BottleneckLayer(site.layer, site.path, bottleneck, left_out=left_out)
        width = projection_of(places.blocks[site.block].projections["up"].layer).inputs
        return BottleneckLayer(site.layer, site.path, bottleneck, width, read[site.block], left_out)

    return put(backbone, places.targets(PLACEMENTS[placement], blocks), BottleneckLayer, make)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """When the adapters of a block are left out of training.

    Args:
        depth: how many of the first blocks are, step by step.
        block: the number of the block.
    """

    depth: RandomDepth
    block: int

    def kept(self, dtype: Any) -> Any:
        """1 where this step has the adapters of the block, 0 where not."""
        return tf.cast(self.depth.now() <= self.block, dtype)


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
        left_out: when the adapter is left out of training; never where None.
    """

    unmergeable = "an adapter has an activation between its matrices"

    def __init__(
        self,
        base: Any,
        site: str,
        bottleneck: Bottleneck,
        width: int | None = None,
        read: threading.local | None = None,
        left_out: LeftOut | None = None,
    ):
        super().__init__(base, site, bottleneck.kind)
        self.left_out = left_out
        if left_out is not None:  # held here too, or Keras would not count its state as a variable
            self.generator = left_out.depth.generator
        outputs, size, matrix = projection_of(base).outputs, bottleneck.size, bottleneck.matrix
        self.read, self.scale = read, bottleneck.scale
        self.activation = keras.activations.get(bottleneck.activation)
        self.down = matrix(self, "down", outputs if width is None else width, size, False)
        self.down_bias = self.add_weight(name="down_bias", shape=(size,), initializer="zeros")
        # Zero at the start, so that a fresh adapter is silent.
        self.up = matrix(self, "up", size, outputs, True)
        self.up_bias = self.add_weight(name="up_bias", shape=(outputs,), initializer="zeros")
        self.built = True

    def call(self, inputs, training=None):
        """Project, and add what the adapter makes of it, or of what the feed-forward reads."""
        seen = given = self.base(inputs)
        if self.read is not None:
            seen = self.read.inputs
            del self.read.inputs  # no tensor outlives the call
        inner = self.activation(keras.ops.matmul(seen, self.down()) + self.down_bias)
        update = (keras.ops.matmul(inner, self.up()) + self.up_bias) * self.scale
        if training and self.left_out is not None:
            # Times 0: a tf.cond would save its time, but each of the blocks would hold two graphs.
            update = update * self.left_out.kept(update.dtype)
        return given + update
