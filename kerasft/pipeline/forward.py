"""A model over many encoded sequences, in batches of like length."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kerasft._core import memory
from kerasft.backbones.crossing import input_names
from kerasft.data.encoded import mask_of
from kerasft.preprocessing import by_row, in_groups

# Operations that a block could do in the time that its ops take to be started, by 24.
_STARTED = 4_000_000


class Forward:
    """Runs a model on padded features of any number of rows.

    Sequences of like length share a batch, so that little of the work is padding; the outputs come
    back in the order of the rows.

    Args:
        model: a functional `keras.Model` of inputs int32 [batch, length], or where a text's windows
            are read together, [batch, windows, length]; those of an encoder-decoder's decoder
            (`decoder_...`) have a length of their own.
        length: the width of every batch where padding moves answers (FNet), else None.
        pad: the id that fills `token_ids` up to that width.
        reduce: (outputs, targets) -> float32 [rows, k], in the graph: what is kept of the outputs
            of a batch where all of them, a number for every id of a vocabulary, are too many.
            The features then hold `targets`, int32 [rows, length], -1 where nothing is learned.
    """

    def __init__(
        self,
        model: Any,
        length: int | None,
        pad: int,
        reduce: Callable[[Any, Any], Any] | None = None,
    ):
        import tensorflow as tf

        memory.keep_freed()
        self.model, self.length, self.reduce = model, length, reduce
        self.inputs = input_names(model)
        self.names = self.inputs if reduce is None else (*self.inputs, "targets")
        self.fill = {"token_ids": pad, "decoder_token_ids": pad, "targets": -1}
        # The mask that tells how long the outputs are, where they are of a token each.
        self.mask = mask_of("targets", self.inputs)
        # An output with an axis of tokens: [batch, length, ...].
        self.tokenwise = reduce is None and len(model.output_shape) > 2
        rank = len(model.inputs[0].shape)
        self.windowed = rank == 3
        signature = {n: tf.TensorSpec((None,) * rank, tf.int32) for n in self.names}
        self.run = tf.function(self._run, input_signature=[signature])

    def _run(self, given: dict[str, Any]) -> Any:
        outputs = self.model({name: given[name] for name in self.inputs}, training=False)
        return outputs if self.reduce is None else self.reduce(outputs, given["targets"])

    def __call__(self, features: dict[str, np.ndarray], batch_size: int) -> np.ndarray:
        """The model's raw outputs, float32 [rows, ...] in order, 0 on padding; reduced: [rows, k].

        Args:
            features: name -> int32 [rows, length], `padding_mask` among them; others are ignored.
                Of texts in windows [windows, length], and `row`, the text of each.
            batch_size: rows that are computed together.
        """
        masks = {name: mask_of(name, self.inputs) for name in self.names}
        every = {"padding_mask", *masks.values()}
        if self.windowed:
            names = {*self.names, *every}
            fill = {n: self.fill.get(n, 0) for n in names}
            features = {n: by_row(features[n], features["row"], fill[n]).numpy() for n in names}
        sizes = {mask: np.asarray(features[mask]).sum(axis=-1) for mask in every}
        own = sizes["padding_mask"]
        order = np.argsort(-(own.sum(axis=1) if self.windowed else own), kind="stable")
        width = int(self.length or sizes[self.mask].max(initial=1))
        out = np.zeros((len(order), *self._shape(width)), np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            longest = {m: int(self.length or max(s[rows].max(), 1)) for m, s in sizes.items()}
            # As many windows as the longest text of the batch has.
            most = slice((own[rows] > 0).sum(axis=1).max()) if self.windowed else slice(None)
            batch = {
                n: self._cut(n, features[n][rows][:, most], longest[masks[n]]) for n in self.names
            }
            given = np.asarray(self.run(batch))
            if self.tokenwise:
                # The model of a family without a mask is not given it.
                real = np.arange(longest[self.mask]) < sizes[self.mask][rows][:, None]
                out[rows, : longest[self.mask]] = given * real[:, :, None]
            else:
                out[rows] = given
        return out

    def _shape(self, width: int) -> tuple[int, ...]:
        if self.reduce is not None:
            return tuple(self.run.get_concrete_function().structured_outputs.shape[1:])
        shape = self.model.output_shape[1:]
        return (width, *shape[1:]) if self.tokenwise else shape

    def _cut(self, name: str, values: np.ndarray, width: int) -> np.ndarray:
        missing = max(width - values.shape[-1], 0)
        wide = [(0, 0)] * (values.ndim - 1) + [(0, missing)]
        return np.pad(values[..., :width], wide, constant_values=self.fill.get(name, 0))


def spare(pipe: Any) -> int:
    """Tokens of padding that cost a CPU what one more pass of a pipeline's model does.

    A pass starts some hundred ops a block, whatever they hold; a token is 24 width^2 operations.
    """
    return _STARTED // pipe.backbone.hidden_dim**2


def by_length(pipe: Any, features: dict[str, Any]) -> Any:
    """The outputs for a batch of encoded tensors, rows of like length together, in the graph.

    Together as they are run windows that are read side by side, rows whose padding moves answers
    (FNet), and those that are told by their place.

    Returns:
        As `Pipeline.run`; outputs of a token each are 0 on padding.
    """
    if pipe.windowed or pipe.fixed_length is not None or pipe.by_place:
        return pipe.run(features)
    given = {n: features[n] for n in {*pipe.inputs, "padding_mask"}}
    return in_groups(pipe.run, given, pipe.model.output_shape[1:], spare(pipe))
