"""AdaLoRA: low-rank updates that share one budget of ranks, which goes where it matters."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, whole
from kerasft._core.errors import InputError
from kerasft.backbones import Site, sites
from kerasft.methods._site_layers import ProjectionLayer, Shared, check_rank, layers_of, put
from kerasft.methods._trainable import record
from kerasft.methods.lora import LoRA

import keras  # isort: skip  (kerasft.backbones has chosen the backend)
from keras import ops  # isort: skip


@dataclass(frozen=True)
class AdaLoRA:
    """AdaLoRA: low-rank updates in the form of an SVD, whose ranks are shared out in training.

        y = x W + b + s * dropout(x) P diag(lambda) Q,   s = alpha / initial_rank

    P and Q start as N(0, 0.02), lambda as 0, so that a fresh one changes nothing, and merging adds
    s P diag(lambda) Q to W. What is trained on is

        loss + orthogonality * mean over the projections of |P^T P - 1|^2 + |Q Q^T - 1|^2

    with squared Frobenius norms, as the paper has it (PEFT takes no squares). A triple is a number
    of lambda with its column of P and its row of Q. After update t of T, a weight w with gradient g
    has the importance I U, and a triple that of its number of lambda + the mean of its column + the
    mean of its row:

        I <- beta1 I + (1 - beta1) |w g|,   U <- beta2 U + (1 - beta2) | |w g| - I |

    Of all triples of all projections together the b(t) most important stay, and lambda of the
    others is set to 0. They learn on, and come back where they matter more than others do, until
    the budget is final:

        b(t) = all until start * T,  rank * projections from (1 - end) * T on, and between them
        rank * projections + (initial_rank - rank) * projections * (1 - share of the way) ^ 3

    All of that is done by `kerasft.train`, which knows T; where Keras' own `fit` trains the model,
    every triple stays, without the penalty. A run whose best epoch was an earlier one ends with the
    triples of that epoch. Where gradients are clipped, g is the one before. The scale is PEFT's up
    to the 1e-5 that it adds to the rank, and never changes.

    Args:
        rank: how many triples a projection has at the end, on average.
        initial_rank: how many each has at first, at least `rank`: columns of P [inputs,
            initial_rank], numbers of lambda, rows of Q [initial_rank, outputs].
        alpha: the update is scaled by alpha / initial_rank, also at the end.
        dropout, targets, blocks: as in `LoRA`.
        start: share of all updates before the budget begins to fall, 0 to 1.
        end: share of all updates, the last ones, with the final budget; below 1 - start.
        every: updates from one choice of triples to the next; with the final budget it is made
            after each.
        beta1, beta2: of the past in I and in U, between 0 and 1.
        orthogonality: weight of the penalty, 0 or more.

    Raises:
        InputError: if the backbone has no such projection, or one is narrower than initial_rank.

    Example:
        >>> adapted = adapt(backbone, AdaLoRA(rank=4, initial_rank=6))

    Reference: Zhang et al. 2023, "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient
    Fine-Tuning", https://arxiv.org/abs/2303.10512
    """

    name: ClassVar[str] = "adalora"
    learning_rate: ClassVar[float] = 5e-3
    rank: int = 8
    initial_rank: int = 12
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("query", "value")
    blocks: tuple[int | str, ...] = ()
    start: float = 0.1
    end: float = 0.3
    every: int = 1
    beta1: float = 0.85
    beta2: float = 0.85
    orthogonality: float = 0.1

    def __post_init__(self):
        whole("rank", self.rank, 1)
        whole("initial_rank", self.initial_rank, 1)
        if self.rank > self.initial_rank:
            raise InputError(
                "`rank` is what is left of `initial_rank`, so at most as much. Received: "
                f"rank={self.rank}, initial_rank={self.initial_rank}. Half as much again is usual."
            )
        LoRA(self.initial_rank, self.alpha, self.dropout, self.targets, self.blocks)
        whole("every", self.every, 1)
        for option in ("start", "end"):
            in_range(option, getattr(self, option), 0, 1)
        if self.start + self.end >= 1:
            raise InputError(
                "Between `start` and `end` the budget falls, so together they are less than 1. "
                f"Received: start={self.start}, end={self.end}. Take 0.1 and 0.3."
            )
        for option in ("beta1", "beta2"):
            in_range(option, getattr(self, option), 0, 0.999999, above=True)
        in_range("orthogonality", self.orthogonality, 0)

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put an update beside each target."""
        chosen = sites(backbone).targets(self.targets, self.blocks)
        for site in chosen:
            check_rank(site, self.initial_rank, "initial_rank")
        count = Shared(lambda layer: (layer.counter(),))

        def make(site: Site) -> AdaLoRALayer:
            rank, alpha, dropout = self.initial_rank, self.alpha, self.dropout
            return AdaLoRALayer(site.layer, site.path, rank, alpha, dropout, count)

        return put(backbone, chosen, AdaLoRALayer, make)

    def watch(self, backbone: Any, steps: int) -> "Budget":
        """The penalty, and the sharing out after every step."""
        return Budget(self, tuple(layers_of(backbone, AdaLoRALayer)), steps)

    def final(self, steps: int) -> int:
        """The update after which the budget is final, of so many."""
        return steps - round(self.end * steps)

    def kept(self, step: int, steps: int, projections: int) -> int:
        """How many triples stay after an update, counted from 1; all where none are chosen."""
        every, last = self.initial_rank * projections, self.rank * projections
        first, final = round(self.start * steps), self.final(steps)
        if step >= final:
            return last
        if step <= first or step % self.every:
            return every
        return int((every - last) * (1 - (step - first) / (final - first)) ** 3 + last)


class AdaLoRALayer(ProjectionLayer):
    """A projection with its update; see `AdaLoRA`.

    Args:
        base: the projection that is wrapped; its weights stay where they are.
        site: the site's path.
        rank: the number of triples at first.
        alpha, dropout: as in `AdaLoRA`.
        count: the number of updates made, of all sites.
    """

    def __init__(
        self, base: Any, site: str, rank: int, alpha: float, dropout: float, count: Shared
    ):
        super().__init__(base, site, "adalora")
        self.scale = alpha / rank
        self.drop = keras.layers.Dropout(dropout, dtype=base.dtype_policy) if dropout else None
        normal = keras.initializers.RandomNormal  # one a matrix: an instance repeats its numbers
        self.p = self._weighed("p", (self.shape.inputs, rank), normal(stddev=0.02))
        self.values = self._weighed("lambda", (rank,), "zeros")
        self.q = self._weighed("q", (rank, self.shape.outputs), normal(stddev=0.02))
        self.count = count
        count.weights(self)
        self.built = True

    def _weighed(self, name: str, shape: tuple[int, ...], start: Any) -> "Weighed":
        def make(name: str, start: Any, **options: Any) -> Any:
            # Every replica finds the same number, from the same gradients: one of them is taken.
            return self.add_weight(
                name=f"adalora_{name}",
                shape=shape,
                initializer=start,
                aggregation="only_first_replica",
                **options,
            )

        sensitivity, uncertainty = (
            record(make(f"{name}_{what}", "zeros", autocast=False))
            for what in ("sensitivity", "uncertainty")
        )
        return Weighed(make(name, start), sensitivity, uncertainty)

    def counter(self) -> Any:
        """The number of updates made, as a weight of this layer."""
        made = self.add_weight(
            name="adalora_updates",
            shape=(),
            dtype="int32",
            initializer="zeros",
            aggregation="only_first_replica",
        )
        return record(made)

    @property
    def parts(self) -> tuple["Weighed", "Weighed", "Weighed"]:
        """P, lambda and Q."""
        return self.p, self.values, self.q

    def call(self, inputs, training=None):
        """Project, and add the update."""
        seen = self.drop(inputs, training=training) if self.drop else inputs
        left = self.p.weight * self.values.weight
        update = self.shape.low_rank(seen, left, ops.convert_to_tensor(self.q.weight)) * self.scale
        return self.activation(self.base(inputs) + update)

    def penalty(self) -> Any:
        """How far the columns of P, and the rows of Q, are from being orthonormal."""
        p, q = (ops.convert_to_tensor(part.weight) for part in (self.p, self.q))
        one = ops.eye(q.shape[0])
        products = ops.matmul(ops.transpose(p), p), ops.matmul(q, ops.transpose(q))
        return sum(ops.sum(ops.square(product - one)) for product in products)

    def importance(self) -> Any:
        """The importance of each triple, [rank]."""
        p, values, q = (part.importance() for part in self.parts)
        return values + ops.mean(p, axis=0) + ops.mean(q, axis=1)

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """P diag(lambda) and s Q, float64."""
        p, values, q = (np.asarray(part.weight, np.float64) for part in self.parts)
        return p * values, q * self.scale

    def change(self, inner):
        """The two factors."""
        return inner.plus(*self.factors())


@dataclass(frozen=True)
class Weighed:
    """A weight, and the running means that its importance is made of; see `AdaLoRA`.

    Args:
        weight: what is trained.
        sensitivity: I.
        uncertainty: U.
    """

    weight: Any
    sensitivity: Any
    uncertainty: Any

    def add(self, gradient: Any, beta1: float, beta2: float, wanted: Any) -> None:
        """Take a gradient into I and U, where `wanted`."""
        i, u = (ops.convert_to_tensor(v) for v in (self.sensitivity, self.uncertainty))
        now = ops.abs(self.weight * gradient)
        mean = beta1 * i + (1 - beta1) * now
        self.sensitivity.assign(ops.where(wanted, mean, i))
        spread = beta2 * u + (1 - beta2) * ops.abs(now - mean)
        self.uncertainty.assign(ops.where(wanted, spread, u))

    def importance(self) -> Any:
        """I U."""
        return self.sensitivity * self.uncertainty


class Budget:
    """The budget of a training: what `AdaLoRA` does at every step.

    Args:
        method: the method.
        layers: its layers.
        steps: updates in the whole training.
    """

    def __init__(self, method: AdaLoRA, layers: tuple[AdaLoRALayer, ...], steps: int):
        self.method, self.layers, self.final = method, layers, method.final(steps)
        (self.count,) = layers[0].count.made
        kept = [method.kept(step, steps, len(layers)) for step in range(steps + 1)]
        self.kept = np.array(kept, np.int32)

    def penalty(self) -> Any:
        """The weighted mean over the projections."""
        total = sum(layer.penalty() for layer in self.layers)
        return self.method.orthogonality * total / len(self.layers)

    def after(self, pairs: list[tuple[Any, Any]]) -> None:
        """Take the gradients into the importance, and set lambda to 0 where it is least."""
        found = {id(variable): gradient for gradient, variable in pairs}
        step = ops.convert_to_tensor(self.count) + 1
        self.count.assign(step)
        parts = [(part, found[id(part.weight)]) for layer in self.layers for part in layer.parts]
        # In float16 an update is left out where any gradient is infinite: so is what it says here.
        finite = ops.all(ops.stack([ops.all(ops.isfinite(gradient)) for gradient, _ in pairs]))
        wanted = ops.logical_and(finite, step <= self.final)
        for part, gradient in parts:
            part.add(gradient, self.method.beta1, self.method.beta2, wanted)
        # Always the same ops: with a budget of all nothing is set to 0. A tf.cond could not hold
        # the assignments, which the replicas make together.
        scores = ops.concatenate([layer.importance() for layer in self.layers])
        place = ops.argsort(ops.argsort(-scores))  # the most important has 0; no two have the same
        keep = place < ops.take(self.kept, ops.minimum(step, len(self.kept) - 1))
        for layer, kept in zip(self.layers, ops.split(keep, len(self.layers)), strict=True):
            values = layer.values.weight
            values.assign(ops.where(kept, values, ops.zeros_like(values)))
