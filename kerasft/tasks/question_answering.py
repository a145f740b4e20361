"""Question answering: the span of a context that answers a question."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import pieces, surfaces, template_of
from kerasft.heads import TokenHead
from kerasft.metrics import answer_scores
from kerasft.preprocessing import beside, pack, ragged_ids, taken, windows
from kerasft.tasks import _spans
from kerasft.tasks._models import functional

# Where no threshold was chosen, an answer and no answer are weighed as they are.
_FLOOR = -1e8


@dataclass(frozen=True)
class QuestionAnswering:
    """Extractive question answering: the best spans of a context, or that there is none.

        score(i, j) = s_i + e_j,   score(none) = s_0 + e_0

    over the tokens i <= j of the context; position 0 stands for no answer. Long contexts are read
    in windows that overlap, and their spans are compared.

    Args:
        answers: how many answers are given, the best first.
        unanswerable: whether "" may be the answer (SQuAD v2); else the best span always is.
        threshold: "" is answered where score(none) - score(best) is above it; chosen on the
            validation rows when None.
        max_length: the most token ids in a window, question and special ids included.
        max_question: the most token ids of a question; the rest is cut.
        max_answer: the most token ids in an answer.
        overlap: token ids that a window shares with the one before.
        head_dropout: share of a token's units dropped in training.
        language: `en`, or `zh` to score by characters.

    Example:
        >>> model = QuestionAnswering().build(backbone)

    Reference: Devlin et al. 2018, https://arxiv.org/abs/1810.04805 (4.2, 4.3);
    Rajpurkar et al. 2018, https://arxiv.org/abs/1806.03822 (unanswerable questions)
    """

    name: ClassVar[str] = "question-answering"
    kind: ClassVar[str] = "answers"
    tokenwise: ClassVar[bool] = False
    sides: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")
    reads: ClassVar[tuple[str, ...]] = ("question", "context")
    padded: ClassVar[tuple[str, ...]] = ("answer", "start", "end", "score")
    target: ClassVar[str] = "answers"
    labelled: ClassVar[bool] = False
    head_problem: ClassVar[str] = "answers"
    least_labels: ClassVar[int] = 0
    labels: ClassVar[tuple[str, ...]] = ()
    answers: int = 1
    unanswerable: bool = False
    threshold: float | None = None
    max_length: int = 384
    max_question: int = 64
    max_answer: int = 30
    overlap: int = 128
    head_dropout: float = 0.1
    language: str = "en"

    def __post_init__(self):
        for name, least in (("answers", 1), ("max_length", 8), ("max_question", 1)):
            whole(name, getattr(self, name), least)
        whole("max_answer", self.max_answer, 1)
        whole("overlap", self.overlap, 0)
        in_range("head_dropout", self.head_dropout, 0, 0.999)
        one_of("language", self.language, ("en", "zh"))

    # --- what is read ---------------------------------------------------------------------------

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        return {"question": "text", "context": "text", "answers": "answers"}

    def with_labels(self, counts: dict[str, int]) -> "QuestionAnswering":
        """The task itself: there are no labels."""
        return self

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn questions and contexts into windows of ids, in the graph.

        Args:
            tokenizer: a KerasHub tokenizer.
            fields: `question` and `context`, each string [batch].

        Returns:
            int32 [windows, length]: the backbone's inputs; `start` and `end`, where the word of a
            piece of the context lies in it, -1 elsewhere. Of each window `row` int32 [windows];
            and `context` as it was given.
        """
        import tensorflow as tf

        template = template_of(tokenizer)
        added = template.added(2)
        most = min(self.max_question, (self.max_length - added) // 2)
        if most <= 0:
            raise InputError(f"`max_length` leaves no room for text. Received: {self.max_length}.")
        question = ragged_ids(tokenizer(fields["question"]))[:, :most]
        found = pieces(tokenizer, fields["context"])
        asked = tf.cast(question.row_lengths(), tf.int32)
        row, begin, end = windows(
            found.ids.row_lengths(), self.max_length - added - asked, self.overlap
        )
        texts = [tf.gather(question, row), taken(found.ids, row, begin, end)]
        before = len(template.start) + len(template.separator) + tf.gather(asked, row)
        made = {
            name: beside(taken(values, row, begin, end), before, len(template.end))
            for name, values in (("start", found.start), ("end", found.end))
        }
        features = pack(texts, template, self.max_length)
        return features | made | {"row": row, "context": fields["context"]}

    def targets(self, fields: dict[str, list], features: dict[str, np.ndarray]) -> np.ndarray:
        """The first and the last token of the answer, int32 [windows, 2]; 0 where there is none."""
        return _spans.spans_of(fields["answers"], features)

    def scoring(self) -> dict[str, Any]:
        """Options of the report (`kerasft.evaluation.Collector`)."""
        version = "2.0" if self.unanswerable else "1.1"
        return {"options": {"version": version, "language": self.language}}

    def truth(self, fields: dict[str, list]) -> list[list[str]]:
        """The right answers of each row; none where the question has none."""
        return [[text for _, text in answers] for answers in fields["answers"]]

    # --- model ----------------------------------------------------------------------------------

    def build(self, backbone: Any) -> Any:
        """Connect a backbone and the head to a functional `keras.Model` that gives logits.

        Args:
            backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).

        Returns:
            keras.Model from the backbone's inputs, int32 [batch, length] each, to logits
            [batch, length, 2] of the first and the last token, float32, very low on padding.
        """
        return functional(backbone, _Head(self.head_dropout), "question_answering")

    # --- a head that was fine-tuned elsewhere ---------------------------------------------------

    def with_head(self, head: Any) -> "QuestionAnswering":
        """The task itself: a checkpoint's head has no labels."""
        return self

    def fits_head(self, head: Any, backbone: Any) -> bool:
        """Whether a checkpoint's head (`kerasft.backbones.huggingface.Head`) is this task's."""
        return head.problem == self.head_problem

    def load_head(self, model: Any, head: Any) -> None:
        """Start from a checkpoint's head."""
        model.get_layer("logits").set_weights([head.logits_kernel, head.logits_bias])

    def to_head(self, model: Any) -> Any:
        """The model's head as a checkpoint holds it."""
        from kerasft.backbones.huggingface import Head

        weights = model.get_layer("logits").get_weights()
        return Head(("start", "end"), self.head_problem, None, None, *weights)

    def loss(self) -> Any:
        """Cross-entropy of the first and the last token, as a Keras loss."""
        return _spans.SpanLoss()

    def metrics(self) -> list[Any]:
        """What the progress bar shows: the share of windows with the right span."""
        return [_spans.SpanAccuracy(name="accuracy")]

    # --- outputs to answers ---------------------------------------------------------------------

    def decode(self, outputs: Any, features: dict[str, Any]) -> dict[str, Any]:
        """Turn logits into answers, in the graph.

        Args:
            outputs: logits [windows, length, 2].
            features: what `encode` gave.

        Returns:
            `answer` string, `start` and `end` int32 (code points of the context, end exclusive),
            `score` float32 (the softmax over spans and no answer), each [batch, answers], the
            best first, padded with "", -1 and 0. No answer is "", -1, -1 and its score.
        """
        import tensorflow as tf

        score, start, end, none = self._ranked(outputs, features)
        real = score > _FLOOR
        if self.unanswerable and self.threshold != math.inf:
            # Behind the spans, so that of equal scores the answer is given.
            none = none - (self.threshold or 0.0)
            score = tf.concat([score, none[:, None]], axis=1)
            start, end = (tf.pad(v, [[0, 0], [0, 1]], constant_values=-1) for v in (start, end))
            real = tf.pad(real, [[0, 0], [0, 1]], constant_values=True)
        p = tf.where(real, tf.nn.softmax(score, axis=1), 0.0)
        missing = tf.maximum(self.answers - tf.shape(p)[1], 0)
        wide = [[0, 0], [0, missing]]
        p, order = tf.math.top_k(tf.pad(p, wide), self.answers)
        start, end = (
            tf.gather(tf.pad(tf.where(real, v, -1), wide, constant_values=-1), order, batch_dims=1)
            for v in (start, end)
        )
        context = tf.convert_to_tensor(features["context"])
        found = {"answer": surfaces(context, start, end), "start": start, "end": end}
        return found | {"score": p}

    def _ranked(self, outputs: Any, features: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
        """Score, start and end of each row's spans, the best first, and the score of no answer."""
        import tensorflow as tf

        outputs = tf.convert_to_tensor(outputs)
        row, rows = tf.convert_to_tensor(features["row"]), tf.size(features["context"])
        found = _spans.candidates(outputs, features, self.max_answer)
        score, start, end = _spans.best_spans(*found, row, rows)
        none = tf.math.unsorted_segment_min(tf.reduce_sum(outputs[:, 0], axis=-1), row, rows)
        return score, start, end, none

    def scores(self, outputs: np.ndarray, features: dict[str, np.ndarray]) -> list[tuple]:
        """The answer of each row, and by how much it is more likely than none."""
        import tensorflow as tf

        score, start, end, none = self._ranked(outputs, features)
        context = tf.convert_to_tensor(features["context"])
        found = score[:, 0] > _FLOOR
        texts = surfaces(context, tf.where(found, start[:, 0], -1)[:, None], end[:, :1])[:, 0]
        sure = tf.where(found, score[:, 0] - none, _FLOOR).numpy().tolist()
        texts = [text.decode() for text in texts.numpy()]
        if self.unanswerable:
            limit = -(self.threshold or 0.0)
            texts = [text if s >= limit else "" for text, s in zip(texts, sure, strict=True)]
        return list(zip(texts, sure, strict=True))

    @property
    def tunable(self) -> bool:
        """Whether the threshold is still to be chosen on validation rows."""
        return self.unanswerable and self.threshold is None

    @property
    def untuned(self) -> "QuestionAnswering":
        """The task whose scores `tuned` is given: it always answers."""
        return dataclasses.replace(self, threshold=math.inf)

    def tuned(self, truth: list, scores: list) -> "QuestionAnswering":
        """The task with the threshold of the best F1."""
        texts, sure = zip(*scores, strict=True)
        found = answer_scores(truth, list(texts), [-s for s in sure], language=self.language)
        return dataclasses.replace(self, threshold=float(found["best_f1_threshold"]))


@dataclass(frozen=True)
class _Head:
    """Two logits a token, as Transformers' `...ForQuestionAnswering` makes them."""

    dropout: float

    def build(self, family: Any, features: Any, inputs: dict[str, Any]) -> Any:
        """Connect the head to a backbone's symbolic outputs."""
        logits = TokenHead(2, self.dropout).build(family, features, inputs)
        return _spans.OnReal(name="on_real", dtype="float32")(logits, inputs.get("padding_mask"))
