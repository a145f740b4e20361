"""Text classification: one text or a pair to a label, several labels, or a score."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, listed, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import family_of, template_of
from kerasft.heads import ClassificationHead
from kerasft.methods import Adapted
from kerasft.metrics import choose_thresholds
from kerasft.preprocessing import pack
from kerasft.tasks import _long_texts
from kerasft.tasks._losses import SigmoidLoss, SoftmaxLoss
from kerasft.tasks._models import functional

PROBLEMS = ("single-label", "multi-label", "regression")


@dataclass(frozen=True)
class TextClassification:
    """Text classification: a label, several labels or a score for a text or a pair of texts.

    Args:
        labels: the classes in order; found in the data when empty.
        problem: `single-label` (softmax), `multi-label` (sigmoid) or `regression` (a score).
        pair: read `text` and `text_pair` (matching, paraphrase, entailment).
        max_length: the most token ids in a sequence.
        pooling: `cls`, `mean`, `max`, `last`, or None for the backbone family's own.
        head_dropout: share of the pooled units dropped in training.
        class_weights: (), "balanced" (rows / (classes * rows of the class)), or one a class.
        label_smoothing: share of the target spread over all classes, 0 to 1.
        focal_gamma: exponent of the focal loss; 0 is plain cross-entropy.
        thresholds: multi-label: probability from which a class counts, one a class; chosen on
            the validation rows when empty.
        long_texts: what is read of a text that is too long: `head` (the first ids), `head-tail`
            (the first and the last ones), or windows of `max_length` ids whose pooled vectors are
            combined before the logits by `mean`, `max` or learned `attention`.
        tail: head-tail: share of the ids that are the last ones.
        overlap: windows: token ids that a window shares with the one before.
        max_windows: windows: the most that are read of a text, from its beginning.

    Example:
        >>> task = TextClassification(labels=("ham", "spam"))
        >>> model = task.build(backbone)

    Reference: Sun et al. 2019, https://arxiv.org/abs/1905.05583 (long texts, 5.3.1)
    """

    name: ClassVar[str] = "text-classification"
    tokenwise: ClassVar[bool] = False
    labels: tuple[str, ...] = ()
    problem: str = "single-label"
    pair: bool = False
    max_length: int = 256
    pooling: str | None = None
    head_dropout: float = 0.1
    class_weights: tuple[float, ...] | str = ()
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    thresholds: tuple[float, ...] = ()
    long_texts: str = "head"
    tail: float = 0.75
    overlap: int = 32
    max_windows: int = 8

    def __post_init__(self):
        labels = tuple(str(label) for label in listed("labels", self.labels))
        object.__setattr__(self, "labels", labels)
        one_of("problem", self.problem, PROBLEMS)
        whole("max_length", self.max_length, 8)
        in_range("label_smoothing", self.label_smoothing, 0, 0.999)
        in_range("focal_gamma", self.focal_gamma, 0)
        in_range("head_dropout", self.head_dropout, 0, 0.999)
        _long_texts.check(self)
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"`labels` holds a label twice. Received: labels={self.labels!r}.")
        if isinstance(self.class_weights, str):
            one_of("class_weights", self.class_weights, ("balanced",))
        for key in ("class_weights", "thresholds"):
            value = getattr(self, key)
            if value and self.labels and value != "balanced" and len(value) != len(self.labels):
                raise InputError(
                    f"`{key}` holds one number a class, {len(self.labels)} in all. "
                    f"Received: {key}={value!r}."
                )

    # --- what is read ---------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the fields that are answered, which are the inputs of the exported model."""
        return ("text", "text_pair") if self.pair else ("text",)

    @property
    def head_problem(self) -> str:
        """The `problem` of checkpoints' heads (`kerasft.backbones.huggingface.Head`) for it."""
        return self.problem

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the fields that training encodes."""
        return self.inputs

    @property
    def sides(self) -> int | None:
        """Sequences in an example: one, or None for the windows of its text, however many."""
        return None if self.long_texts in _long_texts.COMBINED else 1

    @property
    def padded(self) -> tuple[str, ...]:
        """Names of the answers that are lists of unlike length, padded in a batch."""
        return ("labels",) if self.problem == "multi-label" else ()

    @property
    def target(self) -> str:
        """Name of the field that is predicted."""
        kinds = {"single-label": "label", "multi-label": "labels", "regression": "score"}
        return kinds[self.problem]

    @property
    def kind(self) -> str:
        """The kind of report that scores this task (see `kerasft.evaluation`)."""
        kinds = {"single-label": "multiclass", "multi-label": "multilabel"}
        return kinds.get(self.problem, "regression")

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        kinds = {"label": "label", "labels": "labels", "score": "number"}
        return dict.fromkeys(self.inputs, "text") | {self.target: kinds[self.target]}

    @property
    def labelled(self) -> bool:
        """Whether there are labels, which are found in the data unless they are given."""
        return self.problem != "regression"

    @property
    def least_labels(self) -> int:
        """How many labels the training rows must have at least."""
        return 2 if self.problem == "single-label" or not self.labels else 0

    def with_labels(self, counts: dict[str, int]) -> "TextClassification":
        """The task with the data's labels in their order, and balanced weights worked out."""
        if not self.labelled:
            return self
        task = self if self.labels else dataclasses.replace(self, labels=tuple(counts))
        if self.class_weights != "balanced":
            return task
        seen = np.array([max(counts.get(label, 0), 1) for label in task.labels], np.float64)
        weights = tuple((seen.sum() / (len(seen) * seen)).tolist())
        return dataclasses.replace(task, class_weights=weights)

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn string tensors into the backbone's inputs, in the graph.

        Args:
            tokenizer: a KerasHub tokenizer.
            fields: `text` (and `text_pair`), each string [batch].

        Returns:
            `token_ids`, `segment_ids`, `padding_mask`, int32 [batch, longest row]; of texts in
            windows [windows, longest window], and `row`, the text of each, int32 [windows].
        """
        template = template_of(tokenizer)
        if template.added(len(self.inputs)) >= self.max_length:
            raise InputError(f"`max_length` leaves no room for text. Received: {self.max_length}.")
        ragged = [tokenizer(fields[name]) for name in self.inputs]
        if not self.pair:
            return _long_texts.encoded(self, template, ragged[0])
        return pack(ragged, template, self.max_length)

    def most_ids(self, tokenizer: Any) -> int:
        """The most ids of a text that are read, special ones included."""
        template = template_of(tokenizer)
        return _long_texts.room(self, template) + template.added(1)

    def targets(self, fields: dict[str, list], features: Any = None) -> np.ndarray:
        """Class int32 [n], {0, 1} float32 [n, classes], or score float32 [n, 1]."""
        values = fields[self.target]
        if self.problem == "regression":
            return np.asarray(values, np.float32)[:, None]
        index = {label: i for i, label in enumerate(self.labels)}
        if self.problem == "single-label":
            return np.asarray([index[v] for v in values], np.int32)
        rows = np.zeros((len(values), len(index)), np.float32)
        for row, found in enumerate(values):
            rows[row, [index[v] for v in found]] = 1.0
        return rows

    def scoring(self) -> dict[str, Any]:
        """Options of the report (`kerasft.evaluation.Collector`)."""
        return {"thresholds": self.thresholds or None}

    def truth(self, fields: dict[str, list]) -> np.ndarray:
        """What the report compares the scores with: the targets."""
        return self.targets(fields)

    # --- model ----------------------------------------------------------------------------------

    @property
    def outputs(self) -> int:
        """The number of logits."""
        return 1 if self.problem == "regression" else len(self.labels)

    def build(self, backbone: Any) -> Any:
        """Connect a backbone and the head to a functional `keras.Model` that gives logits.

        Args:
            backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).

        Returns:
            keras.Model from the backbone's inputs, int32 [batch, length] each, to logits
            [batch, classes], float32. Of texts in windows the inputs are [batch, windows, length].
        """
        if self.problem != "regression" and len(self.labels) < 2:
            raise InputError(
                f"A classifier needs at least two labels. Received: labels={self.labels!r}."
            )
        head = ClassificationHead(self.outputs, self.pooling, self.head_dropout)
        if self.sides is None:
            return _long_texts.windowed(backbone, head, self.long_texts, "text_classification")
        return functional(backbone, head, "text_classification")

    # --- a head that was fine-tuned elsewhere ---------------------------------------------------

    def with_head(self, head: Any) -> "TextClassification":
        """The task with the labels of a checkpoint's head, unless it has its own."""
        if self.labels:
            return self
        return dataclasses.replace(self, labels=head.labels)

    def fits_head(self, head: Any, backbone: Any) -> bool:
        """Whether a checkpoint's head (`kerasft.backbones.huggingface.Head`) is this task's."""
        own = ClassificationHead(self.outputs, self.pooling).is_own(family_of(backbone))
        labels = self.problem == "regression" or head.labels == self.labels
        return own and labels and head.problem == self.problem

    def load_head(self, model: Any, head: Any) -> None:
        """Start from a checkpoint's head."""
        for layer, kernel, bias in (
            ("head_dense", head.hidden_kernel, head.hidden_bias),
            ("logits", head.logits_kernel, head.logits_bias),
        ):
            if kernel is not None:
                values = [kernel] if bias is None else [kernel, bias]
                model.get_layer(layer).set_weights(values)

    def to_head(self, model: Any) -> Any:
        """The model's head as a checkpoint holds it; `InputError` if no checkpoint can."""
        from kerasft.backbones.huggingface import Head

        _long_texts.check_head(self)
        adapted = next(layer for layer in model.layers if isinstance(layer, Adapted))
        family = family_of(adapted.backbone)
        if not ClassificationHead(self.outputs, self.pooling).is_own(family):
            raise InputError(
                f"Transformers' classifier of this family pools with {family.head.pooling!r} only. "
                f"Received: pooling={self.pooling!r}."
            )
        names = {layer.name for layer in model.layers}
        hidden = model.get_layer("head_dense").get_weights() if "head_dense" in names else []
        logits = model.get_layer("logits").get_weights()
        hidden, logits = [*hidden, None, None][:2], [*logits, None][:2]
        labels = self.labels or ("score",)
        return Head(labels, self.problem, hidden[0], hidden[1], logits[0], logits[1])

    def loss(self) -> Any:
        """Cross-entropy (softmax or sigmoid) or mean squared error, as a Keras loss."""
        import keras

        if self.problem == "regression":
            return keras.losses.MeanSquaredError()
        weights = () if isinstance(self.class_weights, str) else self.class_weights
        kind = SoftmaxLoss if self.problem == "single-label" else SigmoidLoss
        return kind(self.label_smoothing, self.focal_gamma, weights)

    def metrics(self) -> list[Any]:
        """What the progress bar shows: accuracy, or the mean absolute error of scores."""
        import keras

        if self.problem == "regression":
            return [keras.metrics.MeanAbsoluteError(name="mae")]
        if self.problem == "multi-label":
            return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    # --- outputs to answers ---------------------------------------------------------------------

    def decode(self, outputs: Any, features: dict[str, Any] | None = None) -> dict[str, Any]:
        """Turn logits into answers, in the graph.

        Args:
            outputs: logits [batch, classes].

        Returns:
            `label` string [batch], `probabilities` and `logits` [batch, classes]; multi-label:
            `labels` [batch, most labels of a row] padded with ""; regression: `score` [batch].
        """
        import tensorflow as tf

        from kerasft._core import ragged

        if self.problem == "regression":
            return {"score": outputs[:, 0]}
        names = tf.constant(self.labels)
        if self.problem == "single-label":
            chosen = tf.gather(names, tf.argmax(outputs, axis=-1))
            probabilities = tf.nn.softmax(outputs)
            return {"label": chosen, "probabilities": probabilities, "logits": outputs}
        probabilities = tf.sigmoid(outputs)
        limits = tf.constant(self.thresholds or (0.5,) * len(self.labels), tf.float32)
        rows = tf.broadcast_to(names, tf.shape(probabilities))
        found = ragged.masked_dense(rows, probabilities >= limits).to_tensor("")
        return {"labels": found, "probabilities": probabilities, "logits": outputs}

    def scores(self, outputs: np.ndarray, features: Any = None) -> np.ndarray:
        """Probabilities [n, classes], or scores [n], from logits, as the reports read them."""
        if self.problem == "regression":
            return outputs[:, 0]
        if self.problem == "multi-label":
            return 1.0 / (1.0 + np.exp(-outputs))
        shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)

    @property
    def tunable(self) -> bool:
        """Whether something is still to be chosen on validation rows."""
        return self.problem == "multi-label" and not self.thresholds

    @property
    def untuned(self) -> "TextClassification":
        """The task whose scores `tuned` is given."""
        return self

    def tuned(self, truth: list, scores: list) -> "TextClassification":
        """The task with what is chosen on validation rows: the thresholds of a multi-label task."""
        if not self.tunable:
            return self
        chosen = choose_thresholds(np.stack(truth), np.stack(scores))
        return dataclasses.replace(self, thresholds=tuple(float(t) for t in chosen))
