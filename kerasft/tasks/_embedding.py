"""Vectors of texts: the head that makes them, and the losses that compare them."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasft._core import stack
from kerasft.backbones import Family
from kerasft.heads import ClassificationHead, Pool

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)

# The logit of what is no negative: its share of a softmax is 0.
_NEVER = -1e9


@dataclass(frozen=True)
class EmbeddingHead:
    """One vector a text: pooled, dropped out, and of length 1 where it is normalised.

        pooled -> dropout -> v / |v|

    Args:
        pooling: `cls`, `mean`, `max` or `last`.
        normalize: whether the vectors have length 1.
        dropout: share of the pooled units dropped in training.
    """

    pooling: str
    normalize: bool
    dropout: float

    def build(self, family: Family, features: Any, inputs: dict[str, Any]) -> Any:
        """Connect the head to a backbone's symbolic outputs; float32 [batch, width]."""
        pooling = ClassificationHead(1, self.pooling).resolved_pooling(family)
        sequence = features["sequence_output"] if isinstance(features, dict) else features
        x = Pool(pooling, name="pool")(sequence, inputs.get("padding_mask"))
        x = keras.layers.Dropout(self.dropout, dtype="float32", name="head_dropout")(x)
        if not self.normalize:
            return x
        return keras.layers.UnitNormalization(dtype="float32", name="unit")(x)


def units(vectors: Any) -> Any:
    """Vectors of length 1, float32 [..., width]; 0 stays 0."""
    return tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1, epsilon=1e-12)


def gathered(rows: Any) -> Any:
    """The rows of all replicas, one replica's behind the other's; the gradient goes back to each.

    Replicas may hold unlike numbers of rows, or none.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return rows
    return replica.all_gather(rows, axis=0)


@keras.saving.register_keras_serializable("kerasft")
class NegativesLoss(keras.losses.Loss):
    """Multiple negatives ranking: which passage of the batch belongs to the query.

        loss_i = -log( exp(s cos(q_i, p_i)) / sum_j exp(s cos(q_i, p_j)) )

    The sum is over the passages and the hard negatives of all rows on all replicas. Left out of it
    are texts that are the passage p_i itself, and passages of rows with the same query: both would
    be right answers that are learned as wrong ones.

    Args:
        scale: s.
        symmetric: take the mean with the loss of finding the query of a passage.

    Call arguments: y int [batch, sides], the same number for the same text (query, passage, hard
    negative); vectors [batch, sides, width]. Returns [batch] before reduction.

    Reference: Henderson et al. 2017, https://arxiv.org/abs/1705.00652 (4.4);
    van den Oord et al. 2018, https://arxiv.org/abs/1807.03748
    """

    def __init__(self, scale: float = 20.0, symmetric: bool = False, **options: Any):
        super().__init__(**({"name": "multiple_negatives"} | options))
        self.scale, self.symmetric = scale, symmetric

    def logits(self, y_true: Any, y_pred: Any) -> list[Any]:
        """For each direction [batch, 1 + candidates]: the right one's logit, then all negatives'.

        What is no negative has a logit of -1e9.
        """
        own = units(y_pred)
        every, numbers = gathered(own), gathered(y_true)
        right = self.scale * tf.reduce_sum(own[:, 0] * own[:, 1], axis=-1, keepdims=True)
        query, passage = (
            tf.equal(y_true[:, side, None], numbers[None, :, side]) for side in (0, 1)
        )
        known = [query | passage]
        known += [
            tf.equal(y_true[:, 1, None], numbers[None, :, side])
            for side in range(2, y_pred.shape[1])
        ]
        candidates = tf.concat([every[:, side] for side in range(1, y_pred.shape[1])], axis=0)
        found = [self._row(right, own[:, 0], candidates, tf.concat(known, axis=1))]
        if self.symmetric:
            found.append(self._row(right, own[:, 1], every[:, 0], known[0]))
        return found

    def _row(self, right: Any, vectors: Any, candidates: Any, known: Any) -> Any:
        cosines = tf.matmul(vectors, candidates, transpose_b=True)
        return tf.concat([right, tf.where(known, _NEVER, self.scale * cosines)], axis=1)

    def call(self, y_true, y_pred):
        """One loss a row."""
        losses = [
            tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]
            for logits in self.logits(y_true, y_pred)
        ]
        return sum(losses) / len(losses)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "scale": self.scale, "symmetric": self.symmetric}


@keras.saving.register_keras_serializable("kerasft")
class TripletLoss(keras.losses.Loss):
    """A query is nearer to its passage than to its negative, by a margin.

        loss = max(0, m + cos(q, n) - cos(q, p))

    Args:
        margin: m, a difference of cosines (of cosine distances).

    Call arguments: y is not read; vectors [batch, 3, width] of query, passage and negative.
    Returns [batch] before reduction.

    Reference: Schroff et al. 2015, https://arxiv.org/abs/1503.03832
    """

    def __init__(self, margin: float = 0.5, **options: Any):
        super().__init__(**({"name": "triplet"} | options))
        self.margin = margin

    def call(self, y_true, y_pred):
        """One loss a row."""
        return tf.nn.relu(self.margin - nearer(y_pred))

    def get_config(self):
        """The argument."""
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable("kerasft")
class CosineLoss(keras.losses.Loss):
    """The squared error of a cosine.

        loss = (cos(a, b) - y)^2

    Call arguments: y [batch, 1]; vectors [batch, 2, width]. Returns [batch] before reduction.

    Reference: Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084
    """

    def __init__(self, **options: Any):
        super().__init__(**({"name": "cosine_error"} | options))

    def call(self, y_true, y_pred):
        """One loss a row."""
        return tf.square(cosines(y_pred) - tf.cast(y_true[:, 0], tf.float32))


def cosines(vectors: Any) -> Any:
    """Cosines of the first two vectors of each row [batch, sides, width]; float32 [batch]."""
    unit = units(vectors)
    return tf.reduce_sum(unit[:, 0] * unit[:, 1], axis=-1)


def nearer(vectors: Any) -> Any:
    """cos(q, p) - cos(q, n) of each row [batch, 3, width]; float32 [batch]."""
    unit = units(vectors)
    return tf.reduce_sum(unit[:, 0] * (unit[:, 1] - unit[:, 2]), axis=-1)


@keras.saving.register_keras_serializable("kerasft")
class Nearest(keras.metrics.Mean):
    """The share of rows whose passage is nearer to the query than every negative.

    Args:
        triplet: compare with the row's own negative alone, not with all of the batch.

    Call arguments: as of `NegativesLoss`, or of `TripletLoss`.
    """

    def __init__(self, triplet: bool = False, name: str = "accuracy", **options: Any):
        super().__init__(name=name, **options)
        self.triplet = triplet

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch; of equal cosines the passage counts as the later one."""
        if self.triplet:
            right = nearer(y_pred) > 0
        else:
            (logits,) = NegativesLoss().logits(y_true, y_pred)
            right = logits[:, 0] > tf.reduce_max(logits[:, 1:], axis=1)
        super().update_state(tf.cast(right, tf.float32), sample_weight)

    def get_config(self):
        """The argument."""
        return {**super().get_config(), "triplet": self.triplet}


@keras.saving.register_keras_serializable("kerasft")
class CosineError(keras.metrics.Mean):
    """The mean absolute error of the cosine. Call arguments: as of `CosineLoss`."""

    def __init__(self, name: str = "mae", **options: Any):
        super().__init__(name=name, **options)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch."""
        error = tf.abs(cosines(y_pred) - tf.cast(y_true[:, 0], tf.float32))
        super().update_state(error, sample_weight)
