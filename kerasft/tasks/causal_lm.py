"""Causal language models: completions of prompts, chats, and texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import one_of, whole
from kerasft._core.errors import InputError
from kerasft.tasks import _language, _writers
from kerasft.tasks._losses import TokenLoss
from kerasft.tasks._metrics import TokenAccuracy
from kerasft.tasks._models import language_model

FORMATS = ("completion", "chat", "text")


@dataclass(frozen=True)
class CausalLM:
    """Causal language modelling: instructions, dialogue, code and free text.

        loss = - sum_t w_t log p(x_t | x_<t) / sum_t w_t

    where w_t is 1 on what is learned: completions, the assistant's turns, or all. No token is
    learned twice, and what a message spells out is never taken for a special token.

    Args:
        format: `completion` (fields prompt, completion), `chat` (field messages) or `text`.
        template: how turns are written: `plain`, `chatml`, `smollm2`, `llama3`, `llama2`, `gemma`,
            `none` (a prompt as it stands), or `auto`: for chats the one whose markers the
            tokenizer has, else none.
        system: the system's message of chats that begin without one.
        separator: what stands between prompt and completion where there is no template.
        learn: `completion`, or `all` for prompts and users' turns too.
        packing: several documents share a row, without attention between them.
        overlong: a completion that does not fit into `max_length` is an `error`, or is `cut`.
        max_length: the most token ids in a row. A long prompt loses its beginning, a long chat its
            end; a long text goes on in the next row.
        max_new_tokens: the most tokens of an answer.
        temperature: 0 answers with the likeliest token, more draws one.
        top_k: draw among the k likeliest tokens; 0 for all.
        top_p: draw among the likeliest tokens that reach this probability.
        repetition_penalty: more than 1 avoids tokens that are there already.
        beams: texts that are followed at once; 1 is greedy search.
        length_penalty: of beam search: more than 1 favours longer texts.
        stop: texts that end an answer.
        label_smoothing: share of the target spread over the whole vocabulary.

    Example:
        >>> model = CausalLM(format="chat", template="chatml").build(backbone)

    Reference: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
    """

    name: ClassVar[str] = "causal-lm"
    kind: ClassVar[str] = "perplexity"
    tokenwise: ClassVar[bool] = True
    sides: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("prompt",)
    reads: ClassVar[tuple[str, ...]] = ("segments",)
    asked: ClassVar[dict[str, str]] = {"prompt": "text", "segments": "texts"}
    padded: ClassVar[tuple[str, ...]] = ("tokens",)
    labelled: ClassVar[bool] = False
    least_labels: ClassVar[int] = 0
    labels: ClassVar[tuple[str, ...]] = ()
    tunable: ClassVar[bool] = False
    head_problem: ClassVar[None] = None
    format: str = "completion"
    template: str = "auto"
    system: str = ""
    separator: str = "\n"
    learn: str = "completion"
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
        one_of("format", self.format, FORMATS)
        one_of("template", self.template, ("auto", "none", *_language.TEMPLATES))
        one_of("learn", self.learn, ("completion", "all"))
        one_of("overlong", self.overlong, ("error", "cut"))
        whole("max_length", self.max_length, 8)
        _writers.check_options(self)
        if self.format == "chat" and self.template == "none":
            raise InputError("A chat needs a template. Received: task.template='none'.")
        if self.format == "text" and self.template not in ("auto", "none"):
            raise InputError(
                "A text has no turns, so it is written as it stands. "
                f"Received: task.template={self.template!r}. Leave it out."
            )

    # --- what is read ---------------------------------------------------------------------------

    @property
    def target(self) -> str:
        """Name of the field that is learned."""
        return {"completion": "completion", "chat": "messages", "text": "text"}[self.format]

    def fields(self) -> dict[str, str]:
        """Fields of an example and their kinds."""
        known = {"completion": {"prompt": "text", "completion": "text"}, "text": {"text": "text"}}
        return known.get(self.format, {"messages": "messages"})

    def with_labels(self, counts: dict[str, int]) -> "CausalLM":
        """The task itself: there are no labels."""
        return self

    def writing(self, tokenizer: Any) -> Any:
        """How this task writes to a tokenizer's model."""
        template = self.template
        if template == "auto" and self.format != "chat":
            template = "none"
        return _language.writing_of(tokenizer, template)

    def written(self, tokenizer: Any, fields: dict[str, list]) -> dict[str, list]:
        """Examples as segments, which `encode` reads."""
        writing = self.writing(tokenizer)
        if self.format == "text":
            learned, end = _language.LEARNED_TEXT, _language.LEARNED_SPECIAL + writing.end
            return {"segments": [[learned + text, end] for text in fields["text"]]}
        if self.format == "chat":
            chats = [_answered(self._turns(messages)) for messages in fields["messages"]]
        else:
            pairs = list(zip(fields["prompt"], fields["completion"], strict=True))
            if writing.template is None:
                separate = [(prompt + self.separator, text) for prompt, text in pairs]
                return {"segments": [_language.pair_segments(writing, *pair) for pair in separate]}
            chats = [self._turns((("user", a), ("assistant", b))) for a, b in pairs]
        return {"segments": [_language.chat_segments(writing, c, prompt=False) for c in chats]}

    def _turns(self, messages: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
        found = [{"role": role, "content": text} for role, text in messages]
        own = self.system and found[:1] and found[0]["role"] != "system"
        return [{"role": "system", "content": self.system}, *found] if own else found

    # --- text to features -----------------------------------------------------------------------

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Turn prompts, or segments to learn from, into ids, in the graph.

        Args:
            tokenizer: a KerasHub tokenizer.
            fields: `prompt` string [batch]; or `segments`, ragged string [batch, (segments)], from
                `written`.

        Returns:
            int32 [rows, length]: the backbone's inputs. Of segments also `targets`, the id that
            follows where it is learned, else -1; `row` int32 [rows], the example of each; `lost`
            int32 [rows], the tokens to be learned that were cut off.
        """
        import tensorflow as tf

        writing = self.writing(tokenizer)
        begin = len(writing.begin)
        if "segments" not in fields:
            prompts = fields["prompt"]
            if writing.template is None and self.format == "completion":
                prompts = tf.strings.join([prompts, self.separator])
            segments = _language.prompt_segments(writing, prompts, self.system)
            return _writers.prompted(tokenizer, writing, segments, self.max_length)
        ids, said = _language.segment_ids(tokenizer, writing, fields["segments"])
        learned = tf.ones_like(said) if self.learn == "all" else said
        side = _SIDES[self.format]
        return _writers.examples(tokenizer, ids, learned, self.max_length, begin, side, said)

    def targets(self, fields: dict[str, list], features: dict[str, np.ndarray]) -> np.ndarray:
        """The id that follows each token, int32 [rows, length]; -1 where it is not learned."""
        texts = [str(value) for value in fields[self.target]]
        return _writers.checked(features, texts, self.overlong, self.max_length)

    # --- model ----------------------------------------------------------------------------------

    def build(self, backbone: Any) -> Any:
        """Connect a decoder to its own output embeddings.

        Args:
            backbone: a KerasHub decoder backbone, or one with a method (`kerasft.methods.adapt`).

        Returns:
            keras.Model from the backbone's inputs, int32 [batch, length] each, to logits
            [batch, length, vocabulary] of the next token, float32.
        """
        return language_model(backbone, "causal_lm")

    def trained(self, model: Any) -> Any:
        """The model that is fitted: of packed rows one with the same weights."""
        return _writers.packed(model) if self.packing else model

    def loss(self) -> Any:
        """Cross-entropy of the learned tokens, as a Keras loss."""
        return TokenLoss(self.label_smoothing)

    def metrics(self) -> list[Any]:
        """What the progress bar shows: the share of learned tokens that are the likeliest."""
        return [TokenAccuracy()]

    # --- answers --------------------------------------------------------------------------------

    def answer(self, pipe: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """Answer prompts, in the graph.

        Args:
            pipe: holds backbone and tokenizer.
            fields: `prompt` string [batch].

        Returns:
            `completion` string [batch]; `tokens` int32 [batch, most new tokens], padded with -1.
        """
        return _writers.written(self, pipe, self.encode(pipe.tokenizer, fields))

    def signatures(self, pipe: Any) -> dict[str, Any]:
        """`generate`: each prompt with options of its own."""
        return _writers.signatures(self, pipe)

    def takes_turns(self, tokenizer: Any) -> bool:
        """Whether a prompt may be a chat."""
        return self.writing(tokenizer).template is not None

    def stream(self, pipe: Any, messages: Any, **options: Any) -> Iterator[str]:
        """One answer as it comes, to a prompt or to a chat (a list of role and content)."""
        import tensorflow as tf

        if isinstance(messages, str):
            features = self.encode(pipe.tokenizer, {"prompt": tf.constant([messages])})
            return _writers.streamed(self, pipe, features, **options)
        writing = self.writing(pipe.tokenizer)
        if writing.template is None:
            raise InputError(
                "This model was trained on prompts without turns, so it takes a string. "
                f"Received: {messages!r:.80}."
            )
        if not all(isinstance(m, Mapping) and {"role", "content"} <= set(m) for m in messages):
            raise InputError(
                "A chat is a list of messages with `role` and `content`. "
                f"Received: {messages!r:.80}."
            )
        turns = self._turns([(m["role"], m["content"]) for m in messages])
        segments = tf.ragged.constant([_language.chat_segments(writing, turns, prompt=True)])
        features = _writers.prompted(pipe.tokenizer, writing, segments, self.max_length)
        return _writers.streamed(self, pipe, features, **options)

    # --- scores ---------------------------------------------------------------------------------

    def scoring(self) -> dict[str, Any]:
        """Options of the report: none."""
        return {}

    def judged(self, pipe: Any, chunks: Any) -> Iterator[tuple]:
        """Likelihood of the examples: (shown, learned tokens [rows], summed nats [rows])."""
        for fields, tokens, nll in _writers.likelihoods(self, pipe, chunks):
            yield {name: [_told(v) for v in values] for name, values in fields.items()}, tokens, nll


def _told(value: Any) -> str:
    """A value as people read it."""
    return value if isinstance(value, str) else "\n".join(f"{role}: {text}" for role, text in value)


def _answered(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """A chat up to the assistant's last word: there is nothing to learn behind it."""
    said = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: said[-1] + 1] if said else messages


_SIDES = {"completion": "left", "chat": "right", "text": "windows"}
