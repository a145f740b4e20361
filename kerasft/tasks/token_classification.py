"""Token classification: named entities, parts of speech, any labelled spans of a text."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import in_range, listed, one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones import pieces, surfaces, template_of
from kerasft.heads import TokenHead
from kerasft.preprocessing import beside, pack, row_begins, taken, windows
from kerasft.tasks._losses import TokenLoss
from kerasft.tasks._metrics import TokenAccuracy
from kerasft.tasks._models import functional
from kerasft.tasks._tagging import SCHEMES, Tags, best_tags, entities, of_names, of_words


@dataclass(frozen=True)
class TokenClassification:
    """Token classification: labelled spans of a text, such as named entities.

    Every word gets a tag of the scheme, read off its first piece; the other pieces are left out
    of the loss. Entities are spelled by the tags, and their offsets are those of their words in
    the raw text. Parts of speech are entities that cover the text.

    Args:
        labels: the kinds of entities, e.g. ("LOC", "PER"); found in the data when empty.
        scheme: `bio` or `iobes`, the tags that are learned, whatever those of the data are.
        decoding: `viterbi` (the best tags that the scheme allows) or `argmax` (the best of each
            word; a tag that goes on where nothing is open begins an entity).
        max_length: the most token ids in a window.
        overlap: token ids that a window of a long text shares with the one before.
        head_dropout: share of a token's units dropped in training.
        label_smoothing: share of the target spread over all tags, 0 to 1.

    Example:
        >>> task = TokenClassification(labels=("LOC", "PER"))
        >>> model = task.build(backbone)

    Reference: Ramshaw & Marcus 1995, https://arxiv.org/abs/cmp-lg/9505040 (the tags);
    Devlin et al. 2018, https://arxiv.org/abs/1810.04805 (the first piece of a word)
    """

    name: ClassVar[str] = "token-classification"
    kind: ClassVar[str] = "entities"
    tokenwise: ClassVar[bool] = True
    sides: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    reads: ClassVar[tuple[str, ...]] = ("text",)
    padded: ClassVar[tuple[str, ...]] = ("text", "label", "start", "end", "score")
    target: ClassVar[str] = "spans"
    labelled: ClassVar[bool] = True
    head_problem: ClassVar[str] = "tags"
    least_labels: ClassVar[int] = 1
    tunable: ClassVar[bool] = False
    labels: tuple[str, ...] = ()
    scheme: str = "bio"
    decoding: str = "viterbi"
    max_length: int = 256
    overlap: int = 32
    head_dropout: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self):
        labels = tuple(str(label) for label in listed("labels", self.labels))
        object.__setattr__(self, "labels", labels)
        one_of("scheme", self.scheme, SCHEMES)
        one_of("decoding", self.decoding, ("viterbi", "argmax"))
        whole("max_length", self.max_length, 8)
        whole("overlap", self.overlap, 0)
        in_range("head_dropout", self.head_dropout, 0, 0.999)
        in_range("label_smoothing", self.label_smoothing, 0, 0.999)
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"`labels` holds a label twice. Received: labels={self.labels!r}.")

    @property
    def tags(self) -> Tags:
        """The tags that are learned."""
        return Tags(self.labels, self.scheme)

    # --- what is read ---------------------------------------------------------------------------

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        return {"text": "text", "spans": "spans"}

    def with_labels(self, counts: dict[str, int]) -> "TokenClassification":
        """The task with the data's labels in their order."""
        return self if self.labels else dataclasses.replace(self, labels=tuple(counts))

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn texts into windows of ids, with the place of every word, in the graph.

        Args:
            tokenizer: a KerasHub tokenizer.
            fields: `text` string [batch].

        Returns:
            int32 [windows, length]: the backbone's inputs; `word`, the number of a word on its
            first piece and -1 elsewhere; `start` and `end`, where the word lies in the text. Of
            each window `row` int32 [windows]; and `text` as it was given.
        """
        import tensorflow as tf

        template = template_of(tokenizer)
        room = self.max_length - template.added(1)
        if room <= 0:
            raise InputError(f"`max_length` leaves no room for text. Received: {self.max_length}.")
        found = pieces(tokenizer, fields["text"])
        row, begin, end = windows(found.ids.row_lengths(), room, min(self.overlap, room - 1))
        around = len(template.start), len(template.end)
        made = {"word": first_pieces(found.word), "start": found.start, "end": found.end}
        made = {n: beside(taken(v, row, begin, end), *around) for n, v in made.items()}
        features = pack([taken(found.ids, row, begin, end)], template, self.max_length)
        # A text without pieces may have got an id to read.
        missing = tf.shape(features["token_ids"])[1] - tf.shape(made["word"])[1]
        wide = [[0, 0], [0, tf.maximum(missing, 0)]]
        made = {n: tf.pad(v, wide, constant_values=-1) for n, v in made.items()}
        return features | made | {"row": row, "text": fields["text"]}

    def targets(self, fields: dict[str, list], features: dict[str, np.ndarray]) -> np.ndarray:
        """The tag of each word on its first piece, -1 elsewhere, int32 [windows, length]."""
        found = np.full(features["word"].shape, -1, np.int32)
        edges = np.searchsorted(features["row"], np.arange(len(fields["spans"]) + 1))
        for spans, first, last in zip(fields["spans"], edges[:-1], edges[1:], strict=True):
            word = features["word"][first:last]
            read = word >= 0
            # A word in the overlap of two windows has one tag.
            _, one, all_of_them = np.unique(word[read], return_index=True, return_inverse=True)
            start, end = (features[n][first:last][read][one].tolist() for n in ("start", "end"))
            tags = self.tags.spell(list(zip(start, end, strict=True)), spans)
            found[first:last][read] = tags[all_of_them]
        return found

    def scoring(self) -> dict[str, Any]:
        """Options of the report (`kerasft.evaluation.Collector`)."""
        return {}

    def truth(self, fields: dict[str, list]) -> list[list[tuple[str, int, int]]]:
        """The right entities of each row, (label, start, end)."""
        return [[(label, a, b) for a, b, label in spans] for spans in fields["spans"]]

    # --- model ----------------------------------------------------------------------------------

    def build(self, backbone: Any) -> Any:
        """Connect a backbone and the head to a functional `keras.Model` that gives logits.

        Args:
            backbone: a KerasHub backbone, or one with a method (`kerasft.methods.adapt`).

        Returns:
            keras.Model from the backbone's inputs, int32 [batch, length] each, to logits
            [batch, length, tags], float32.

        Raises:
            InputError: without a label.
        """
        if not self.labels:
            raise InputError("A tagger needs at least one label. Received: labels=().")
        head = TokenHead(len(self.tags.names), self.head_dropout)
        return functional(backbone, head, "token_classification")

    # --- a head that was fine-tuned elsewhere ---------------------------------------------------

    def with_head(self, head: Any) -> "TokenClassification":
        """The task with the labels of a checkpoint's head, in the order of its tags.

        Raises:
            InputError: if the tags are of another scheme than the task's.
        """
        if self.labels:
            return self
        found = of_names(head.labels)
        scheme = found[0].scheme if found else "plain tags, or marks that lack some tags"
        if scheme != self.scheme:
            way = f"task.scheme={scheme} to start from its head, or " if found else ""
            raise InputError(
                f"The head of this folder must have the tags of {self.scheme}: O, and each of "
                f"{', '.join(SCHEMES[self.scheme])} with each label. Received: {scheme} "
                f"({', '.join(head.labels):.120}). Set {way}task.labels to start from a new one."
            )
        return dataclasses.replace(self, labels=found[0].labels)

    def fits_head(self, head: Any, backbone: Any) -> bool:
        """Whether a checkpoint's head (`kerasft.backbones.huggingface.Head`) is this task's."""
        found = of_names(head.labels) if head.problem == self.head_problem else None
        return bool(found) and sorted(found[0].names) == sorted(self.tags.names)

    def load_head(self, model: Any, head: Any) -> None:
        """Start from a checkpoint's head, whatever the order of its tags."""
        _, places = of_names(head.labels)
        order = [places[name] for name in self.tags.names]
        kernel, bias = head.logits_kernel[:, order], head.logits_bias[order]
        model.get_layer("logits").set_weights([kernel, bias])

    def to_head(self, model: Any) -> Any:
        """The model's head as a checkpoint holds it."""
        from kerasft.backbones.huggingface import Head

        weights = model.get_layer("logits").get_weights()
        return Head(self.tags.names, self.head_problem, None, None, *weights)

    def loss(self) -> Any:
        """Cross-entropy of the learned tokens, as a Keras loss."""
        return TokenLoss(self.label_smoothing)

    def metrics(self) -> list[Any]:
        """What the progress bar shows: the share of words with the right tag."""
        return [TokenAccuracy(name="accuracy")]

    # --- outputs to answers ---------------------------------------------------------------------

    def decode(self, outputs: Any, features: dict[str, Any]) -> dict[str, Any]:
        """Turn logits into entities, in the graph.

        Args:
            outputs: logits [windows, length, tags].
            features: what `encode` gave.

        Returns:
            `text` and `label` string, `start` and `end` int32 (code points of the raw text, end
            exclusive), `score` float32, each [batch, most entities], padded with "", -1 and 0.
        """
        import tensorflow as tf

        logits, start, end = of_words(outputs, features, tf.size(features["text"]))
        best, p = best_tags(logits, self.tags, self.decoding == "viterbi")
        found = entities(best, p, start, end, self.tags)
        names = tf.constant(self.labels)
        found["label"] = found["label"].with_flat_values(
            tf.gather(names, found["label"].flat_values)
        )
        found["text"] = surfaces(
            tf.convert_to_tensor(features["text"]), found["start"], found["end"]
        )
        fill = {"text": "", "label": "", "start": -1, "end": -1, "score": 0.0}
        return {name: found[name].to_tensor(pad) for name, pad in fill.items()}

    def scores(self, outputs: np.ndarray, features: dict[str, np.ndarray]) -> list[list[tuple]]:
        """The entities of each row, (label, start, end), as the report compares them."""
        found = {n: np.asarray(v) for n, v in self.decode(outputs, features).items()}
        rows = zip(found["label"], found["start"].tolist(), found["end"].tolist(), strict=True)
        return [
            [(label.decode(), a, b) for label, a, b in zip(*row, strict=True) if a >= 0]
            for row in rows
        ]


def first_pieces(word: Any) -> Any:
    """The numbers of words on their first pieces, -1 elsewhere, ragged [rows, (pieces)]."""
    import tensorflow as tf

    flat = word.flat_values
    before = tf.concat([[-1], flat[:-1]], 0)[: tf.size(flat)]
    return word.with_flat_values(tf.where(row_begins(word) | (flat != before), flat, -1))
