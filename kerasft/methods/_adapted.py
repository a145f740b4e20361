"""One layer around a backbone and its method, so that both survive every way of saving."""

from typing import Any

from kerasft._core import stack
from kerasft._core.errors import InputError
from kerasft.backbones import build_backbone, describe_backbone, lm_logits, run_packed
from kerasft.backbones.crossing import steady
from kerasft.backbones.prompts import run_prompted, virtual_tokens
from kerasft.backbones.vocabulary import token_table
from kerasft.methods import registry
from kerasft.methods._site_layers import carried

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)


@keras.saving.register_keras_serializable("kerasft")
class Adapted(keras.layers.Layer):
    """A backbone to which a method has been applied.

    Keras rebuilds a saved model from configurations. KerasHub's hold the pristine backbone only,
    so a wrapped layer inside would be lost; this layer's configuration is (description of the
    pristine backbone, method), and building it applies the method again.

    Args:
        backbone: a description (`describe_backbone`) from which the backbone is built.
        method: the method's configuration (`registry.config`).
        built: the backbone itself, if it is there already and the method has not been applied.
    """

    def __init__(self, backbone: dict, method: dict, built: Any = None, **options: Any):
        super().__init__(**options)
        self.description, self.method_config = dict(backbone), dict(method)
        pristine = steady(built) if built is not None else build_backbone(backbone)
        self.backbone = registry.build(method).apply(pristine)

    def call(self, inputs, training=None, logits=False, table=False):
        """Run the backbone; inputs with `document_ids` are rows of several documents each.

        With `logits` a decoder's outputs, an encoder-decoder's too, become logits of the next
        token, [batch, length, ids].
        With `table` the outputs are `sequence_output` and `token_table`, the embeddings of the
        tokens [ids, width] in float32, for a head that is tied to them.
        """
        if isinstance(inputs, dict) and "document_ids" in inputs:
            outputs = run_packed(self.backbone, inputs, training)
        else:
            outputs = run_prompted(self.backbone, inputs, training)
        if table:
            whole = keras.ops.convert_to_tensor(token_table(self.backbone).embeddings)
            sequence = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
            return {"sequence_output": sequence, "token_table": keras.ops.cast(whole, "float32")}
        return lm_logits(self.backbone, outputs) if logits else outputs

    def compute_output_spec(self, inputs, training=None, logits=False, table=False):
        """What `call` gives, as Keras asks when it connects layers.

        The graph of a plain backbone knows it already, and Keras' own way, to trace all of `call`,
        takes longer than everything else that building a model does.
        """
        names = {i.name for i in self.backbone.inputs}
        if table or set(inputs) != names or virtual_tokens(self.backbone):
            return super().compute_output_spec(
                inputs, training=training, logits=logits, table=table
            )
        found = self.backbone.compute_output_spec(inputs)
        if not logits:
            return found
        return keras.KerasTensor((*found.shape[:-1], self.backbone.vocabulary_size), "float32")

    def get_config(self):
        """Description of the backbone, and the method."""
        own = {"backbone": self.description, "method": self.method_config}
        return {**super().get_config(), **own}


def adapt(backbone: Any, method: Any = "full") -> Adapted:
    """Apply a method to a KerasHub backbone, in place, and wrap it.

    Args:
        backbone: a KerasHub backbone as it was loaded.
        method: a method, its name, or a mapping with `name`.

    Returns:
        `Adapted`, a layer that takes the backbone's inputs and gives its outputs.

    Raises:
        InputError: if the backbone's family cannot carry the method, or it carries one already.
    """
    description = describe_backbone(backbone)
    if carried(backbone):
        raise InputError(
            f"A method is applied to a plain backbone, and this {type(backbone).__name__} carries "
            f"one already. Received: a change at {carried(backbone)[0].path}. Load the backbone "
            "anew, or name all methods in one chain."
        )
    config = registry.config(registry.build(method))
    return Adapted(description, config, built=backbone, name="backbone")
