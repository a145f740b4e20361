"""The head of a masked language model: from vectors to logits of every id."""

from dataclasses import dataclass
from typing import Any

from kerasft._core import stack
from kerasft.backbones import Family

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
from keras import ops  # noqa: E402


@keras.saving.register_keras_serializable("kerasft")
def gelu_tanh(x):
    """GELU by a hyperbolic tangent, as Hugging Face's `gelu_new`."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("kerasft")
class TiedLogits(keras.layers.Layer):
    """Logits of every id, from vectors and the table of embeddings that the backbone reads.

        logits = x E^T + b

    E comes as an input, so that gradients reach it on both ways and it is stored once.

    Call arguments: x [batch, length, width] and E [vocabulary, width]. Returns float32
    [batch, length, vocabulary].
    """

    def __init__(self, **options: Any):
        super().__init__(**({"dtype": "float32"} | options))

    def build(self, x_shape, table_shape):
        """Make the bias."""
        self.bias = self.add_weight(name="bias", shape=table_shape[:1], initializer="zeros")
        self.built = True

    def call(self, x, table):
        """Compare each vector with each embedding."""
        flat = ops.reshape(x, (-1, x.shape[-1]))
        logits = ops.matmul(flat, ops.transpose(table)) + self.bias
        return ops.reshape(logits, (*ops.shape(x)[:-1], table.shape[0]))

    def compute_output_shape(self, x_shape, table_shape):
        """[batch, length, vocabulary]."""
        return (*x_shape[:-1], table_shape[0])


@dataclass(frozen=True)
class MaskedHead:
    """What Transformers' `...ForMaskedLM` puts on a backbone.

        logits = LayerNorm(act(h W + a)) E^T + b

    with E the token embeddings; W leads to their width.

    Args:
        activation: the backbone's own, as `describe_backbone` names it under `fixes`; that of
            the family's head takes its place where it has one.
        epsilon: of the norm.
    """

    activation: str = "gelu"
    epsilon: float = 1e-12

    def build(self, family: Family, features: Any, inputs: dict[str, Any]) -> Any:
        """Connect the head to symbolic outputs with `token_table` (`kerasft.methods.Adapted`);
        returns logits [batch, length, vocabulary]."""
        name, table = family.masked_activation or self.activation, features["token_table"]
        x = keras.layers.Dense(
            table.shape[-1],
            activation=gelu_tanh if name == "gelu_tanh" else name,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype="float32",
            name="masked_dense",
        )(features["sequence_output"])
        x = keras.layers.LayerNormalization(
            epsilon=self.epsilon, dtype="float32", name="masked_norm"
        )(x)
        return TiedLogits(name="logits")(x, table)
