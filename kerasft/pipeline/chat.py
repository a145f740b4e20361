"""A chat: what was said so far, and the next answer."""

from collections.abc import Iterator
from typing import Any

from kerasft._core.errors import InputError


class Chat:
    """What a user and a language model have said to each other.

    Args:
        pipe: a pipeline of a task that writes texts.
        system: what the model is told before everything.
        options: of generation, see `Pipeline.stream`.

    `messages` is the chat so far. A model that was trained on prompts without turns is given each
    line by itself.

    Example:
        >>> chat = pipe.chat()
        >>> print("".join(chat.say("Are you open today?")))
    """

    def __init__(self, pipe: Any, system: str = "", **options: Any):
        if not hasattr(pipe.task, "stream"):
            raise InputError(
                "A chat needs a language model (task causal-lm). "
                f"Received: task {pipe.task.name!r}."
            )
        self.pipe, self.system, self.options = pipe, system, options
        self.turns = pipe.task.takes_turns(pipe.tokenizer)
        if system and not self.turns:
            raise InputError(
                "This model was trained on prompts without turns, so nobody can tell it anything "
                f"before them. Received: system={system!r:.60}."
            )
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def say(self, text: str) -> Iterator[str]:
        """The answer to a user's text, piece by piece; both are remembered once it is whole."""
        asked = [*self.messages, {"role": "user", "content": text}]
        parts = []
        for part in self.pipe.stream(asked if self.turns else text, **self.options):
            parts.append(part)
            yield part
        if self.turns:
            self.messages = [*asked, {"role": "assistant", "content": "".join(parts)}]
