"""The head that reads one vector a token: dropout, logits."""

from dataclasses import dataclass
from typing import Any

from kerasft._core import stack
from kerasft.backbones import Family

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)


@dataclass(frozen=True)
class TokenHead:
    """Logits of every token, as Transformers' `...ForTokenClassification` makes them.

        logits_t = dropout(h_t) W + b

    Args:
        outputs: the number of logits a token.
        dropout: share of a token's units dropped in training.
        name: name of the dense layer.
    """

    outputs: int
    dropout: float = 0.1
    name: str = "logits"

    def build(self, family: Family, features: Any, inputs: dict[str, Any]) -> Any:
        """Connect the head to a backbone's symbolic outputs; logits [batch, length, outputs]."""
        sequence = features["sequence_output"] if isinstance(features, dict) else features
        x = keras.layers.Dropout(self.dropout, dtype="float32", name="head_dropout")(sequence)
        return keras.layers.Dense(
            self.outputs,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype="float32",
            name=self.name,
        )(x)
