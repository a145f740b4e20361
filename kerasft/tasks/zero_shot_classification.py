"""Zero-shot classification: labels that are given with the text."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, listed, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import template_of
from kerasft.heads import POOLINGS
from kerasft.preprocessing import in_groups, pack, ragged_ids
from kerasft.tasks import _candidates, _language, _writers
from kerasft.tasks._embedding import EmbeddingHead
from kerasft.tasks._losses import TokenLoss
from kerasft.tasks._metrics import TokenAccuracy
from kerasft.tasks._models import functional, language_model
from kerasft.tasks.text_classification import TextClassification

WAYS = ("entailment", "similarity", "likelihood")
_HOLE = "{label}"


@dataclass(frozen=True)
class ZeroShotClassification:
    """Zero-shot classification: the best of the labels that are asked with a text.

    Each label becomes a hypothesis h ("This text is about sport."), and the score of h is

        entailment: the logit of "entailment" of the pair (text, h)
        similarity: scale * cos(e(text), e(h)), e the pooled vectors of a bi-encoder
        likelihood: log p(h | text) of a decoder, the sum over the tokens of h

    and the probabilities are the softmax over the labels asked. Trained on labelled rows, the
    right label's score is raised against the others'; other labels can be asked afterwards.

    Args:
        labels: the labels of the training rows, in order; found in the data when empty.
        through: `entailment`, `similarity` or `likelihood`.
        hypothesis: what a label becomes; `{label}` stands in it once.
        entailment_labels: the classes of the head, one of which begins with "entail"; those of the
            checkpoint where it holds such a head.
        scale: of the cosine.
        pooling: of `similarity`: `mean`, `cls`, `max` or `last`.
        max_length: the most token ids in a sequence; of a text that is too long the rest is cut.
        head_dropout: share of the pooled units dropped in training.
        label_smoothing: share of the target spread over the other labels (tokens).

    Example:
        >>> pipe.predict(["The keeper saved a penalty."], given={"labels": ["sport", "trade"]})

    Reference: Yin et al. 2019, https://arxiv.org/abs/1909.00161 (entailment);
    Schick and Schütze 2021, https://arxiv.org/abs/2001.07676 (verbalised labels)
    """

    name: ClassVar[str] = "zero-shot-classification"
    kind: ClassVar[str] = "multiclass"
    inputs: ClassVar[tuple[str, ...]] = ("text", "labels")
    asked: ClassVar[dict[str, str]] = {"labels": "texts"}
    padded: ClassVar[tuple[str, ...]] = ("probabilities",)
    target: ClassVar[str] = "label"
    labelled: ClassVar[bool] = True
    least_labels: ClassVar[int] = 2
    tunable: ClassVar[bool] = False
    labels: tuple[str, ...] = ()
    through: str = "entailment"
    hypothesis: str = "This text is about {label}."
    entailment_labels: tuple[str, ...] = ("not_entailment", "entailment")
    scale: float = 20.0
    pooling: str = "mean"
    max_length: int = 256
    head_dropout: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self):
        for name in ("labels", "entailment_labels"):
            values = tuple(str(v) for v in listed(name, getattr(self, name)))
            object.__setattr__(self, name, values)
        one_of("through", self.through, WAYS)
        one_of("pooling", self.pooling, POOLINGS)
        whole("max_length", self.max_length, 8)
        in_range("scale", self.scale, 0, above=True)
        in_range("head_dropout", self.head_dropout, 0, 0.999)
        in_range("label_smoothing", self.label_smoothing, 0, 0.999)
        if not isinstance(self.hypothesis, str) or self.hypothesis.count(_HOLE) != 1:
            raise InputError(
                f"`hypothesis` is a text in which {_HOLE} stands once. "
                f"Received: hypothesis={self.hypothesis!r}."
            )
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"`labels` holds a label twice. Received: labels={self.labels!r}.")
        if _entailing(self.entailment_labels) is None:
            raise InputError(
                "One of `entailment_labels` begins with 'entail'. "
                f"Received: entailment_labels={self.entailment_labels!r}."
            )

    # --- what is read ---------------------------------------------------------------------------

    @property
    def tokenwise(self) -> bool:
        """Whether every token has a target: those of the right label's hypothesis."""
        return self.through == "likelihood"

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the fields that training encodes."""
        return ("text", "label") if self.tokenwise else ("text",)

    @property
    def sides(self) -> int:
        """Sequences of an example: one a label, and for `similarity` the text."""
        many = {"entailment": len(self.labels), "similarity": 1 + len(self.labels)}
        return many.get(self.through, 1)

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        return {"text": "text", "label": "label"}

    def with_labels(self, counts: dict[str, int]) -> "ZeroShotClassification":
        """The task with the data's labels in their order."""
        return self if self.labels else dataclasses.replace(self, labels=tuple(counts))

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn texts and candidate labels into ids, in the graph.

        Args:
            tokenizer: a KerasHub tokenizer.
            fields: `text` string [batch], and `labels` ragged string [batch, (labels)]; to learn
                from `text`, with the task's labels, or `text` and `label`.

        Returns:
            int32 [sequences, length]: the backbone's inputs, row after row, one sequence a label
            (before them the text's own for `similarity`); `row` int32 [sequences].
        """
        import tensorflow as tf

        from kerasft._core import ragged

        text, labels = fields["text"], self._candidates(fields)
        before, _, after = self.hypothesis.partition(_HOLE)
        hypotheses = labels.with_values(tf.strings.join([before, labels.values, after]))
        if self.through == "similarity":
            both = ragged.side_by_side([text[:, None], hypotheses])
            found = pack([tokenizer(both.values)], template_of(tokenizer), self.max_length)
            return found | {"row": ragged.rows_of(both)}
        row = ragged.rows_of(hypotheses)
        texts = tf.gather(text, row)
        if self.through == "entailment":
            ids = [ragged_ids(tokenizer(part)) for part in (texts, hypotheses.values)]
            return pack(ids, template_of(tokenizer), self.max_length) | {"row": row}
        writing = _language.writing_of(tokenizer, "none")
        parts = [
            tf.strings.join([_language.TEXT, texts, "\n"]),
            tf.strings.join([_language.LEARNED_TEXT, hypotheses.values]),
        ]
        segments = tf.RaggedTensor.from_tensor(tf.stack(parts, axis=1))
        ids, learned = _language.segment_ids(tokenizer, writing, segments)
        begin = len(writing.begin)
        made = _writers.examples(tokenizer, ids, learned, self.max_length, begin, "left")
        return made | {"row": row}

    def _candidates(self, fields: dict[str, Any]) -> Any:
        """The labels whose hypotheses are read, ragged string [batch, (labels)]."""
        import tensorflow as tf

        if "labels" in fields:
            return fields["labels"]
        if "label" in fields:
            return tf.RaggedTensor.from_tensor(fields["label"][:, None])
        every = tf.tile(tf.constant([self.labels]), [tf.shape(fields["text"])[0], 1])
        return tf.RaggedTensor.from_tensor(every)

    def targets(self, fields: dict[str, list], features: dict[str, np.ndarray]) -> np.ndarray:
        """The number of the right label, int32 [rows]; of `likelihood` the id that follows each
        token of its hypothesis, int32 [rows, length]."""
        if self.tokenwise:
            return _writers.checked(features, fields["label"], "error", self.max_length)
        index = {label: i for i, label in enumerate(self.labels)}
        return np.asarray([index[label] for label in fields["label"]], np.int32)

    # --- model ----------------------------------------------------------------------------------

    @property
    def _pairs(self) -> TextClassification:
        """The classifier of pairs that judges entailment."""
        return TextClassification(
            labels=self.entailment_labels, pair=True, head_dropout=self.head_dropout
        )

    def build(self, backbone: Any) -> Any:
        """Connect a backbone and the head to a functional `keras.Model`.

        Args:
            backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).

        Returns:
            keras.Model from the backbone's inputs, int32 [sequences, length] each, to float32
            logits [sequences, classes], vectors of length 1 [sequences, width], or logits
            [sequences, length, vocabulary].
        """
        if self.through == "entailment":
            return self._pairs.build(backbone)
        if self.through == "likelihood":
            return language_model(backbone, "zero_shot")
        head = EmbeddingHead(self.pooling, True, self.head_dropout)
        return functional(backbone, head, "zero_shot")

    # --- a head that was fine-tuned elsewhere ---------------------------------------------------

    @property
    def head_problem(self) -> str | None:
        """The `problem` of checkpoints' heads for it: an entailment head classifies pairs."""
        return "single-label" if self.through == "entailment" else None

    def with_head(self, head: Any) -> "ZeroShotClassification":
        """The task with the classes of a checkpoint's head, if it judges entailment."""
        if _entailing(head.labels) is None:
            return self
        return dataclasses.replace(self, entailment_labels=head.labels)

    def fits_head(self, head: Any, backbone: Any) -> bool:
        """Whether a checkpoint's head (`kerasft.backbones.huggingface.Head`) is this task's."""
        return self._pairs.fits_head(head, backbone)

    def load_head(self, model: Any, head: Any) -> None:
        """Start from a checkpoint's head."""
        self._pairs.load_head(model, head)

    def to_head(self, model: Any) -> Any:
        """The model's head as a checkpoint holds it."""
        return self._pairs.to_head(model)

    @property
    def _how(self) -> dict[str, Any]:
        index = _entailing(self.entailment_labels)
        return {"through": self.through, "index": index, "scale": self.scale}

    def loss(self) -> Any:
        """Cross-entropy over the labels, or of the hypothesis' tokens, as a Keras loss."""
        if self.tokenwise:
            return TokenLoss(self.label_smoothing)
        return _candidates.CandidateLoss(**self._how, smoothing=self.label_smoothing)

    def metrics(self) -> list[Any]:
        """What the progress bar shows: the share of right labels, or of right tokens."""
        if self.tokenwise:
            return [TokenAccuracy()]
        return [_candidates.CandidateAccuracy(**self._how)]

    # --- answers --------------------------------------------------------------------------------

    def answer(self, pipe: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Choose among labels, in the graph.

        Args:
            pipe: holds model and tokenizer.
            fields: `text` string [batch], `labels` ragged string [batch, (labels)].

        Returns:
            `label` string [batch], "" where none is asked; `probabilities` float32 [batch, most
            labels], in the order asked, padded with 0.
        """
        features = self.encode(pipe.tokenizer, fields)
        return _candidates.chosen(self._scores(pipe, features, fields["labels"]), fields["labels"])

    def _scores(self, pipe: Any, features: dict[str, Any], labels: Any) -> Any:
        """The score of each candidate of all rows, row after row, float32 [candidates]."""
        import tensorflow as tf

        from kerasft._core import ragged

        index, given = _entailing(self.entailment_labels), dict(features)
        for name in ("row", "lost"):
            given.pop(name, None)

        # Every label of every text is a sequence: run at once, one request would take any memory.
        def entailed(part: dict) -> Any:
            return tf.cast(pipe.run(part)[:, index], tf.float32)

        def likely(part: dict) -> Any:
            return -_writers.token_nll(pipe.run(part), part["targets"])[:, 0]

        if self.through == "entailment":
            return in_groups(entailed, given, (), pipe.spare, most=32)
        if self.through == "likelihood":
            return in_groups(likely, given, (), pipe.spare, most=8)
        width = (pipe.model.output_shape[-1],)
        vectors = in_groups(pipe.run, given, width, pipe.spare, most=32)
        rows = ragged.rows_of(labels)
        starts = tf.cast(labels.row_splits[:-1], tf.int32) + tf.range(labels.nrows(tf.int32))
        texts = tf.gather(vectors, tf.gather(starts, rows))
        places = tf.range(tf.size(rows)) + rows + 1
        return self.scale * tf.reduce_sum(texts * tf.gather(vectors, places), axis=-1)

    # --- scores ---------------------------------------------------------------------------------

    def scoring(self) -> dict[str, Any]:
        """Options of the report: none."""
        return {}

    def judged(self, pipe: Any, chunks: Any) -> Iterator[tuple]:
        """The labels of the training rows are asked: (shown, right ones, probabilities)."""
        index = {label: i for i, label in enumerate(self.labels)}
        for fields in chunks:
            answers = pipe.predict(fields["text"], given={"labels": self.labels})
            truth = np.asarray([index[label] for label in fields["label"]], np.int32)
            scores = np.asarray([answer["probabilities"] for answer in answers], np.float32)
            yield {"text": fields["text"]}, truth, scores


def _entailing(labels: tuple[str, ...]) -> int | None:
    """The place of the class that says that the text entails the hypothesis."""
    found = [i for i, label in enumerate(labels) if label.lower().startswith("entail")]
    return found[0] if len(found) == 1 else None
