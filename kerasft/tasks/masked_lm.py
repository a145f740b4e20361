"""Masked language modelling: an encoder goes on learning a language, from texts without labels."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core import weights
from kerasft._core.checks import in_range, whole
from kerasft._core.errors import InputError
from kerasft.backbones import template_of
from kerasft.backbones.load import is_hugging_face, is_saved
from kerasft.backbones.saved import read_saved
from kerasft.data import Batch, mask_tokens
from kerasft.heads import MaskedHead
from kerasft.methods import Adapted, adapt
from kerasft.preprocessing import beside, pack, taken, windows
from kerasft.tasks import _masked
from kerasft.tasks._losses import TokenLoss
from kerasft.tasks._metrics import TokenAccuracy
from kerasft.tasks._models import functional
from kerasft.tasks._writers import token_nll

# Decides what is masked where a model is scored, so that scores can be compared.
_SEED = 20190524


@dataclass(frozen=True)
class MaskedLM:
    """Masked language modelling: hidden words are guessed from those around them.

        loss = -mean over hidden t of log softmax(logits_t)[token_t]

    An encoder is trained further on texts of the field that it will work in, and its run folder is
    then the preset of another task. What is hidden is drawn anew for every batch; a model is
    scored on masks that are always the same. A long text is read in windows side by side.

    Args:
        share: share of the words (pieces) that are hidden: 80 % of them behind the mask, 10 %
            behind another token, 10 % as they are.
        whole_words: hide words with all their pieces; False hides pieces. A character of Chinese,
            Japanese or Thai is a word.
        max_length: the most token ids in a window, special ones included.

    Example:
        >>> pipe = train(Recipe(task="masked-lm", data={"train": "corpus.txt"}), out="runs/masked")
        >>> pipe.predict(["Paris is the [MASK] of France."])[0]["token"]
        ['capital']

    Reference: Devlin et al. 2018, https://arxiv.org/abs/1810.04805 (the masks);
    Liu et al. 2019, https://arxiv.org/abs/1907.11692 (drawn anew);
    Gururangan et al. 2020, https://arxiv.org/abs/2004.10964 (further pre-training)
    """

    name: ClassVar[str] = "masked-lm"
    kind: ClassVar[str] = "perplexity"
    tokenwise: ClassVar[bool] = True
    sides: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    reads: ClassVar[tuple[str, ...]] = ("text",)
    carries: ClassVar[tuple[str, ...]] = ("words",)  # features that go with the ids, to `drawn`
    padded: ClassVar[tuple[str, ...]] = ("token", "score")
    labelled: ClassVar[bool] = False
    head_problem: ClassVar[None] = None  # no checkpoint's classification head is read or written
    least_labels: ClassVar[int] = 0
    labels: ClassVar[tuple[str, ...]] = ()
    tunable: ClassVar[bool] = False
    share: float = 0.15
    whole_words: bool = True
    max_length: int = 256

    def __post_init__(self):
        in_range("share", self.share, 0, 1, above=True)
        whole("max_length", self.max_length, 8)
        if not isinstance(self.whole_words, bool):
            raise InputError(
                f"`whole_words` is true or false. Received: whole_words={self.whole_words!r}."
            )

    # --- what is read ---------------------------------------------------------------------------

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        return {"text": "text"}

    def with_labels(self, counts: dict[str, int]) -> "MaskedLM":
        """The task itself: there are no labels."""
        return self

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn texts into windows of ids side by side, in the graph.

        Args:
            tokenizer: a KerasHub tokenizer that has a mask; where it stands in a text it is a mask.
            fields: `text` string [batch].

        Returns:
            int32 [windows, length]: the backbone's inputs; `words`, another number for each word
            and -1 where there is none; `blank`, 1 on masks. Of each window `row` int32 [windows].

        Raises:
            InputError: for a tokenizer without a mask.
        """
        import tensorflow as tf

        mask, template = _masked.mask_of(tokenizer), template_of(tokenizer)
        room = self.max_length - template.added(1)
        if room <= 0:
            raise InputError(f"`max_length` leaves no room for text. Received: {self.max_length}.")
        ids, words = _masked.ids_and_words(tokenizer, mask, fields["text"])
        row, begin, end = windows(ids.row_lengths(), room, 0)
        features = pack([taken(ids, row, begin, end)], template, self.max_length)
        around = len(template.start), len(template.end)
        words = beside(taken(words, row, begin, end), *around)
        # A text without pieces may have got an id to read.
        missing = tf.maximum(tf.shape(features["token_ids"])[1] - tf.shape(words)[1], 0)
        blank = tf.cast(features["token_ids"] == mask.id, tf.int32)
        made = {"words": tf.pad(words, [[0, 0], [0, missing]], constant_values=-1), "blank": blank}
        return features | made | {"row": row}

    def targets(self, fields: dict[str, list], features: dict[str, np.ndarray]) -> np.ndarray:
        """The tokens of words, -1 elsewhere: what `drawn` hides and leaves to be guessed."""
        return np.where(features["words"] >= 0, features["token_ids"], np.int32(-1))

    def drawn(self, tokenizer: Any) -> Callable[[Batch, np.random.Generator], Batch]:
        """What hides some words of a batch: (batch, random state) -> batch, whose targets are the
        hidden tokens and whose weights say how many they are."""
        mask = _masked.mask_of(tokenizer)

        def draw(batch: Batch, rng: np.random.Generator) -> Batch:
            ids, targets = mask_tokens(
                batch.features["token_ids"],
                batch.features["padding_mask"],
                mask.special,
                mask.id,
                mask.size,
                rng,
                self.share,
                batch.features["words"] if self.whole_words else None,
            )
            learned = (targets >= 0).sum(axis=1).astype(np.float32)
            return Batch({**batch.features, "token_ids": ids}, targets, learned)

        return draw

    # --- model ----------------------------------------------------------------------------------

    def build(self, backbone: Any) -> Any:
        """Connect a backbone and the head to a functional `keras.Model` that gives logits.

        Args:
            backbone: a KerasHub encoder, or one with a method (`kerasft.methods.adapt`).

        Returns:
            keras.Model from the backbone's inputs, int32 [batch, length] each, to logits
            [batch, length, vocabulary], float32. Their matrix is the table of the embeddings.

        Raises:
            InputError: for a decoder.
        """
        adapted = backbone if isinstance(backbone, Adapted) else adapt(backbone)
        _masked.check_encoder(adapted.backbone)
        fixes = adapted.description["fixes"]
        head = MaskedHead(fixes["activation"], fixes["layer_norm_epsilon"])
        return functional(adapted, head, "masked_lm", table=True)

    def start_from(self, model: Any, folder: str) -> None:
        """Set the head's weights to those that a preset's folder holds, if it holds any: a Hugging
        Face `...ForMaskedLM`, or a run of this task."""
        layers = [model.get_layer(n) for n in ("masked_dense", "masked_norm", "logits")]
        dense, norm, logits = layers
        if is_saved(folder):
            saved = read_saved(folder)
            if saved.record["task"]["name"] == self.name:
                for path, variable in weights.named([v for x in layers for v in x.weights]).items():
                    variable.assign(saved.arrays[path])
        elif is_hugging_face(folder):
            from kerasft.backbones.huggingface import read_masked_head

            hidden, width = dense.kernel.shape
            head = read_masked_head(folder, hidden, width, logits.bias.shape[0])
            if head is not None:
                dense.kernel.assign(head.kernel)
                dense.bias.assign(head.bias)
                norm.gamma.assign(head.gamma)
                norm.beta.assign(head.beta)
                logits.bias.assign(head.logits_bias)

    def loss(self) -> Any:
        """Cross-entropy of the hidden tokens, as a Keras loss."""
        return TokenLoss()

    def metrics(self) -> list[Any]:
        """What the progress bar shows: the share of hidden tokens that are guessed."""
        return [TokenAccuracy(name="accuracy")]

    # --- scores ---------------------------------------------------------------------------------

    def scoring(self) -> dict[str, Any]:
        """Options of the report (`kerasft.evaluation.Collector`)."""
        return {}

    def judged(self, pipe: Any, chunks: Iterable[dict[str, list]]) -> Iterator[tuple]:
        """(texts, hidden tokens of each, their summed negative log-likelihood) of each chunk; the
        masks are always the same."""
        draw = self.drawn(pipe.tokenizer)
        for number, fields in enumerate(chunks):
            features = pipe.encode(fields)
            batch = draw(
                Batch(features, self.targets(fields, features)),
                np.random.default_rng([_SEED, number]),
            )
            nll, tokens = pipe.reduced({**batch.features, "targets": batch.targets}, token_nll).T
            rows = len(fields["text"])
            counts, sums = (np.bincount(features["row"], v, rows) for v in (tokens, nll))
            yield fields, counts, sums

    # --- answers --------------------------------------------------------------------------------

    def answer(self, pipe: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Fill the masks of texts, in the graph.

        Args:
            pipe: a pipeline of this task.
            fields: `text` string [batch], in which the tokenizer's mask token stands for a word.

        Returns:
            `token` string and `score` float32 (softmax over the vocabulary), each [batch, most
            masks]: the likeliest token of each mask in its order, padded with "" and 0. Special
            tokens are no answer.
        """
        import tensorflow as tf

        features = self.encode(pipe.tokenizer, fields)
        places = tf.where(features["blank"] == 1)
        logits = _masked.at_masks(pipe, features, places)
        row = tf.gather(features["row"], places[:, 0])
        return _masked.filled(pipe.tokenizer, logits, row, tf.size(fields["text"]))
