"""Compacter: adapters whose matrices are sums of Kronecker products."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft._core.checks import one_of, whole
from kerasft._core.errors import InputError
from kerasft.methods._bottleneck import ACTIVATIONS, Bottleneck, place
from kerasft.methods._site_layers import Shared, SiteLayer

import keras  # isort: skip  (kerasft.backbones has chosen the backend)

_PLACEMENTS = ("houlsby", "pfeiffer")


@dataclass(frozen=True)
class Compacter:
    """Compacter: adapters (see `Adapters`) with matrices of few numbers.

        W = sum_i kron(A_i, S_i T_i),   i = 1 ... parts

    for D [hidden, size] and U [size, hidden] of every adapter: A_i [parts, parts] is shared by
    all of them, S_i [inputs / parts, rank] and T_i [rank, outputs / parts] are each matrix's own.
    U's T is zero at the start, so that a fresh adapter is silent.

    Args:
        placement: `houlsby` (behind attention and feed-forward), or `pfeiffer` (behind the
            feed-forward alone, which the paper calls Compacter++).
        size: the width of the bottleneck; a multiple of `parts`.
        parts: the number of products in the sum; it divides the backbone's hidden size.
        rank: the rank of S_i T_i.
        activation: f, of `relu`, `gelu`, `silu`, `tanh`.
        blocks: numbers or names of the blocks that get adapters; all where empty.

    Raises:
        InputError: if a size is no multiple of `parts`, or the backbone has no place for the
            adapters.

    Example:
        >>> adapted = adapt(backbone, Compacter(size=24, parts=4))

    Reference: Karimi Mahabadi et al. 2021, "Compacter: Efficient Low-Rank Hypercomplex Adapter
    Layers", https://arxiv.org/abs/2106.04647
    """

    name: ClassVar[str] = "compacter"
    learning_rate: ClassVar[float] = 1e-2
    placement: str = "houlsby"
    size: int = 24
    parts: int = 4
    rank: int = 1
    activation: str = "gelu"
    blocks: tuple[int | str, ...] = ()

    def __post_init__(self):
        one_of("placement", self.placement, _PLACEMENTS)
        one_of("activation", self.activation, ACTIVATIONS)
        for key in ("size", "parts", "rank"):
            whole(key, getattr(self, key), 1)
        self._divided(self.size, "`size`")

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put adapters into its blocks."""
        self._divided(backbone.hidden_dim, "The hidden size of this backbone")
        shared = Shared(self._rules)

        def matrix(
            layer: SiteLayer, name: str, inputs: int, outputs: int, zero: bool
        ) -> Callable[[], Any]:
            (rules,) = shared.weights(layer)
            left, right = self._factors(layer, name, inputs, outputs, zero)
            return lambda: kronecker_sum(rules, left, right)

        bottleneck = Bottleneck(self.name, self.size, self.activation, matrix)
        return place(backbone, self.placement, self.blocks, bottleneck)

    def _divided(self, size: int, what: str) -> None:
        if size % self.parts:
            raise InputError(
                f"{what} must be a multiple of `parts`. Received: {size} and parts={self.parts}."
            )

    def _rules(self, layer: SiteLayer) -> tuple[Any]:
        """All A_i, drawn so that W's numbers are as large as those of S T."""
        start = keras.initializers.RandomNormal(stddev=self.parts**-0.5)
        return (layer.add_weight(name="rules", shape=(self.parts,) * 3, initializer=start),)

    def _factors(
        self, layer: SiteLayer, name: str, inputs: int, outputs: int, zero: bool
    ) -> tuple[Any, Any]:
        """S and T, drawn so that W's numbers are as large as in an adapter's matrix."""
        start = keras.initializers.RandomNormal(stddev=(3 * inputs * self.rank) ** -0.25)
        n, rank = self.parts, self.rank
        return (
            layer.add_weight(name=f"{name}_left", shape=(n, inputs // n, rank), initializer=start),
            layer.add_weight(
                name=f"{name}_right",
                shape=(n, rank, outputs // n),
                initializer="zeros" if zero else start,
            ),
        )


def kronecker_sum(rules: Any, left: Any, right: Any) -> Any:
    """sum_i kron(A_i, S_i T_i) for A [n, p, q], S [n, c, rank] and T [n, rank, e]: [p c, q e]."""
    pieces = keras.ops.einsum("npq,ncr,nre->pcqe", rules, left, right)
    (_, p, q), c, e = rules.shape, left.shape[1], right.shape[2]
    return keras.ops.reshape(pieces, (p * c, q * e))
