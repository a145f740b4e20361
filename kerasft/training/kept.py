"""What frozen blocks give is computed once and read in every epoch."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft.backbones._surgery_cut import called_with
from kerasft.backbones.cut import cut, frozen_blocks
from kerasft.data.encoded import STATES, Encoded, room_for

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
import tensorflow as tf  # noqa: E402

# Tokens that go through the frozen blocks together.
TOKENS = 4096


class _Above(keras.layers.Layer):
    """An `Adapted` backbone from some hidden states on; it has all of its weights."""

    def __init__(self, adapted: Any, upper: Any):
        super().__init__(name="backbone")
        self.adapted = adapted
        # In a function, so that Keras counts no layer twice.
        self._given = lambda: upper

    def call(self, states, inputs, training=None):
        return self._given()([states, *inputs], training=training)

    def compute_output_spec(self, states, inputs, training=None):
        return self._given().compute_output_spec([states, *inputs])


@dataclass(frozen=True)
class Kept:
    """A task's model whose lowest blocks stand still, in two parts.

    Args:
        blocks: how many blocks stand still.
        lower: from the backbone's inputs to hidden states; without dropout, since they are the
            same in every epoch.
        model: from these, `hidden_states` [batch, length, width], and the model's inputs to its
            outputs. It shares all weights of the task's model.
    """

    blocks: int
    lower: Any
    model: Any

    def rows(self, rows: Encoded) -> Encoded:
        """The rows with the hidden states of their tokens, in memory or on disk."""
        flat = replace(rows, sides=1, weights=None)  # one sequence, one row
        sizes, width = np.diff(rows.ends), self.lower.output.shape[-1]
        dtype = tf.as_dtype(self.lower.compute_dtype).as_numpy_dtype
        states, folder = room_for((int(rows.ends[-1]), width), dtype)
        run = tf.function(lambda given: self.lower(given, training=False), reduce_retracing=True)
        order, done = np.argsort(-sizes, kind="stable"), 0
        while done < len(order):
            chosen = order[done : done + max(1, TOKENS // max(int(sizes[order[done]]), 1))]
            features = flat.batch(chosen)
            given = [tf.constant(features[i.name]) for i in self.lower.inputs]
            for row, values in zip(chosen, run(given).numpy(), strict=True):
                states[rows.ends[row] : rows.ends[row + 1]] = values[: sizes[row]]
            done += len(chosen)
        return replace(rows, states=states, states_folder=folder)


def kept_of(model: Any) -> Kept | None:
    """The two parts of a task's model, or None where every block has to be run in every step.

    Args:
        model: the functional model of `task.build`; of texts in windows, of rows that are packed
            and of logits over the vocabulary, the whole is run.
    """
    adapted = model.get_layer("backbone")
    if called_with(adapted) or any(len(i.shape) != 2 for i in model.inputs):
        return None
    if "document_ids" in {i.name for i in model.inputs}:
        return None
    blocks = frozen_blocks(adapted.backbone)
    if not blocks:
        return None
    lower, upper = cut(adapted.backbone, blocks)
    states = keras.Input(lower.output.shape[1:], dtype=lower.compute_dtype, name=STATES)
    inputs = {i.name: keras.Input(i.shape[1:], dtype=i.dtype, name=i.name) for i in model.inputs}
    between = _Above(adapted, upper)(states, [inputs[i.name] for i in adapted.backbone.inputs])
    read = keras.tree.flatten(adapted.output)
    head = keras.Model([*model.inputs, *read], model.output)
    outputs = head([*(inputs[i.name] for i in model.inputs), *keras.tree.flatten(between)])
    return Kept(blocks, lower, keras.Model({**inputs, STATES: states}, outputs, name=model.name))
