"""Text similarity: a vector a text, so that texts that belong together lie close together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import template_of
from kerasft.data import encoder
from kerasft.heads import POOLINGS
from kerasft.preprocessing import pack, ragged_ids
from kerasft.tasks._models import functional

OBJECTIVES = ("multiple-negatives", "triplet", "cosine")
_SIDES = ("text", "text_pair", "negative")
# What stands between the items of a history.
JOINT = "; "
_CHUNK = 1024  # texts that are encoded together
_BLOCK = 2**21  # cosines that are held together


@dataclass(frozen=True)
class TextSimilarity:
    """Text similarity: a bi-encoder for search, semantic similarity and recommendation.

        embedding(text) = pooled(backbone(prefix + text)), of length 1
        likeness of two texts = the cosine of their embeddings

    One backbone reads both sides. Rows hold what is looked for (`text`) and what answers it
    (`text_pair`), with a text that does not (`negative`) where it is asked for; or, to learn a
    likeness, two texts and a `score`.

    Args:
        objective: `multiple-negatives` (the passages of the other rows of the batch are wrong
            answers), `triplet` (against the row's `negative`), or `cosine` (the `score`).
        hard_negatives: multiple-negatives: the rows have a `negative`, which joins the candidates.
        symmetric: multiple-negatives: also find the query of each passage.
        scale: multiple-negatives: what cosines are multiplied with before the softmax.
        margin: triplet: by how much the passage's cosine has to be above the negative's.
        score_range: cosine: the lowest and the highest score there can be. They are moved to 0
            and 1, or where the lowest is below 0, to -1 and 1.
        pooling: `mean`, `cls`, `max` or `last`.
        normalize: whether the embeddings have length 1.
        query_prefix: what is put before `text`, such as "query: " for E5.
        passage_prefix: what is put before `text_pair` and `negative`, such as "passage: ". A text
            that begins with one of the two prefixes already is left as it is.
        history: `text` is a list of texts, the items that a user chose, the latest last. They are
            joined, the latest first, so that `max_length` cuts off the oldest.
        max_length: the most token ids in a sequence.
        head_dropout: share of the pooled units dropped in training.

    Example:
        >>> task = TextSimilarity(query_prefix="query: ", passage_prefix="passage: ")
        >>> model = task.build(backbone)

    Reference: Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084;
    Henderson et al. 2017, https://arxiv.org/abs/1705.00652 (negatives of the batch);
    Wang et al. 2022, https://arxiv.org/abs/2212.03533 (prefixes)
    """

    name: ClassVar[str] = "text-similarity"
    tokenwise: ClassVar[bool] = False
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    padded: ClassVar[tuple[str, ...]] = ()
    labelled: ClassVar[bool] = False
    least_labels: ClassVar[int] = 0
    labels: ClassVar[tuple[str, ...]] = ()
    tunable: ClassVar[bool] = False
    head_problem: ClassVar[None] = None  # no checkpoint's head is read or written
    objective: str = "multiple-negatives"
    hard_negatives: bool = False
    symmetric: bool = False
    scale: float = 20.0
    margin: float = 0.5
    score_range: tuple[float, float] = (0.0, 1.0)
    pooling: str = "mean"
    normalize: bool = True
    query_prefix: str = ""
    passage_prefix: str = ""
    history: bool = False
    max_length: int = 256
    head_dropout: float = 0.0

    def __post_init__(self):
        one_of("objective", self.objective, OBJECTIVES)
        one_of("pooling", self.pooling, POOLINGS)
        whole("max_length", self.max_length, 8)
        in_range("scale", self.scale, 0, above=True)
        in_range("margin", self.margin, 0, 2)
        in_range("head_dropout", self.head_dropout, 0, 0.999)
        for name in ("hard_negatives", "symmetric", "normalize", "history"):
            one_of(name, getattr(self, name), (True, False))
        for name in ("query_prefix", "passage_prefix"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"`{name}` is a text. Received: {getattr(self, name)!r}.")
        for name in ("hard_negatives", "symmetric"):
            if getattr(self, name) and self.objective != "multiple-negatives":
                raise InputError(
                    f"`{name}` belongs to the objective multiple-negatives. "
                    f"Received: objective={self.objective!r}."
                )
        limits = self.score_range
        if not isinstance(limits, tuple) or len(limits) != 2:
            raise InputError(
                f"`score_range` is the lowest and the highest score. Received: {limits!r}."
            )
        low, high = (in_range("score_range", limit) for limit in limits)
        in_range("score_range", high, low, above=True)

    # --- what is read ---------------------------------------------------------------------------

    @property
    def sides(self) -> int:
        """Texts of an example: two, or three with a negative."""
        return 3 if self.objective == "triplet" or self.hard_negatives else 2

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the fields that training encodes."""
        return _SIDES[: self.sides]

    @property
    def kind(self) -> str:
        """The kind of report that scores this task (see `kerasft.evaluation`)."""
        return "similarity" if self.objective == "cosine" else "ranking"

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        kinds = dict.fromkeys(self.reads, "text")
        if self.history:
            kinds["text"] = "texts"
        return kinds | ({"score": "number"} if self.objective == "cosine" else {})

    def with_labels(self, counts: dict[str, int]) -> "TextSimilarity":
        """The task itself: there are no labels."""
        return self

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn string tensors into the backbone's inputs, in the graph.

        Args:
            tokenizer: a KerasHub tokenizer.
            fields: one or more of `text`, `text_pair` and `negative`, each string [batch]; with
                `history`, `text` is ragged [batch, (items)].

        Returns:
            `token_ids`, `segment_ids`, `padding_mask`, int32 [batch * fields, longest]: the texts
            of the first example, then those of the second.
        """
        import tensorflow as tf

        template = template_of(tokenizer)
        if template.added(1) >= self.max_length:
            raise InputError(f"`max_length` leaves no room for text. Received: {self.max_length}.")
        texts = [self._prefixed(name, fields[name]) for name in _SIDES if name in fields]
        mixed = tf.reshape(tf.stack(texts, axis=1), [-1])
        return pack([ragged_ids(tokenizer(mixed))], template, self.max_length)

    def _prefixed(self, name: str, texts: Any) -> Any:
        import tensorflow as tf

        if name == "text" and self.history:
            texts = tf.strings.reduce_join(texts[:, ::-1], axis=1, separator=JOINT)
        texts = tf.convert_to_tensor(texts)
        prefix = self.query_prefix if name == "text" else self.passage_prefix
        if not prefix:
            return texts
        there = tf.zeros_like(texts, tf.bool)
        for known in filter(None, (self.query_prefix, self.passage_prefix)):
            there |= tf.strings.substr(texts, 0, len(known.encode())) == known
        return tf.where(there, texts, prefix + texts)

    def targets(self, fields: dict[str, list], features: dict[str, np.ndarray]) -> np.ndarray:
        """What is learned of each example.

        The cosine, float32 [n, 1]; for `multiple-negatives` a number of each text, int64
        [n, sides], the same for the same ids; for `triplet` nothing, 0.

        Raises:
            InputError: for a score outside `score_range`.
        """
        if self.objective == "cosine":
            return self._cosines_of(fields["score"])
        if self.objective == "triplet":
            return np.zeros(len(fields["text"]), np.float32)
        real = features["padding_mask"].astype(bool)
        ids = (row[kept] for row, kept in zip(features["token_ids"], real, strict=True))
        digests = b"".join(blake2b(row.tobytes(), digest_size=8).digest() for row in ids)
        return np.frombuffer(digests, np.int64).reshape(-1, self.sides)

    def _cosines_of(self, scores: list) -> np.ndarray:
        low, high = self.score_range
        values = np.asarray(scores, np.float64)
        wrong = values[(values < low) | (values > high)]
        if len(wrong):
            raise InputError(
                f"Each score is from {low:g} to {high:g}, as task.score_range says. "
                f"Received: {wrong[0]:g}. Set task.score_range to the lowest and the highest "
                "score that there can be."
            )
        share = (values - low) / (high - low)
        return (2 * share - 1 if low < 0 else share).astype(np.float32)[:, None]

    def scoring(self) -> dict[str, Any]:
        """Options of the report (`kerasft.evaluation.Collector`)."""
        return {}

    def truth(self, fields: dict[str, list]) -> list:
        """What is right in each row: the score, or the passage."""
        return list(fields["score" if self.objective == "cosine" else "text_pair"])

    # --- model ----------------------------------------------------------------------------------

    def build(self, backbone: Any) -> Any:
        """Connect a backbone and the head to a functional `keras.Model` that gives embeddings.

        Args:
            backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).

        Returns:
            keras.Model from the backbone's inputs, int32 [batch, length] each, to embeddings
            [batch, width], float32.
        """
        from kerasft.tasks._embedding import EmbeddingHead

        head = EmbeddingHead(self.pooling, self.normalize, self.head_dropout)
        return functional(backbone, head, "text_similarity")

    def loss(self) -> Any:
        """The loss of the objective, as a Keras loss of embeddings [batch, sides, width]."""
        from kerasft.tasks._embedding import CosineLoss, NegativesLoss, TripletLoss

        if self.objective == "cosine":
            return CosineLoss()
        if self.objective == "triplet":
            return TripletLoss(self.margin)
        return NegativesLoss(self.scale, self.symmetric)

    @property
    def whole_batch(self) -> bool:
        """Whether the loss of a row depends on the other rows of the batch."""
        return self.objective == "multiple-negatives"

    def metrics(self) -> list[Any]:
        """What the progress bar shows: how often the passage is nearest; of scores the error."""
        from kerasft.tasks._embedding import CosineError, Nearest

        if self.objective == "cosine":
            return [CosineError(name="mae")]
        return [Nearest(self.objective == "triplet", name="accuracy")]

    # --- outputs to answers ---------------------------------------------------------------------

    def decode(self, outputs: Any, features: dict[str, Any] | None = None) -> dict[str, Any]:
        """Name the answers.

        Args:
            outputs: embeddings [batch, width].

        Returns:
            `embedding` float32 [batch, width].
        """
        return {"embedding": outputs}

    def scores(self, outputs: np.ndarray, features: Any = None) -> np.ndarray:
        """The embeddings [n, width]; what is made of them in a report is in `judged`."""
        return outputs

    # --- likeness -------------------------------------------------------------------------------

    def embeddings(self, pipe: Any, texts: list, side: str = "text") -> np.ndarray:
        """Vectors of length 1 of texts.

        Args:
            pipe: the pipeline of this task.
            texts: one or more texts; with `history`, lists of texts where `side` is "text".
            side: "text" for what is looked for, "text_pair" for what is found.

        Returns:
            float32 [texts, width].
        """
        encode = encoder(self, pipe.tokenizer, (side,))
        parts = []
        for start in range(0, len(texts), _CHUNK):
            features = encode({side: texts[start : start + _CHUNK]})
            parts.append(pipe.outputs(features))
        vectors = np.concatenate(parts)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)

    def rank(
        self, pipe: Any, query: str | list[str], candidates: list[str], top: int | None = None
    ) -> list[dict[str, Any]]:
        """Order candidates by their cosine with a query.

        Args:
            pipe: the pipeline of this task.
            query: a text; or a list of texts, such as the items that a user chose, which stand for
                the mean of their embeddings, or with `history` are joined to one text.
            candidates: texts.
            top: how many to give; all when None.

        Returns:
            `text`, `score` (the cosine, -1 to 1) and `index` (the place in `candidates`) of each,
            the best first.

        Raises:
            InputError: for what is no text, or no candidate.

        Example:
            >>> pipe.rank("reset my password", ["Opening hours", "Choose a new password"], top=1)
            [{'text': 'Choose a new password', 'score': 0.83, 'index': 1}]
        """
        items = [query] if isinstance(query, str) else query
        if top is not None:
            whole("top", top, 1)
        for name, texts in (("query", items), ("candidates", candidates)):
            listed = isinstance(texts, (list, tuple)) and len(texts)
            if not listed or not all(isinstance(text, str) for text in texts):
                kind = "a string or a list of strings" if name == "query" else "a list of strings"
                raise InputError(f"`{name}` is {kind}, at least one. Received: {texts!r:.80}.")
        found = self.embeddings(pipe, candidates, "text_pair")
        asked = self.embeddings(pipe, [items] if self.history else items).mean(axis=0)
        scores = found @ (asked / max(float(np.linalg.norm(asked)), 1e-6))
        order = np.argsort(-scores, kind="stable")[:top]
        return [{"text": candidates[i], "score": float(scores[i]), "index": int(i)} for i in order]

    def judged(self, pipe: Any, chunks: Iterable[dict[str, list]]) -> Iterator[tuple]:
        """What the report compares, block by block.

        For `cosine` the cosine of each row. Else each query is one row, however many rows of the
        data ask it: the candidates are all passages of the data, each once, and those of the
        query's rows are relevant.

        Args:
            pipe: the pipeline of this task.
            chunks: rows, read once.

        Yields:
            (fields to show, right answers, outputs) as `kerasft.evaluation.Collector.add` takes
            them for `kind`. Of [queries x passages] there are about two million at a time.
        """
        return (self._likenesses if self.kind == "similarity" else self._rankings)(pipe, chunks)

    def _likenesses(self, pipe: Any, chunks: Iterable[dict[str, list]]) -> Iterator[tuple]:
        for fields in chunks:
            one = self.embeddings(pipe, fields["text"])
            other = self.embeddings(pipe, fields["text_pair"], "text_pair")
            shown = {"text": self._shown(fields["text"]), "text_pair": fields["text_pair"]}
            yield shown, self.truth(fields), (one * other).sum(axis=1)

    def _rankings(self, pipe: Any, chunks: Iterable[dict[str, list]]) -> Iterator[tuple]:
        places: dict[str, int] = {}
        right: dict[Any, list[int]] = {}
        for fields in chunks:
            for query, passage in zip(fields["text"], fields["text_pair"], strict=True):
                place = places.setdefault(passage, len(places))
                right.setdefault(query, []).append(place)
        if not places:
            return
        passages, queries = list(places), list(right)
        found = self.embeddings(pipe, passages, "text_pair")
        size = max(_BLOCK // len(passages), 1)
        for start in range(0, len(queries), _CHUNK):
            asked = self.embeddings(pipe, queries[start : start + _CHUNK])
            for begin in range(0, len(asked), size):
                part = queries[start + begin : start + min(begin + size, len(asked))]
                scores = asked[begin : begin + size] @ found.T
                relevance = np.zeros(scores.shape, np.float32)
                for row, query in enumerate(part):
                    relevance[row, right[query]] = 1.0
                shown = {
                    "text": self._shown(part),
                    "text_pair": [passages[right[query][0]] for query in part],
                    "found": [passages[i] for i in scores.argmax(axis=1)],
                }
                yield shown, relevance, scores

    def _shown(self, queries: list) -> list[str]:
        return [JOINT.join(items) for items in queries] if self.history else list(queries)
