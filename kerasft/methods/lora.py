"""LoRA: a low-rank update beside frozen projections, and its kin: rsLoRA, PiSSA and DoRA."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import ROLES, Site, sites
from kerasft.backbones._surgery import around
from kerasft.methods._dense import fixed
from kerasft.methods._site_layers import ProjectionLayer, check_rank, layers_of, put, roles
from kerasft.methods._trainable import hold
from kerasft.optimizers import Pace

import keras  # isort: skip  (kerasft.backbones has chosen the backend)

_PATTERN = re.compile(rf"(blocks\.\d+\.)?({'|'.join(ROLES)})")


@dataclass(frozen=True)
class LoRA:
    """LoRA: a trained low-rank update beside each frozen projection.

        y = x W + b + s * dropout(x) A B,   s = alpha / rank,   B = 0 at the start

    so that a fresh adapter changes nothing, and merging adds s A B to W. Variants of it:

        rslora   s = alpha / sqrt(rank)
        pissa    y = x W + b + s * dropout(x) (A B - A0 B0),
                 s A0 B0 = the part of W of its `rank` largest singular values, A = A0 and B = B0
                 at the start: what is learned is that part, and W - s A0 B0 stands still
        dora     y = x W' + b,   W' = m * (W + s A B) / |W + s A B|,   m = |W| at the start

    with the lengths | | of the columns, m one number a column, and |W + s A B| taken as a constant
    in the gradient. With each of them a fresh adapter changes nothing.

    Args:
        rank: the number of columns of A [inputs, rank] and of rows of B [rank, outputs].
        alpha: the update is scaled by alpha / rank.
        dropout: share of the update's inputs dropped in training, 0 to 1.
        targets: the projections that get an update, of `query`, `key`, `value`, `output`,
            `gate`, `up`, `down`, and `cross_query` ... in an encoder-decoder; all where empty.
        blocks: numbers or names of the blocks that get updates; all where empty.
        scaling: `standard`, or `rslora`, which keeps the size of the update at high ranks.
        start: `uniform` draws A and sets B to 0; `pissa` as above. Weight decay pulls A and B of
            `pissa` away from the pretrained weights: set `weight_decay` to 0 with it.
        dora: whether lengths and directions of the columns are learned apart.
        ranks: other ranks for some projections, by role or by site: `{query: 16,
            blocks.0.query: 4}`; a site goes before a role.
        plus: LoRA+: by how much the rate of B is above that of A, more than 0 (see
            https://arxiv.org/abs/2402.12354, Hayou et al. 2024, which takes 16).

    Raises:
        InputError: if the backbone has no such projection, or one is narrower than its rank.

    Example:
        >>> adapted = LoRA(rank=8, alpha=16).apply(backbone)

    Reference: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
    https://arxiv.org/abs/2106.09685; Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for
    Fine-Tuning with LoRA", https://arxiv.org/abs/2312.03732; Meng et al. 2024, "PiSSA",
    https://arxiv.org/abs/2404.02948; Liu et al. 2024, "DoRA", https://arxiv.org/abs/2402.09353
    """

    name: ClassVar[str] = "lora"
    learning_rate: ClassVar[float] = 1e-3
    rank: int = 4
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    blocks: tuple[int | str, ...] = ()
    scaling: str = "standard"
    start: str = "uniform"
    dora: bool = False
    ranks: Mapping[str, int] = dataclasses.field(default_factory=dict, hash=False)
    plus: float = 1.0

    def __post_init__(self):
        in_range("plus", self.plus, 0, above=True)
        whole("rank", self.rank, 1)
        in_range("alpha", self.alpha, 0, above=True)
        in_range("dropout", self.dropout, 0, 0.999)
        roles(self.targets)
        one_of("scaling", self.scaling, ("standard", "rslora"))
        one_of("start", self.start, ("uniform", "pissa"))
        one_of("dora", self.dora, (False, True))
        object.__setattr__(self, "ranks", _patterns(self.ranks))

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put an update beside each target."""
        chosen = sites(backbone).targets(self.targets, self.blocks)
        self.check(chosen)
        return put(backbone, chosen, LoRALayer, self._layer)

    def paces(self, backbone: Any) -> dict[str, Pace]:
        """The rate of each B beside that of the rest."""
        return {x.lora_b.path: Pace(self.plus) for x in layers_of(backbone, LoRALayer)}

    def check(self, chosen: list[Site]) -> None:
        """Raise `InputError` if the sites cannot have their ranks, before one is touched."""
        known = {name for site in chosen for name in (site.path, site.role)}
        for pattern in self.ranks:
            if pattern not in known:
                one_of("ranks", pattern, sorted(known))
        for site in chosen:
            wrapped = any(isinstance(x, ProjectionLayer) for x in around(site.layer))
            if wrapped and (self.dora or self.start == "pissa"):
                raise InputError(
                    f"`dora` and `pissa` read the weights of {site.path}, which carries another "
                    f"method already. Received: {self}. Name `lora` before it in the chain; beside "
                    "`qlora` they cannot be."
                )
            check_rank(site, self._rank(site))

    def _rank(self, site: Site) -> int:
        return self.ranks.get(site.path, self.ranks.get(site.role, self.rank))

    def _layer(self, site: Site) -> "LoRALayer":
        return LoRALayer(
            site.layer,
            site.path,
            self._rank(site),
            self.alpha,
            self.dropout,
            scaling=self.scaling,
            start=self.start,
            dora=self.dora,
        )


def _patterns(ranks: Any) -> dict[str, int]:
    """A checked copy of `ranks`."""
    if not isinstance(ranks, Mapping):
        raise InputError(
            f"`ranks` is a mapping from projections to ranks. Received: ranks={ranks!r}. Write "
            "{query: 16, blocks.0.value: 4}."
        )
    for name, rank in ranks.items():
        if not isinstance(name, str) or not _PATTERN.fullmatch(name):
            raise InputError(
                "A key of `ranks` is a role or a site, `query` or `blocks.0.query`, the role one "
                f"of: {', '.join(ROLES)}. Received: {name!r}."
            )
        whole(f"ranks.{name}", rank, 1)
    return dict(ranks)


class LoRALayer(ProjectionLayer):
    """A projection with its low-rank update; see `LoRA`.

    Args:
        base: the projection that is wrapped; its weights stay where they are.
        site: the site's path.
        rank, alpha, dropout, scaling, start, dora: as in `LoRA`.
    """

    def __init__(
        self,
        base: Any,
        site: str,
        rank: int,
        alpha: float,
        dropout: float,
        *,
        scaling: str = "standard",
        start: str = "uniform",
        dora: bool = False,
    ):
        super().__init__(base, site, "lora")
        self.scale = alpha / (np.sqrt(rank) if scaling == "rslora" else rank)
        self.drop = keras.layers.Dropout(dropout, dtype=base.dtype_policy) if dropout else None
        bound = 1.0 / np.sqrt(self.shape.inputs)
        a, b = keras.initializers.RandomUniform(-bound, bound), "zeros"
        self.start_a = self.start_b = self.magnitude = None
        if start == "pissa":
            left, right = _principal(self.shape.as_matrix(np.asarray(base.kernel)), rank)
            root = np.sqrt(self.scale)
            a, b = fixed(left / root), fixed(right / root)
            self.start_a = self._weight("lora_start_a", (self.shape.inputs, rank), a, False)
            self.start_b = self._weight("lora_start_b", (rank, self.shape.outputs), b, False)
        self.lora_a = self._weight("lora_a", (self.shape.inputs, rank), a)
        self.lora_b = self._weight("lora_b", (rank, self.shape.outputs), b)
        if dora:
            # By the very ops of `call`, so that m / |W| is 1 to the last bit at the start.
            lengths = self.shape.lengths(base.kernel, *self.factors(), self.scale)
            self.magnitude = self._weight(
                "lora_magnitude", (self.shape.outputs,), fixed(np.asarray(lengths))
            )
        self.built = True

    def _weight(self, name: str, shape: tuple[int, ...], start: Any, trainable: bool = True) -> Any:
        # Differences and lengths are taken in float32, also where the layer computes in less.
        made = self.add_weight(name=name, shape=shape, initializer=start, autocast=False)
        return made if trainable else hold(made)

    def factors(self) -> tuple[Any, Any]:
        """Two matrices whose product is the update without its scale: A and B.

        With a start that is no zero they are [A - A0, A0] and [B; B - B0], whose product is
        A B - A0 B0: 0 to the last bit where nothing has moved.
        """
        if self.start_a is None:
            return self.lora_a, self.lora_b
        a, b, ops = self.lora_a, self.lora_b, keras.ops
        left = ops.concatenate([a - self.start_a, ops.convert_to_tensor(self.start_a)], 1)
        return left, ops.concatenate([ops.convert_to_tensor(b), b - self.start_b], 0)

    def call(self, inputs, training=None):
        """Project, and add the update."""
        seen = self.drop(inputs, training=training) if self.drop else inputs
        left, right = self.factors()
        a, b = (keras.ops.cast(part, self.compute_dtype) for part in (left, right))
        update = self.shape.low_rank(seen, a, b) * self.scale
        out = self.base(inputs)
        if self.magnitude is None:
            return self.activation(out + update)
        lengths = self.shape.lengths(self.base.kernel, left, right, self.scale)
        share = self.magnitude / keras.ops.stop_gradient(lengths)
        share = keras.ops.cast(self.shape.beside_y(share), self.compute_dtype)
        # share * (x W + update) + b, without taking the bias away first, which would round.
        out = share * out + share * update
        return self.activation(
            out if self.base.bias is None else out + (1 - share) * self.base.bias
        )

    def delta(self) -> np.ndarray:
        """What is added to the kernel, before its columns get their lengths, float64."""
        left, right = (np.asarray(part, np.float64) for part in self.factors())
        return self.shape.as_kernel(left @ right) * self.scale

    def change(self, inner):
        """A and s B, of DoRA with the lengths of the columns."""
        left, right = (np.asarray(part, np.float64) for part in self.factors())
        if self.magnitude is None:
            return inner.plus(left, right * self.scale)
        share = self._share(np.asarray(self.base.kernel, np.float64) + self.delta())
        found = inner.scaled(share).plus(left, right * self.scale * share)
        if self.base.bias is None:
            return found
        return found.shifted((1 - share) * np.asarray(self.base.bias, np.float64).reshape(-1))

    def _share(self, kernel: np.ndarray) -> np.ndarray:
        """m / |W + s A B|, [outputs], float64."""
        lengths = np.linalg.norm(self.shape.as_matrix(kernel), axis=0)
        return np.asarray(self.magnitude, np.float64) / np.maximum(lengths, 1e-12)


def _principal(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Two factors, U sqrt(S) and sqrt(S) V^T, of the part of the largest singular values.

    They come from the smaller of M^T M and M M^T, which for a wide matrix takes a fraction of the
    time of a whole SVD.
    """
    matrix = matrix.astype(np.float64)
    if matrix.shape[0] < matrix.shape[1]:
        right, left = _principal(matrix.T, rank)
        return left.T, right.T
    squares, vectors = np.linalg.eigh(matrix.T @ matrix)
    v = vectors[:, ::-1][:, :rank]
    root = np.maximum(squares[::-1][:rank], 1e-24) ** 0.25
    return (matrix @ v) / root, root[:, None] * v.T
