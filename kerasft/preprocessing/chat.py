"""Chats as one text: how each family of models was taught to tell who speaks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from kerasft._core.checks import nearest, one_of
from kerasft._core.errors import InputError

ROLES = ("system", "user", "assistant")


class Segment(NamedTuple):
    """A stretch of a chat.

    Args:
        text: What stands there.
        kind: "special": one marker, to be looked up as a special token. "text": to be tokenised
            as plain text, with no special token found in it, whatever a message says.
        learned: Whether the loss counts it.
    """

    text: str
    kind: str
    learned: bool


@dataclass(frozen=True)
class ChatTemplate:
    """How a chat is written; {} stands for a message's text.

    Args:
        name: What a recipe says.
        markers: The parts of the formats below that are special tokens.
        user: A user's turn.
        prompt: What stands before an answer, and what a model is given to begin one.
        answer: What the model writes: the answer and the marker that ends it. Learned.
        after: What follows an answer, not learned.
        start: Once before everything.
        system: The system's turn; None where it goes into the first user's.
        fold: How it goes there, in front of the user's text.
        default_system: The system's text of chats that begin without one; None: no system turn.
        strip: Whether white space around texts of users and assistants goes.
        alternate: Whether user and assistant must take turns, as the original's template asks.
    """

    name: str
    markers: tuple[str, ...]
    user: str
    prompt: str
    answer: str
    after: str = ""
    start: str = ""
    system: str | None = None
    fold: str = ""
    default_system: str | None = None
    strip: bool = False
    alternate: bool = False


CHATML = ChatTemplate(
    "chatml",
    ("<|im_start|>", "<|im_end|>"),
    system="<|im_start|>system\n{}<|im_end|>\n",
    user="<|im_start|>user\n{}<|im_end|>\n",
    prompt="<|im_start|>assistant\n",
    answer="{}<|im_end|>",
    after="\n",
)
SMOLLM2 = replace(
    CHATML,
    name="smollm2",
    default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face",
)
LLAMA3 = ChatTemplate(
    "llama3",
    ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    start="<|begin_of_text|>",
    system="<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>",
    user="<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
    prompt="<|start_header_id|>assistant<|end_header_id|>\n\n",
    answer="{}<|eot_id|>",
    strip=True,
)
# [INST] and <<SYS>> are no tokens of Llama 2 but plain text: a message that says them cannot be
# told from the template's own.
LLAMA2 = ChatTemplate(
    "llama2",
    ("<s>", "</s>"),
    fold="<<SYS>>\n{}\n<</SYS>>\n\n",
    user="<s>[INST] {} [/INST]",
    prompt="",
    answer=" {} </s>",
    strip=True,
    alternate=True,
)
# Gemma 1 and 2 know no system; it goes where Gemma 3's template puts it.
GEMMA = ChatTemplate(
    "gemma",
    ("<bos>", "<start_of_turn>", "<end_of_turn>"),
    start="<bos>",
    fold="{}\n\n",
    user="<start_of_turn>user\n{}<end_of_turn>\n",
    prompt="<start_of_turn>model\n",
    answer="{}<end_of_turn>",
    after="\n",
    strip=True,
    alternate=True,
)
# For models without markers of turns. The end is GPT-2's: `ending` puts another tokenizer's there.
PLAIN = ChatTemplate(
    "plain",
    ("<|endoftext|>",),
    system="{}\n\n",
    user="User: {}\n",
    prompt="Assistant:",
    answer=" {}<|endoftext|>",
    after="\n",
)
TEMPLATES = {t.name: t for t in (PLAIN, CHATML, SMOLLM2, LLAMA3, LLAMA2, GEMMA)}


def segments(
    messages: Sequence[Mapping[str, str]],
    template: str | ChatTemplate = "chatml",
    prompt: bool = False,
) -> list[Segment]:
    """Write a chat as segments, markers apart from text.

    Tokenise each segment for itself and join the ids: a message that spells a marker out stays
    text. What is learned begins a segment, so that its first token is the one that generation
    has to find; a tokenizer that reads the whole chat at once may join an answer's leading line
    break with the one before it.

    What follows what is as the originals' templates allow: `llama2` and `gemma` ask user and
    assistant to take turns, and the system to come first; the others take any order after the
    first message (two users in a row are two turns).

    Args:
        messages: Each with `role` ("system", "user" or "assistant") and `content`, in order.
        template: A name of `TEMPLATES`, or a template.
        prompt: False: a chat to learn, whose last message is the assistant's; the assistant's
            texts and the markers that end them are learned. True: a chat to go on with; it ends
            with what the template puts before an answer, and nothing is learned.

    Returns:
        The segments; their texts joined are the whole chat.

    Raises:
        InputError: If there is no message, one lacks role or text, a role is unknown, the
            assistant speaks first, the order is not one that the template allows, or the last
            message is the assistant's with `prompt`, or not so without.

    Example:
        >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        >>> "".join(s.text for s in segments(chat, "chatml") if s.learned)
        'Hello<|im_end|>'
    """
    template = template_of(template)
    turns = [_message(i, message) for i, message in enumerate(messages)]
    _check_order([role for role, _ in turns], template, prompt)
    if turns[0][0] != "system" and template.default_system is not None:
        turns = [("system", template.default_system), *turns]
    pieces = list(_pieces(turns, template))
    pieces += [(template.prompt, None, False)] if prompt else []
    found: list[Segment] = []
    for format_, content, learned in pieces:
        for text, kind in _split(format_, content, template.markers):
            last = found[-1] if found else None
            if last and kind == last.kind == "text" and learned == last.learned:
                found[-1] = last._replace(text=last.text + text)
            elif text:
                found.append(Segment(text, kind, learned and not prompt))
    return found


def render(
    messages: Sequence[Mapping[str, str]],
    template: str | ChatTemplate = "chatml",
    prompt: bool = False,
) -> list[tuple[str, bool]]:
    """Return the chat as (text, learned), for reading; `segments` is what to tokenise.

    Args:
        messages: As for `segments`.
        template: As for `segments`.
        prompt: As for `segments`.

    Returns:
        Stretches of text, learned and not learned in turns.

    Raises:
        InputError: As `segments`.

    Example:
        >>> render([{"role": "user", "content": "Hi"}], "plain", prompt=True)
        [('User: Hi\\nAssistant:', False)]
    """
    found: list[tuple[str, bool]] = []
    for text, _, learned in segments(messages, template, prompt):
        if found and found[-1][1] == learned:
            text = found.pop()[0] + text
        found.append((text, learned))
    return found


def special_tokens(template: str | ChatTemplate) -> tuple[str, ...]:
    """Return the markers that the tokenizer must know as special tokens.

    Args:
        template: A name of `TEMPLATES`, or a template.

    Example:
        >>> special_tokens("chatml")
        ('<|im_start|>', '<|im_end|>')
    """
    return template_of(template).markers


def end_of(template: str | ChatTemplate) -> str:
    """Return the marker that ends an answer, at which generation stops.

    Args:
        template: A name of `TEMPLATES`, or a template.

    Example:
        >>> end_of("llama3")
        '<|eot_id|>'
    """
    template = template_of(template)
    (end,) = (m for m in template.markers if template.answer.endswith(m))
    return end


def ending(template: str | ChatTemplate, end: str) -> ChatTemplate:
    """Return the template with another marker at the end of answers.

    Args:
        template: A name of `TEMPLATES`, or a template.
        end: A special token of the tokenizer, e.g. `</s>` for OPT with the template `plain`.

    Example:
        >>> special_tokens(ending("plain", "</s>"))
        ('</s>',)
    """
    template = template_of(template)
    old = end_of(template)
    answer = template.answer.removesuffix(old) + end
    rest = "".join((template.start, template.system or "", template.user, template.prompt))
    markers = [m for m in template.markers if m != old or old in rest]
    return replace(template, answer=answer, markers=tuple(dict.fromkeys([*markers, end])))


def template_of(template: str | ChatTemplate) -> ChatTemplate:
    """Return the template of that name, or the template itself.

    Raises:
        InputError: If there is none of that name.
    """
    if isinstance(template, ChatTemplate):
        return template
    return TEMPLATES[one_of("template", template, TEMPLATES)]


def _message(place: int, message: Any) -> tuple[str, str]:
    known = isinstance(message, Mapping) and {"role", "content"} <= set(message)
    if not known or not isinstance(message["content"], str):
        raise InputError(
            "Each message of a chat needs a `role` and a text as `content`. "
            f"Received: {message!r} as message {place + 1}."
        )
    role = message["role"]
    if role not in ROLES:
        raise InputError(
            f"A role is one of {', '.join(ROLES)}. Received: {role!r} in message {place + 1}."
            + nearest(str(role), ROLES)
        )
    return role, message["content"]


def _check_order(roles: list[str], template: ChatTemplate, prompt: bool) -> None:
    said = ", ".join(roles) or "no message"
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken:
        raise InputError(f"A chat needs at least one user's message. Received: {said}.")
    if spoken[0] == "assistant":
        raise InputError(f"A user speaks first, not the assistant. Received: {said}.")
    turns = [("user", "assistant")[i % 2] for i in range(len(spoken))]
    if template.alternate and spoken != turns:
        raise InputError(
            f"With the template {template.name!r} user and assistant take turns, after the "
            f"system if there is one. Received: {said}."
        )
    if (spoken[-1] == "assistant") == prompt:
        what = "to go on with must not end" if prompt else "to learn from must end"
        raise InputError(f"A chat {what} with the assistant's message. Received: {said}.")


def _pieces(
    turns: list[tuple[str, str]], template: ChatTemplate
) -> Iterator[tuple[str, str | None, bool]]:
    """(format, what goes into it, learned)."""
    yield template.start, None, False
    folded = ""
    for role, content in turns:
        if template.strip and (role != "system" or template.system):
            content = content.strip()
        if role == "system" and template.system is None:
            folded = template.fold.replace("{}", content)
        elif role == "system":
            yield template.system, content, False
        elif role == "user":
            yield template.user, folded + content, False
            folded = ""
        else:
            yield template.prompt, None, False
            yield template.answer, content, True
            yield template.after, None, False


def _split(
    format_: str, content: str | None, markers: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """The parts of a format: its markers are special, `content` never is."""
    for part in re.split("(" + "|".join(map(re.escape, (*markers, "{}"))) + ")", format_):
        if part == "{}" and content is not None:
            yield content, "text"
        elif part:
            yield part, "special" if part in markers else "text"
