"""Losses of classification, one value a row; the mean over rows is taken by whoever trains."""

from typing import Any

from kerasft._core import stack

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
from keras import ops  # noqa: E402


@keras.saving.register_keras_serializable("kerasft")
class SoftmaxLoss(keras.losses.Loss):
    """Cross-entropy of one label a row, from logits, with smoothing, focus and class weights.

        q = (1 - s) onehot(y) + s / c,   loss = -w_y sum_k q_k (1 - p_k)^gamma log p_k

    Args:
        smoothing: s, the share of the target spread over all classes, 0 to 1.
        gamma: focal exponent; 0 is plain cross-entropy.
        class_weights: w, one weight a class, or () for 1.

    Call arguments: y int [batch], logits [batch, classes]. Returns [batch] before reduction.

    Reference: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567 (smoothing);
    Lin et al. 2017, https://arxiv.org/abs/1708.02002 (focal loss)
    """

    def __init__(
        self,
        smoothing: float = 0.0,
        gamma: float = 0.0,
        class_weights: tuple[float, ...] = (),
        **options: Any,
    ):
        super().__init__(**({"name": "cross_entropy"} | options))
        self.smoothing, self.gamma = smoothing, gamma
        self.class_weights = tuple(class_weights)

    def call(self, y_true, y_pred):
        """One loss a row."""
        classes = y_pred.shape[-1]
        y_true = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        if not (self.smoothing or self.gamma):
            # The same without a number for every class: a vocabulary has a hundred thousand.
            loss = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
            return self._weighted(loss, y_true)
        target = ops.one_hot(y_true, classes, dtype=y_pred.dtype)
        target = target * (1.0 - self.smoothing) + self.smoothing / classes
        log_p = ops.log_softmax(y_pred, axis=-1)
        # Kept above 0, where a power below 1 has no derivative.
        rest = ops.maximum(1.0 - ops.exp(log_p), 1e-7)
        focus = rest**self.gamma if self.gamma else 1.0
        return self._weighted(-ops.sum(target * focus * log_p, axis=-1), y_true)

    def _weighted(self, loss, y_true):
        if not self.class_weights:
            return loss
        return loss * ops.take(ops.convert_to_tensor(self.class_weights, "float32"), y_true)

    def get_config(self):
        """The arguments."""
        own = {
            "smoothing": self.smoothing,
            "gamma": self.gamma,
            "class_weights": list(self.class_weights),
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("kerasft")
class SigmoidLoss(keras.losses.Loss):
    """Binary cross-entropy of every class, from logits, averaged over the classes.

        t = (1 - s) y + s / 2,   loss = mean_k w_k [-t_k (1-p_k)^gamma log p_k
                                                    - (1-t_k) p_k^gamma log(1-p_k)]

    Args:
        smoothing, gamma, class_weights: as in `SoftmaxLoss`.

    Call arguments: y in {0, 1} [batch, classes], logits [batch, classes]. Returns [batch].
    """

    def __init__(
        self,
        smoothing: float = 0.0,
        gamma: float = 0.0,
        class_weights: tuple[float, ...] = (),
        **options: Any,
    ):
        super().__init__(**({"name": "binary_cross_entropy"} | options))
        self.smoothing, self.gamma = smoothing, gamma
        self.class_weights = tuple(class_weights)

    def call(self, y_true, y_pred):
        """One loss a row."""
        target = ops.cast(y_true, y_pred.dtype) * (1.0 - self.smoothing) + self.smoothing / 2
        log_p, log_q = ops.log_sigmoid(y_pred), ops.log_sigmoid(-y_pred)
        near, far = ops.exp(self.gamma * log_q), ops.exp(self.gamma * log_p)
        loss = -(target * near * log_p + (1.0 - target) * far * log_q)
        if self.class_weights:
            loss = loss * ops.convert_to_tensor(self.class_weights, "float32")
        return ops.mean(loss, axis=-1)

    def get_config(self):
        """The arguments."""
        own = {
            "smoothing": self.smoothing,
            "gamma": self.gamma,
            "class_weights": list(self.class_weights),
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("kerasft")
class TokenLoss(keras.losses.Loss):
    """Cross-entropy of the learned tokens of a row, from logits.

        loss = mean over t with y_t >= 0 of the cross-entropy of token t (`SoftmaxLoss`)

    A row without a learned token has loss 0.

    Args:
        smoothing: share of the target spread over all classes, 0 to 1.

    Call arguments: y int [batch, length], -1 where nothing is learned; logits
    [batch, length, classes]. Returns [batch] before reduction.
    """

    def __init__(self, smoothing: float = 0.0, **options: Any):
        super().__init__(**({"name": "token_cross_entropy"} | options))
        self.smoothing = smoothing
        self.each = SoftmaxLoss(smoothing)

    def call(self, y_true, y_pred):
        """One loss a row."""
        y_true = ops.cast(y_true, "int32")
        learned = ops.cast(y_true >= 0, "float32")
        flat = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
        losses = ops.reshape(self.each.call(ops.maximum(y_true, 0), flat), ops.shape(y_true))
        count = ops.maximum(ops.sum(learned, axis=-1), 1.0)
        return ops.sum(losses * learned, axis=-1) / count

    def get_config(self):
        """The argument."""
        return {**super().get_config(), "smoothing": self.smoothing}
