"""Text to text: translation, summarisation, and whatever turns one text into another."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import listed
from kerasft._core.errors import InputError
from kerasft.backbones.describe import decoder_start
from kerasft.metrics.generation import LANGUAGES
from kerasft.tasks import _language, _sources, _writers
from kerasft.tasks._models import language_model
from kerasft.tasks.causal_lm import CausalLM

# How an instruction names a language; another is taken as it is written.
NAMES = {"en": "English", "zh": "Chinese", "de": "German", "fr": "French", "es": "Spanish"}
_TEXT = "{text}"


@dataclass(frozen=True)
class TextToText:
    """Text to text: an instruction and a text, and the text that is to follow.

        loss = - sum_t log p(y_t | instruction(x), y_<t) / |y|

    A decoder reads instruction, text and target as one sequence of at most `max_length` tokens. Of
    an encoder-decoder (BART, T5) the encoder reads instruction and text, the decoder writes the
    target, and each has `max_length` tokens.

    Args:
        instruction: what the model is told; `{text}` stands for the text, `{source}` and `{target}`
            for the languages.
        source_language: language of the texts, `en`, `zh` or a name, for the instruction.
        target_language: language of the targets; it also says how the scores cut words.
        template: as in `CausalLM`; `auto` and `none` write instruction and target as they stand,
            and an encoder-decoder takes no other.
        separator: what stands between instruction and target where there is no template; nothing
            does on an encoder-decoder.
        packing, overlong, max_length, max_new_tokens, temperature, top_k, top_p,
            repetition_penalty, beams, length_penalty, stop, label_smoothing: as in `CausalLM`.

    Example:
        >>> task = TextToText(instruction="Summarise:\\n{text}")
        >>> model = task.build(backbone)

    Reference: Raffel et al. 2019, "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", https://arxiv.org/abs/1910.10683
    """

    name: ClassVar[str] = "text-to-text"
    kind: ClassVar[str] = "generation"
    tokenwise: ClassVar[bool] = True
    sides: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    reads: ClassVar[tuple[str, ...]] = ("segments",)
    asked: ClassVar[dict[str, str]] = {"segments": "texts"}
    padded: ClassVar[tuple[str, ...]] = ("tokens",)
    labelled: ClassVar[bool] = False
    least_labels: ClassVar[int] = 0
    labels: ClassVar[tuple[str, ...]] = ()
    tunable: ClassVar[bool] = False
    head_problem: ClassVar[None] = None
    target: ClassVar[str] = "target"
    instruction: str = _TEXT
    source_language: str = ""
    target_language: str = ""
    template: str = "auto"
    separator: str = "\n"
    packing: bool = False
    overlong: str = "error"
    max_length: int = 256
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    beams: int = 1
    length_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    label_smoothing: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "stop", listed("stop", self.stop))
        if not isinstance(self.instruction, str) or self.instruction.count(_TEXT) != 1:
            raise InputError(
                f"`instruction` is a text in which {_TEXT} stands once, where the text goes. "
                f"Received: instruction={self.instruction!r}."
            )
        # The language model that writes, which checks the options that it shares: prompts are
        # instructions, completions the targets.
        shared = {f.name for f in dataclasses.fields(CausalLM)}
        own = [f.name for f in dataclasses.fields(self) if f.name in shared]
        object.__setattr__(self, "writer", CausalLM(**{n: getattr(self, n) for n in own}))

    @property
    def _around(self) -> tuple[str, str]:
        """What the instruction says before and after the text."""
        named = self.instruction
        for place, language in (
            ("{source}", self.source_language),
            ("{target}", self.target_language),
        ):
            named = named.replace(place, NAMES.get(language, language))
        before, _, after = named.partition(_TEXT)
        return before, after

    # --- what is read ---------------------------------------------------------------------------

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        return {"text": "text", "target": "text"}

    def with_labels(self, counts: dict[str, int]) -> "TextToText":
        """The task itself: there are no labels."""
        return self

    def writing(self, tokenizer: Any) -> Any:
        """How this task writes to a tokenizer's model."""
        if decoder_start(tokenizer) and self.template not in ("auto", "none"):
            raise InputError(
                "An encoder-decoder reads a text as it stands, without turns. Received: "
                f"task.template={self.template!r}. Use `auto` or `none`."
            )
        return self.writer.writing(tokenizer)

    def written(self, tokenizer: Any, fields: dict[str, list]) -> dict[str, list]:
        """Examples as segments, which `encode` reads."""
        before, after = self._around
        prompts = [before + text + after for text in fields["text"]]
        if decoder_start(tokenizer):
            writing = self.writing(tokenizer)
            both = zip(prompts, fields["target"], strict=True)
            return {"segments": [_language.pair_segments(writing, *pair) for pair in both]}
        pairs = {"prompt": prompts, "completion": fields["target"]}
        return self.writer.written(tokenizer, pairs)

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn texts, or segments to learn from, into ids, in the graph; as `CausalLM.encode`.

        Args:
            tokenizer: a KerasHub tokenizer.
            fields: `text` string [batch], or `segments` from `written`.

        Returns:
            As `CausalLM.encode`; of an encoder-decoder `token_ids` and `padding_mask` are the
            source's, and the target is `decoder_token_ids` and `decoder_padding_mask`, int32
            [batch, its own length]; of texts, what the decoder begins with.
        """
        import tensorflow as tf

        if "segments" in fields and not decoder_start(tokenizer):
            return self.writer.encode(tokenizer, fields)
        writing, segments = self.writing(tokenizer), fields.get("segments")
        if segments is not None:
            return _sources.crossed(tokenizer, writing, segments, self.max_length, learn=True)
        before, after = self._around
        prompts = tf.strings.join([before, fields["text"], after])
        if decoder_start(tokenizer):
            segments = _language.prompt_segments(writing, prompts)
            return _sources.crossed(tokenizer, writing, segments, self.max_length, learn=False)
        return self.writer.encode(tokenizer, {"prompt": prompts})

    def targets(self, fields: dict[str, list], features: dict[str, np.ndarray]) -> np.ndarray:
        """The id that follows each token, int32 [rows, length]; -1 where it is not learned."""
        return _writers.checked(features, fields["target"], self.overlong, self.max_length)

    # --- model: a language model's ----------------------------------------------------------------

    def build(self, backbone: Any) -> Any:
        """Connect a decoder, or an encoder-decoder's, to its own output embeddings; see
        `CausalLM.build`."""
        return language_model(backbone, "causal_lm", source=True)

    def trained(self, model: Any) -> Any:
        """The model that is fitted: of packed rows one with the same weights."""
        return self.writer.trained(model)

    def loss(self) -> Any:
        """Cross-entropy of the targets' tokens, as a Keras loss."""
        return self.writer.loss()

    def metrics(self) -> list[Any]:
        """What the progress bar shows: the share of target tokens that are the likeliest."""
        return self.writer.metrics()

    # --- answers and scores -----------------------------------------------------------------------

    def answer(self, pipe: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn texts into texts, in the graph; as `CausalLM.answer`, from `text` string [batch]."""
        return _writers.written(self, pipe, self.encode(pipe.tokenizer, fields))

    def signatures(self, pipe: Any) -> dict[str, Any]:
        """`generate`: each text with options of its own."""
        return _writers.signatures(self, pipe)

    def takes_turns(self, tokenizer: Any) -> bool:
        """Whether a prompt may be a chat: no, each text is turned by itself."""
        return False

    def stream(self, pipe: Any, text: str, **options: Any) -> Iterator[str]:
        """One text as it comes."""
        import tensorflow as tf

        if not isinstance(text, str):
            raise InputError(f"One text is turned into another. Received: {text!r:.80}.")
        features = self.encode(pipe.tokenizer, {"text": tf.constant([text])})
        return _writers.streamed(self, pipe, features, **options)

    def scoring(self) -> dict[str, Any]:
        """Options of the report: how words are cut."""
        known = self.target_language if self.target_language in LANGUAGES else "auto"
        return {"options": {"language": known}}

    def judged(self, pipe: Any, chunks: Any) -> Iterator[tuple]:
        """Written texts beside the right ones: (shown, targets, texts)."""
        for fields in chunks:
            answers = pipe.predict(fields["text"])
            yield {"text": fields["text"]}, fields["target"], [a["completion"] for a in answers]
