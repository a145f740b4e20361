"""The head that reads one vector a text: pool, an optional hidden layer, dropout, logits."""

from dataclasses import dataclass
from typing import Any

from kerasft._core import stack
from kerasft._core.checks import one_of
from kerasft._core.errors import InputError
from kerasft.backbones import Family

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
from keras import ops  # noqa: E402

POOLINGS = ("cls", "mean", "max", "last")


@keras.saving.register_keras_serializable("kerasft")
class Pool(keras.layers.Layer):
    """One vector from a sequence: first token, mean, maximum, or last real token.

        mean = sum_t m_t h_t / sum_t m_t
        max  = max over t with m_t = 1, unit by unit
        last = h_t at the largest t with m_t = 1

    Args:
        pooling: `cls`, `mean`, `max` or `last`.

    Call arguments: the sequence [batch, length, width] and the padding mask [batch, length],
    1 on real tokens, or None (no mask: every position is real). Returns [batch, width], float32.
    """

    def __init__(self, pooling: str, **options: Any):
        super().__init__(**({"dtype": "float32"} | options))
        self.pooling = one_of("pooling", pooling, POOLINGS)

    def call(self, sequence, padding_mask=None):
        """Pool."""
        # Not named `mask`: Keras would fill that in by itself where None is given (FNet).
        sequence = ops.cast(sequence, "float32")
        if self.pooling == "cls":
            return sequence[:, 0]
        if padding_mask is None:
            padding_mask = ops.ones_like(sequence[:, :, 0])
        real = ops.expand_dims(ops.cast(padding_mask, "float32"), -1)
        if self.pooling == "mean":
            return ops.sum(sequence * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1.0)
        if self.pooling == "max":
            # With a start, so that no rows, a part of a short batch, have one too.
            return ops.max(ops.where(real > 0, sequence, -1e9), axis=1, initial=-1e9)
        places = ops.cast(ops.arange(ops.shape(sequence)[1]), "float32")
        last = ops.argmax(real[:, :, 0] * (places + 1.0), axis=1)
        return ops.take_along_axis(sequence, last[:, None, None], axis=1)[:, 0]

    def compute_output_shape(self, sequence_shape, *_):
        """[batch, width]."""
        return (sequence_shape[0], sequence_shape[-1])

    def get_config(self):
        """The pooling."""
        return {**super().get_config(), "pooling": self.pooling}


@dataclass(frozen=True)
class ClassificationHead:
    """Logits from a backbone's outputs, as a family's own classifier makes them.

        pooled -> [dense -> activation] -> dropout -> dense = logits

    Args:
        outputs: the number of logits.
        pooling: `cls`, `mean`, `max`, `last`, or None for the family's own. Only the family's own
            gets the family's pooler or hidden layer.
        dropout: share of the pooled units dropped in training.
    """

    outputs: int
    pooling: str | None = None
    dropout: float = 0.1

    def resolved_pooling(self, family: Family) -> str:
        """The pooling that is used on a family; `InputError` where it would read nothing."""
        pooling = one_of("pooling", self.pooling or family.head.pooling, POOLINGS)
        if pooling == "cls" and family.kind == "decoder":
            raise InputError(
                "A decoder's first token sees nothing of the text, so `cls` pooling cannot work "
                f"on {family.backbone}. Received: pooling='cls'. Use last, mean or max."
            )
        return pooling

    def is_own(self, family: Family) -> bool:
        """Whether this is the head that the family's own classifiers have."""
        return self.resolved_pooling(family) == family.head.pooling

    def build(self, family: Family, features: Any, inputs: dict[str, Any]) -> Any:
        """Connect the head to a backbone's symbolic outputs; returns logits [batch, outputs]."""
        return self.logits(family, self.pooled(family, features, inputs))

    def pooled(self, family: Family, features: Any, inputs: dict[str, Any]) -> Any:
        """The first half of `build`: the vectors of texts, [batch, width]."""
        pooling = self.resolved_pooling(family)
        if self.is_own(family) and family.head.pooler:
            return keras.layers.Activation("linear", dtype="float32", name="pool")(
                features["pooled_output"]
            )
        sequence = features["sequence_output"] if isinstance(features, dict) else features
        return Pool(pooling, name="pool")(sequence, inputs.get("padding_mask"))

    def logits(self, family: Family, x: Any) -> Any:
        """The second half of `build`: logits [batch, outputs] from the vectors of texts."""
        own, style = self.is_own(family), family.head
        if own and style.hidden:
            x = keras.layers.Dense(
                x.shape[-1],
                activation=style.hidden,
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
                dtype="float32",
                name="head_dense",
            )(x)
        x = keras.layers.Dropout(self.dropout, dtype="float32", name="head_dropout")(x)
        return keras.layers.Dense(
            self.outputs,
            use_bias=style.bias or not own,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype="float32",
            name="logits",
        )(x)
