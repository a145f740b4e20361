"""Prefix tuning: keys and values in front of those of the text, in every block."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.backbones import Block, Site, sites
from kerasft.backbones._surgery import inside
from kerasft.backbones._surgery_soft import let_look_at, look_away
from kerasft.methods._dense import dense_layers, fixed
from kerasft.methods._projection import Projection
from kerasft.methods._site_layers import ProjectionLayer, SiteLayer, kernel_and_bias, put

from keras import ops  # isort: skip  (kerasft.backbones has chosen the backend)


@dataclass(frozen=True)
class PrefixTuning:
    """Prefix tuning: trained keys and values in front of the text's, in each block's attention.

        attention(Q, [P_k; K], [P_v; V]),   P_k, P_v [virtual tokens, key/value heads, head size]

    Only P_k and P_v learn. They start as the keys and values that the block itself makes of vectors
    drawn from N(0, 1), which is what a norm gives, so a fresh prefix answers as if some random
    tokens were in sight. With `projection` they are made of a smaller matrix, and an MLP learns:

        [P_k, P_v] = tanh(P W_1 + b_1) W_2 + b_2

    The paper's MLP is shared by the blocks up to its last layer; here each block has its own.
    The prefix has no positions: the text's begin with 0 and a rotation does not touch it. PEFT
    counts the prefix, so that its text begins with position n.

    Args:
        virtual_tokens: the number of keys and values in each block, n.
        projection: width of the MLP's hidden layer, 0 for none.
        blocks: numbers or names of the blocks that get a prefix; all where empty.
        seed: of the start.

    Raises:
        InputError: for a family without such attention (FNet, DeBERTa, T5), and for BART.

    Example:
        >>> adapted = adapt(backbone, PrefixTuning(virtual_tokens=10))

    Reference: Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
    https://arxiv.org/abs/2101.00190
    """

    name: ClassVar[str] = "prefix-tuning"
    virtual_tokens: int = 20
    projection: int = 0
    blocks: tuple[int | str, ...] = ()
    seed: int = 0

    def __post_init__(self):
        whole("virtual_tokens", self.virtual_tokens, 1)
        whole("projection", self.projection)
        whole("seed", self.seed)

    @property
    def learning_rate(self) -> float:
        """1e-2 moves keys and values, of size 1, in some hundred steps; at it an MLP diverges."""
        return 1e-3 if self.projection else 1e-2

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put a prefix into each attention."""
        places = sites(backbone)
        family = places.family
        blocks = {block.index: block for block in places.chosen(self.blocks)}
        chosen = [block.attention for block in blocks.values()]
        if family.kind == "encoder-decoder" or None in chosen:
            raise InputError(
                "A prefix stands before the keys and values of plain attention in an encoder or a "
                f"decoder. Received: {family.backbone}, {_why(family)}. Use lora."
            )

        def layer(site: Site) -> PrefixLayer:
            return self._layer(site, blocks[site.block])

        return put(backbone, chosen, PrefixLayer, layer)

    def _layer(self, site: Site, block: Block) -> "PrefixLayer":
        random = np.random.default_rng([self.seed, block.index])
        pair = [block.projections[role].layer for role in ("key", "value")]
        shapes = [p.shape if isinstance(p, ProjectionLayer) else Projection.of(p) for p in pair]
        seen = random.standard_normal((self.virtual_tokens, shapes[0].inputs))
        heads = shapes[0].produced_sizes
        if self.projection:
            return PrefixLayer(site.layer, site.path, heads, seen, self.projection, random)
        made = [_projected(seen, p, shape) for p, shape in zip(pair, shapes, strict=True)]
        return PrefixLayer(site.layer, site.path, heads, np.stack(made))


def _why(family: Any) -> str:
    if family.kind == "encoder-decoder":
        return "an encoder-decoder, whose two sequences have prefixes of their own"
    if not family.maskable:
        return "which mixes tokens by Fourier transforms and has no attention"
    return "whose attention scores are made of distances between tokens, and a prefix has no place"


def _projected(seen: np.ndarray, layer: Any, shape: Projection) -> np.ndarray:
    """What a projection makes of vectors [n, width], [n, heads, head size]."""
    kernel, bias = kernel_and_bias(layer)
    made = (seen @ shape.as_matrix(kernel)).reshape(len(seen), *shape.produced_sizes)
    return made if bias is None else made + bias


class PrefixLayer(SiteLayer):
    """An attention layer that sees a prefix; see `PrefixTuning`.

    Args:
        base: the attention layer, which is called as before.
        site: the site's path.
        heads: number and size of the heads of keys and values.
        start: keys and values at the start, [2, n, heads, size]; with `projection` what the MLP
            reads, [n, width].
        projection: width of the MLP's hidden layer, 0 for none.
        random: draws the MLP.
    """

    unmergeable = "a prefix stands before keys and values and is no part of a weight"

    def __init__(
        self,
        base: Any,
        site: str,
        heads: tuple[int, ...],
        start: np.ndarray,
        projection: int = 0,
        random: np.random.Generator | None = None,
    ):
        super().__init__(base, site, "prefix")
        self.heads, self.dense = heads, ()
        if projection:
            self.count, width = start.shape
            sizes = (width, projection, 2 * heads[0] * heads[1])
            self.vectors = self.add_weight(
                name="vectors", shape=start.shape, initializer=fixed(start)
            )
            self.dense = dense_layers(self, "projection", sizes, "tanh", random)
        else:
            self.count = start.shape[1]
            self.keys, self.values = (
                self.add_weight(name=name, shape=values.shape, initializer=fixed(values))
                for name, values in zip(("keys", "values"), start, strict=True)
            )
        self.built = True
        let_look_at(inside(base), self.count, self.prefix)

    def __call__(self, *args, **kwargs):
        """The attention's own: Keras would refuse what it takes, a cache beside a plain number."""
        return self.base(*args, **kwargs)

    def prefix(self) -> tuple[Any, Any]:
        """Keys and values, [n, heads, size] each."""
        if not self.dense:
            return ops.convert_to_tensor(self.keys), ops.convert_to_tensor(self.values)
        x = ops.cast(self.vectors, self.compute_dtype)
        for dense in self.dense:
            x = dense(x)
        pair = ops.reshape(x, (self.count, 2, *self.heads))
        return pair[:, 0], pair[:, 1]

    def unwrap(self) -> Any:
        """Give back the attention, without the prefix."""
        look_away(inside(self.base))
        return self.base
