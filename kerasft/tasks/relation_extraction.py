"""Relation extraction: how two entities of a text are related."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, listed, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import family_of, pieces, template_of
from kerasft.heads import POOLINGS, ClassificationHead
from kerasft.preprocessing import beside, pack
from kerasft.tasks._losses import SoftmaxLoss
from kerasft.tasks._models import for_a_head, functional

_BORDERS = ("head_start", "head_end", "tail_start", "tail_end")
# Head opens, head closes, tail opens, tail closes, as `marks` numbers them.
_CODES = (1, 3, 2, 4)


@dataclass(frozen=True)
class RelationExtraction:
    """Relation extraction: the relation between two entities whose places in a text are known.

        "Ann works for Acme." with head (0, 3), tail (14, 18): "@ Ann @ works for # Acme # ."

    A text longer than the window is cut around the pair, so that both entities' markers stay.

    Args:
        labels: the relations in order; found in the data when empty.
        none_label: the label of pairs without a relation, left out of the macro and weighted
            means of the report; "" where there is none.
        max_length: the most token ids in a sequence, at least 16.
        pooling: `markers` (the vectors at the two opening markers; at the closing ones on a
            decoder, which has read the entity only there), `cls`, `mean`, `max`, `last`, or None
            for the backbone family's own classification head.
        head_dropout: share of the pooled units dropped in training.
        label_smoothing: share of the target spread over all classes, 0 to 1.

    Example:
        >>> task = RelationExtraction(labels=("born-in", "works-for"))
        >>> model = task.build(backbone)

    Reference: Zhou and Chen 2021, https://arxiv.org/abs/2102.01373 (markers);
    Baldini Soares et al. 2019, https://arxiv.org/abs/1906.03158 (pooling at markers)
    """

    name: ClassVar[str] = "relation-extraction"
    kind: ClassVar[str] = "multiclass"
    tokenwise: ClassVar[bool] = False
    sides: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("text", *_BORDERS)
    reads: ClassVar[tuple[str, ...]] = ("text", *_BORDERS)
    padded: ClassVar[tuple[str, ...]] = ()
    target: ClassVar[str] = "label"
    labelled: ClassVar[bool] = True
    least_labels: ClassVar[int] = 2
    tunable: ClassVar[bool] = False
    head_problem: ClassVar[None] = None  # no checkpoint's head is read or written
    labels: tuple[str, ...] = ()
    none_label: str = ""
    max_length: int = 256
    pooling: str | None = None
    head_dropout: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self):
        labels = tuple(str(label) for label in listed("labels", self.labels))
        object.__setattr__(self, "labels", labels)
        whole("max_length", self.max_length, 16)
        in_range("head_dropout", self.head_dropout, 0, 0.999)
        in_range("label_smoothing", self.label_smoothing, 0, 0.999)
        if self.pooling is not None:
            one_of("pooling", self.pooling, ("markers", *POOLINGS))
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"`labels` holds a label twice. Received: labels={self.labels!r}.")
        if self.none_label and self.labels:
            one_of("none_label", self.none_label, self.labels)

    # --- what is read ---------------------------------------------------------------------------

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        return {"text": "text"} | dict.fromkeys(_BORDERS, "whole") | {"label": "label"}

    def with_labels(self, counts: dict[str, int]) -> "RelationExtraction":
        """The task with the data's labels in their order."""
        return self if self.labels else dataclasses.replace(self, labels=tuple(counts))

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn texts and the places of their entities into the backbone's inputs, in the graph.

        Args:
            tokenizer: a KerasHub tokenizer.
            fields: `text` string [batch]; `head_start`, `head_end`, `tail_start`, `tail_end`
                int32 [batch], code points, end exclusive, clipped into the text.

        Returns:
            `token_ids`, `segment_ids`, `padding_mask`, int32 [batch, longest row]; with
            `pooling="markers"` also `marks`, 1 and 3 where the head's markers begin, 2 and 4
            where the tail's do, 0 elsewhere.
        """
        import tensorflow as tf

        from kerasft._core import ragged
        from kerasft.tasks import _pairs

        template = template_of(tokenizer)
        text, found = _pairs.marked(fields["text"], [fields[name] for name in _BORDERS])
        made = pieces(tokenizer, text)
        lengths = tf.cast(made.ids.row_lengths(), tf.int32)
        # A marker is the first piece that ends behind it.
        ends = made.end.to_tensor(2**30)
        places = tf.reduce_sum(tf.cast(ends[:, None] <= found[:, :, None], tf.int32), axis=2)
        places = tf.clip_by_value(places, 0, tf.maximum(lengths - 1, 0)[:, None])
        kept = _pairs.around(places, lengths, self.max_length - template.added(1))
        ids = ragged.masked_dense(tf.cast(made.ids, tf.int32).to_tensor(), kept)
        features = pack([ids], template, self.max_length)
        if self.pooling != "markers":
            return features
        at = tf.range(tf.shape(kept)[1])[None, :, None]
        codes = tf.where(at == places[:, None, :], tf.constant(_CODES), 0)
        marks = ragged.masked_dense(tf.reduce_max(codes, axis=2), kept)
        marks = beside(marks, len(template.start), len(template.end))
        return features | {"marks": tf.maximum(marks, 0)}

    def targets(self, fields: dict[str, list], features: Any = None) -> np.ndarray:
        """The relation, int32 [n]."""
        index = {label: i for i, label in enumerate(self.labels)}
        return np.asarray([index[label] for label in fields["label"]], np.int32)

    def scoring(self) -> dict[str, Any]:
        """Options of the report (`kerasft.evaluation.Collector`)."""
        return {"options": {"none": self.none_label}}

    def truth(self, fields: dict[str, list]) -> np.ndarray:
        """What the report compares the scores with: the targets."""
        return self.targets(fields)

    # --- model ----------------------------------------------------------------------------------

    def build(self, backbone: Any) -> Any:
        """Connect a backbone and the head to a functional `keras.Model` that gives logits.

        Args:
            backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).

        Returns:
            keras.Model from the backbone's inputs, int32 [batch, length] each, and `marks` of the
            same shape where they are pooled, to logits [batch, labels], float32.
        """
        if len(self.labels) < 2:
            raise InputError(
                f"A classifier needs at least two labels. Received: labels={self.labels!r}."
            )
        one_of("none_label", self.none_label, ("", *self.labels))
        if self.pooling != "markers":
            head = ClassificationHead(len(self.labels), self.pooling, self.head_dropout)
            return functional(backbone, head, "relation_extraction")
        return self._at_markers(backbone)

    def _at_markers(self, backbone: Any) -> Any:
        import keras

        from kerasft.tasks._pairs import MarkerPool

        adapted, names = for_a_head(backbone)
        inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in (*names, "marks")}
        features = adapted({n: inputs[n] for n in names})
        sequence = features["sequence_output"] if isinstance(features, dict) else features
        codes = (3, 4) if family_of(adapted.backbone).kind == "decoder" else (1, 2)
        x = MarkerPool(codes, name="pool")(sequence, inputs["marks"])
        x = keras.layers.Dropout(self.head_dropout, dtype="float32", name="head_dropout")(x)
        logits = keras.layers.Dense(
            len(self.labels),
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype="float32",
            name="logits",
        )(x)
        return keras.Model(inputs, logits, name="relation_extraction")

    def loss(self) -> Any:
        """Cross-entropy, as a Keras loss."""
        return SoftmaxLoss(self.label_smoothing)

    def metrics(self) -> list[Any]:
        """What the progress bar shows: accuracy."""
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    # --- outputs to answers ---------------------------------------------------------------------

    def decode(self, outputs: Any, features: dict[str, Any] | None = None) -> dict[str, Any]:
        """Turn logits into answers, in the graph.

        Args:
            outputs: logits [batch, labels].

        Returns:
            `label` string [batch], `probabilities` [batch, labels].
        """
        import tensorflow as tf

        chosen = tf.gather(tf.constant(self.labels), tf.argmax(outputs, axis=-1))
        return {"label": chosen, "probabilities": tf.nn.softmax(outputs)}

    def scores(self, outputs: np.ndarray, features: Any = None) -> np.ndarray:
        """Probabilities [n, labels] from logits, as the reports read them."""
        shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
