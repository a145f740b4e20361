"""Texts longer than a model reads: both ends of them, or windows whose vectors are combined."""

from typing import Any

from kerasft._core import ragged, stack
from kerasft._core.checks import in_range, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import family_of
from kerasft.backbones.crossing import input_names
from kerasft.methods import Adapted, adapt
from kerasft.preprocessing import Template, pack, ragged_ids, taken, windows

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
import tensorflow as tf  # noqa: E402
from keras import ops  # noqa: E402

COMBINED = ("mean", "max", "attention")
LONG_TEXTS = ("head", "head-tail", *COMBINED)
_NEVER = -1e9


def check(task: Any) -> None:
    """Refuse options of long texts that do not go together, with an `InputError`."""
    one_of("long_texts", task.long_texts, LONG_TEXTS)
    in_range("tail", task.tail, 0, 1)
    whole("overlap", task.overlap, 0)
    whole("max_windows", task.max_windows, 1)
    if task.pair and task.long_texts != "head":
        raise InputError(
            "Pairs of texts are cut in turns, so that both keep a fair share. "
            f"Received: pair=true, long_texts={task.long_texts!r}. Set task.long_texts=head."
        )
    most = task.max_length // 2
    if task.long_texts in COMBINED and task.overlap > most:
        raise InputError(
            "A window shares at most half of its ids with the one before. Received: "
            f"overlap={task.overlap}, max_length={task.max_length}. "
            f"Set task.overlap={most} or less."
        )


def room(task: Any, template: Template) -> int:
    """The most ids of a text that a task reads, special ids not counted.

    Args:
        task: a task with `max_length`, `long_texts`, `overlap` and `max_windows`.
        template: the special ids.
    """
    size = task.max_length - template.added(1)
    if task.long_texts not in COMBINED:
        return size
    return size + (task.max_windows - 1) * max(size - task.overlap, 1)


def check_head(task: Any) -> None:
    """Refuse to write a head that Transformers has no class for, with an `InputError`."""
    if task.long_texts in COMBINED:
        raise InputError(
            "Transformers' classifiers read one sequence a text. Received: "
            f"long_texts={task.long_texts!r}. `save` and `export` write this one."
        )


def encoded(task: Any, template: Template, ids: Any) -> dict[str, Any]:
    """The ids of texts as a backbone reads them, in the graph.

    Args:
        task: a task with `max_length`, `long_texts`, `tail`, `overlap` and `max_windows`.
        template: the special ids.
        ids: what a tokenizer gives for texts, int32 [batch, (tokens)].

    Returns:
        `token_ids`, `segment_ids`, `padding_mask`, int32 [sequences, length]; where windows are
        combined also `row`, int32 [sequences], the text that each comes from, in order.
    """
    ids, most = ragged_ids(ids), room(task, template)
    if task.long_texts == "head-tail":
        ids = head_tail(ids, most, task.tail)
    if task.long_texts not in COMBINED:
        return pack([ids], template, task.max_length)
    ids = ids[:, :most]
    size = task.max_length - template.added(1)
    row, begin, end = windows(ids.row_lengths(), size, task.overlap)
    return pack([taken(ids, row, begin, end)], template, task.max_length) | {"row": row}


def head_tail(ids: tf.RaggedTensor, most: int, tail: float) -> tf.RaggedTensor:
    """The beginning and the end of rows that are too long.

        x_1 .. x_(m - t), x_(n - t + 1) .. x_n   of n > m ids,   t = tail * m, rounded

    Args:
        ids: int32 [rows, (ids)].
        most: the most ids that are kept, m.
        tail: the share of them that are taken from the end.

    Returns:
        int32 [rows, (at most m)]; a row that is short enough as it is.

    Example:
        >>> head_tail(tf.ragged.constant([[1, 2, 3, 4, 5]]), 4, 0.5).to_list()
        [[1, 2, 4, 5]]

    Reference: Sun et al. 2019, https://arxiv.org/abs/1905.05583 (5.3.1: 128 and 382 of 510)
    """
    end = round(tail * most)
    places, size = ragged.places_of(ids), tf.gather(ids.row_lengths(), ragged.rows_of(ids))
    return ragged.masked(ids, (size <= most) | (places < most - end) | (size - places <= end))


@keras.saving.register_keras_serializable("kerasft")
class Flat(keras.layers.Layer):
    """Windows of all texts one below the other: [batch, windows, length] to [.., length]."""

    def call(self, inputs):
        """Reshape."""
        return ops.reshape(inputs, (-1, ops.shape(inputs)[2]))

    def compute_output_shape(self, shape):
        """[batch * windows, length]."""
        return (None, shape[2])


@keras.saving.register_keras_serializable("kerasft")
class Combine(keras.layers.Layer):
    """One vector from those of a text's windows.

        mean      = sum_k m_k v_k / sum_k m_k
        max       = max over k with m_k = 1, unit by unit
        attention = sum_k a_k v_k,   a = softmax over m_k = 1 of u . tanh(W v_k + b)

    Args:
        combine: `mean`, `max` or `attention`.

    Call arguments: the vectors of windows [batch * windows, width], and the padding mask
    [batch, windows, length]; m_k = 1 where it has a 1. Returns [batch, width], float32. A window
    of padding alone moves nothing, and one window is its text's vector as it is.

    Reference: Sun et al. 2019, https://arxiv.org/abs/1905.05583 (5.3.1); Yang et al. 2016,
    https://aclanthology.org/N16-1174 (attention)
    """

    def __init__(self, combine: str, **options: Any):
        super().__init__(**({"dtype": "float32"} | options))
        self.combine = one_of("long_texts", combine, COMBINED)

    def build(self, vectors_shape, padding_mask_shape=None):
        """Make the weights of the attention."""
        if self.combine == "attention":
            width, start = vectors_shape[-1], keras.initializers.TruncatedNormal(stddev=0.02)
            self.kernel = self.add_weight((width, width), start, name="kernel")
            self.bias = self.add_weight((width,), "zeros", name="bias")
            self.query = self.add_weight((width,), start, name="query")

    def weights_of(self, vectors, real):
        """The attention's share of each window, float32 [batch, windows], 0 where it is padding.

        Args:
            vectors: float32 [batch, windows, width].
            real: 1 on windows of the text, float32 [batch, windows].
        """
        hidden = ops.tanh(ops.matmul(vectors, self.kernel) + self.bias)
        scores = ops.sum(hidden * self.query, axis=-1)
        # Keras' own softmax warns of an axis of one: a batch of texts with one window each.
        return tf.nn.softmax(ops.where(real > 0, scores, _NEVER), axis=-1)

    def call(self, vectors, padding_mask):
        """Combine."""
        # A maximum with a start also is one of no rows, which a part of a batch may have.
        real = ops.cast(ops.max(padding_mask, axis=-1, initial=0), "float32")
        shape = (-1, ops.shape(real)[1], vectors.shape[-1])
        vectors = ops.reshape(ops.cast(vectors, "float32"), shape)
        there = ops.expand_dims(real, -1)
        if self.combine == "max":
            return ops.max(ops.where(there > 0, vectors, _NEVER), axis=1, initial=_NEVER)
        if self.combine == "attention":
            share = ops.expand_dims(self.weights_of(vectors, real), -1)
        else:
            share = there / ops.maximum(ops.sum(there, axis=1, keepdims=True), 1.0)
        return ops.sum(vectors * share, axis=1)

    def compute_output_shape(self, vectors_shape, padding_mask_shape=None):
        """[batch, width]."""
        rows = padding_mask_shape[0] if padding_mask_shape else None
        return (rows, vectors_shape[-1])

    def get_config(self):
        """How vectors are combined."""
        return {**super().get_config(), "combine": self.combine}


def windowed(backbone: Any, head: Any, combine: str, name: str) -> Any:
    """Connect a backbone and a head to a functional model of texts in windows.

        windows -> backbone -> pooled -> combined -> the rest of the head

    Args:
        backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).
        head: a `kerasft.heads.ClassificationHead`.
        combine: `mean`, `max` or `attention`.
        name: name of the model.

    Returns:
        keras.Model from the backbone's inputs and `padding_mask`, int32 [batch, windows, length]
        each, to logits [batch, outputs].
    """
    adapted = backbone if isinstance(backbone, Adapted) else adapt(backbone)
    family = family_of(adapted.backbone)
    read = input_names(adapted.backbone)
    # A backbone without a mask (FNet) does not tell a window of padding from another.
    names = dict.fromkeys([*read, "padding_mask"])
    inputs = {n: keras.Input((None, None), dtype="int32", name=n) for n in names}
    flat = {n: Flat(name=f"flat_{n}", dtype="int32")(inputs[n]) for n in read}
    vectors = head.pooled(family, adapted(flat), flat)
    vector = Combine(combine, name="windows")(vectors, inputs["padding_mask"])
    return keras.Model(inputs, head.logits(family, vector), name=name)
