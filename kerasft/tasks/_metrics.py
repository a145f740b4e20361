"""What the progress bar shows of targets that Keras' own metrics do not know."""

from typing import Any

from kerasft._core import stack

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
from keras import ops  # noqa: E402


@keras.saving.register_keras_serializable("kerasft")
class TokenAccuracy(keras.metrics.Mean):
    """The share of learned tokens whose best logit is the right one.

    Call arguments: y int [batch, length], -1 where nothing is learned; logits [batch, length, n].
    """

    def __init__(self, name: str = "accuracy", **options: Any):
        super().__init__(name=name, **options)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch; a row's sample weight counts for nothing here, each token counts once."""
        y_true = ops.cast(y_true, "int32")
        right = ops.cast(ops.equal(ops.argmax(y_pred, axis=-1), y_true), "float32")
        super().update_state(right, ops.cast(y_true >= 0, "float32"))
