"""Scores of candidate labels, and how they are learned."""

from typing import Any

import tensorflow as tf

from kerasft._core import stack
from kerasft.tasks._losses import SoftmaxLoss

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)

# The least probability, for 0 is what a list is padded with.
_LEAST = 1e-30


def scored(through: str, outputs: Any, index: int, scale: float) -> Any:
    """Scores of the candidates of examples of several sequences, [batch, candidates].

    Args:
        through: `entailment`: outputs are logits [batch, candidates, classes] of (text,
            hypothesis), and the score is that of the class `index`; `similarity`: vectors
            [batch, 1 + candidates, width], the text's first, and the score is `scale` cos.
    """
    outputs = tf.cast(outputs, tf.float32)
    if through == "entailment":
        return outputs[..., index]
    return scale * tf.reduce_sum(outputs[:, :1] * outputs[:, 1:], axis=-1)


@keras.saving.register_keras_serializable("kerasft")
class CandidateLoss(keras.losses.Loss):
    """Cross-entropy of the right one among the candidates.

        loss = - log softmax(scores)_y

    Args:
        through, index, scale: as in `scored`.
        smoothing: share of the target spread over all candidates.

    Call arguments: y int [batch], outputs as `scored` takes them. Returns [batch] before reduction.
    """

    def __init__(
        self,
        through: str,
        index: int = 0,
        scale: float = 1.0,
        smoothing: float = 0.0,
        **options: Any,
    ):
        super().__init__(**({"name": "candidate_cross_entropy"} | options))
        self.own = {"through": through, "index": index, "scale": scale}
        self.smoothing, self.each = smoothing, SoftmaxLoss(smoothing)

    def call(self, y_true, y_pred):
        """One loss a row."""
        return self.each.call(y_true, scored(outputs=y_pred, **self.own))

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), **self.own, "smoothing": self.smoothing}


@keras.saving.register_keras_serializable("kerasft")
class CandidateAccuracy(keras.metrics.Mean):
    """The share of rows whose best candidate is the right one; arguments as `scored`."""

    def __init__(
        self,
        through: str,
        index: int = 0,
        scale: float = 1.0,
        name: str = "accuracy",
        **options: Any,
    ):
        super().__init__(name=name, **options)
        self.own = {"through": through, "index": index, "scale": scale}

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch."""
        best = tf.argmax(scored(outputs=y_pred, **self.own), axis=-1, output_type=tf.int32)
        right = tf.cast(best == tf.reshape(tf.cast(y_true, tf.int32), [-1]), tf.float32)
        super().update_state(right, sample_weight)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), **self.own}


def chosen(scores: Any, labels: Any) -> dict[str, Any]:
    """The best of each row's candidates.

    Args:
        scores: float32 [candidates of all rows].
        labels: ragged string [batch, (candidates)].

    Returns:
        `label` string [batch], "" without candidates; `probabilities` float32 [batch, most
        candidates]: the softmax over a row's candidates, padded with 0, which no real one is.
    """
    ragged = labels.with_values(scores)
    dense, names = ragged.to_tensor(-float("inf")), labels.to_tensor("")
    some = labels.row_lengths() > 0
    real = tf.sequence_mask(labels.row_lengths(), tf.shape(dense)[1])
    # A row without candidates has nothing to divide by.
    safe = tf.where(some[:, None], dense, 0.0)
    p = tf.where(real, tf.maximum(tf.nn.softmax(safe), _LEAST), 0.0)
    wide = tf.pad(names, [[0, 0], [0, tf.cast(tf.shape(names)[1] == 0, tf.int32)]])
    best = tf.argmax(tf.pad(safe, [[0, 0], [0, tf.shape(wide)[1] - tf.shape(names)[1]]]), axis=1)
    return {"label": tf.gather(wide, best, batch_dims=1), "probabilities": p}
