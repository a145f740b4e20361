"""AdamW in which single weights learn at a rate of their own, and all move by a kernel each."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from types import MappingProxyType
from typing import Any, final

from kerasft._core import stack
from kerasft._core.checks import in_range, nearest, whole
from kerasft._core.errors import InputError
from kerasft._core.weights import named
from kerasft.optimizers._surgery import across_replicas, at_once, moments_of, summed

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
import tensorflow as tf  # noqa: E402
from keras import ops  # noqa: E402

_NO_DECAY = ("bias", "beta", "gamma", "scale")


@dataclass(frozen=True)
class Pace:
    """How fast a weight learns beside the others.

        rate of the weight = rate * multiplier from the epoch on, 0 before it

    Args:
        multiplier: of the learning rate, and so of the decay too; more than 0.
        from_epoch: the epoch, from 0, before which the weight stands still.

    Raises:
        InputError: for any other number.

    Example:
        >>> Pace(0.5) * Pace(0.5, from_epoch=1)
        Pace(multiplier=0.25, from_epoch=1)

    Reference: Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text
    Classification", https://arxiv.org/abs/1801.06146
    """

    multiplier: float = 1.0
    from_epoch: int = 0

    def __post_init__(self):
        in_range("multiplier", self.multiplier, 0, above=True)
        whole("from_epoch", self.from_epoch)

    def __mul__(self, other: "Pace") -> "Pace":
        """Both at once: the multipliers multiplied, from the later epoch on."""
        later = max(self.from_epoch, other.from_epoch)
        return Pace(self.multiplier * other.multiplier, later)


EVEN = Pace()


def decays(variable: Any) -> bool:
    """Whether a weight decays: biases, what norms have, and other vectors do not."""
    name = variable.path.rsplit("/", 1)[-1]
    vector = len(variable.shape) < 2  # what methods scale with: 0 is no place to be drawn to
    return not vector and name not in _NO_DECAY and not name.endswith("_bias")


@dataclass(frozen=True)
class _Own:
    """What is a variable's own: its pace, whether it decays, its moments."""

    pace: Pace
    decays: bool
    moments: tuple[Any, Any]


@keras.saving.register_keras_serializable("kerasft")
@final
@at_once
class PacedAdamW(keras.optimizers.AdamW):
    """AdamW that scales learning rate and decay weight by weight.

        w <- w - rate * pace * (m / (sqrt(v) + eps) + decay * w)

    What a weight does follows from the number of updates made, so there is no state beside
    AdamW's own: a checkpoint of the one fits the other. Biases, norms and other vectors do not
    decay.

    A weight of float32 with a dense gradient is moved by TensorFlow's own kernel for Adam, a node
    of the graph where Keras has some forty; what all share is computed once. The kernel rounds
    1 - beta_2 as float32 does, by 1e-5 of it, for the second moment as for its correction. Other
    weights, and an optimizer that is asked for more (`amsgrad`, `use_ema`, `clipnorm`,
    `clipvalue`, `gradient_accumulation_steps`), go the way of `keras.optimizers.AdamW`.

    Args:
        learning_rate: a number or a schedule.
        paces: path of a weight -> `Pace`, or its two numbers. Paths are those of
            `kerasft._core.weights.named`, of the weights that the optimizer is built with.
        steps_per_epoch: updates in an epoch; needed where a pace has an epoch.
        options: of `keras.optimizers.AdamW`.

    Raises:
        InputError: for an epoch without `steps_per_epoch`, or a path that no weight has.

    Example:
        >>> PacedAdamW(1e-3, {"logits/kernel": Pace(10.0)}, weight_decay=0.01)
    """

    def __init__(
        self,
        learning_rate: Any,
        paces: Mapping[str, Any],
        steps_per_epoch: int | None = None,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        # Keras and TensorFlow would track what a plain dict holds as parts of the model.
        self.paces = MappingProxyType(
            {path: p if isinstance(p, Pace) else Pace(*p) for path, p in paces.items()}
        )
        if steps_per_epoch is not None:
            whole("steps_per_epoch", steps_per_epoch, 1)
        elif any(pace.from_epoch for pace in self.paces.values()):
            raise InputError(
                "A weight that learns from an epoch on needs `steps_per_epoch`. "
                "Received: steps_per_epoch=None. Give the updates in an epoch."
            )
        self.steps_per_epoch = steps_per_epoch

    def build(self, variables: list[Any]) -> None:
        """Make the moments, and find the pace of each variable."""
        if self.built:
            return
        found = named(variables)
        for path in self.paces:
            if path not in found:
                raise InputError(
                    f"A pace is for a weight that is trained. Received: {path!r}, which is none "
                    f"of {len(found)}." + nearest(path, found)
                )
        # Keras decays all at one rate, and computes that for each of them: they decay here.
        self.exclude_from_weight_decay(var_list=variables)
        super().build(variables)
        strategy, table = tf.distribute.get_strategy(), {}
        for (path, variable), moments in zip(found.items(), moments_of(self), strict=True):
            decaying = decays(variable) and bool(self.weight_decay)
            own = _Own(self.paces.get(path, EVEN), decaying, moments)
            # TensorFlow hands `update_step` its own variable, under a strategy that of a replica.
            for part in (variable.value, *strategy.experimental_local_results(variable.value)):
                table[id(part)] = own
        self.table = MappingProxyType(table)

    def update_all(self, gradients: list[Any], variables: list[Any]) -> bool:
        """Move all variables by a kernel each, or say that this is not for it."""
        more = (self.use_ema, self.gradient_accumulation_steps, self.clipnorm, self.clipvalue)
        sparse = any(isinstance(g, tf.IndexedSlices) for g in gradients)
        variables = [v.value if isinstance(v, keras.Variable) else v for v in variables]
        if self.amsgrad or any(more) or sparse or any(v.dtype != tf.float32 for v in variables):
            return False
        gradients = [tf.cast(g, tf.float32) for g in gradients]
        gradients = summed(self, _clipped(gradients, self.global_clipnorm), variables)
        rates, shared = self._rates(variables), self._shared()

        def move_all(strategy, pairs, rates, shared):
            for (gradient, variable), own in zip(pairs, rates, strict=True):
                args = (gradient, *own, self.table[id(variable)], shared)
                strategy.extended.update(variable, _move, args=args, group=False)

        across_replicas(move_all, list(zip(gradients, variables)), rates, shared)
        return True

    def _rates(self, variables: list[Any]) -> list[tuple[Any, Any]]:
        """Learning rate and decay of each variable, made once for all of a pace."""
        rate, made = tf.cast(self.learning_rate, tf.float32), {}
        paces = [self.table[id(v)].pace for v in variables]
        for pace in paces:
            if pace not in made:
                own = rate if pace == EVEN else self._rate(pace, rate)
                made[pace] = own, own * (self.weight_decay or 0.0)
        return [made[pace] for pace in paces]

    def _shared(self) -> dict[str, Any]:
        """What the kernel reads that is the same for all variables."""
        step = tf.cast(self.iterations + 1, tf.float32)
        beta_1, beta_2 = tf.cast(self.beta_1, tf.float32), tf.cast(self.beta_2, tf.float32)
        return {
            "beta1": beta_1,
            "beta2": beta_2,
            "beta1_power": tf.pow(beta_1, step),
            "beta2_power": tf.pow(beta_2, step),
            "epsilon": tf.cast(self.epsilon, tf.float32),
        }

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable as Keras does."""
        own = self.table[id(variable)]
        rate = ops.cast(learning_rate, variable.dtype)
        if own.pace != EVEN:
            rate = self._rate(own.pace, rate)
        if own.decays:
            variable.assign_sub(variable * ops.cast(self.weight_decay, variable.dtype) * rate)
        super().update_step(gradient, variable, rate)

    def _rate(self, pace: Pace, rate: Any) -> Any:
        rate = rate * pace.multiplier
        if not pace.from_epoch:
            return rate
        # A weight that stands still goes through Adam too, at a rate of 0: its moments follow the
        # gradients. Were they 0 when it is let go, Adam would not correct them for it, because it
        # counts the steps of all: the second moment lags behind the first, and the first dozen of
        # steps would be three to six times too large.
        begun = ops.greater_equal(self.iterations, pace.from_epoch * self.steps_per_epoch)
        return rate * ops.cast(begun, rate.dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        paces = {path: list(astuple(pace)) for path, pace in self.paces.items()}
        return super().get_config() | {"paces": paces, "steps_per_epoch": self.steps_per_epoch}


def _clipped(gradients: list[Any], limit: float | None) -> list[Any]:
    """The gradients with their global norm limited; NaN where that is not finite, as in Keras."""
    if not limit:
        return gradients
    norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(g) for g in gradients]))
    scale = limit * tf.minimum(1.0 / norm, 1.0 / limit) + (norm - norm)
    return [g * scale for g in gradients]


def _move(variable: Any, gradient: Any, rate: Any, decay: Any, own: _Own, shared: Any) -> None:
    """Move a variable that lies on one device; the decay comes before, as in Keras."""
    if own.decays:
        variable.assign_sub(variable * decay, read_value=False)
    first, second = (moment.value.handle for moment in own.moments)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle, m=first, v=second, lr=rate, grad=gradient, use_locking=True, **shared
    )
