"""What the loops know of a decoder: hidden states, logits, and a cache."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Cached:
    """A decoder that reads tokens from place `index` on, given a cache of those before.

    Args:
        hidden: (token_ids int32 [rows, t], cache, index) -> (hidden [rows, t, width], cache).
        logits: hidden [..., width] -> logits, float32 [..., vocabulary].
        empty: (rows, length) -> a cache for texts of at most that many tokens; a structure of
            tensors with the rows in dimension 0. Of an encoder-decoder (rows, length, token_ids,
            padding_mask): the encoder reads these, and their keys and values are in the cache.
        vocabulary: the number of ids.
        limit: the most tokens of a text, or None where positions have no end.
        compiled: functions made from this decoder, kept so that they are traced once.

    Example:
        >>> cached = step_model(backbone)
        >>> logits, hidden, cache = cached(token_ids, cached.empty(rows, 64), 0)
    """

    hidden: Callable[[Any, Any, Any], tuple[Any, Any]]
    logits: Callable[[Any], Any]
    empty: Callable[..., Any]
    vocabulary: int
    limit: int | None = None
    compiled: dict = field(default_factory=dict, repr=False)

    def __call__(self, token_ids: Any, cache: Any, index: Any) -> tuple[Any, Any, Any]:
        """(logits [rows, t, vocabulary], hidden [rows, t, width], cache)."""
        hidden, cache = self.hidden(token_ids, cache, index)
        return self.logits(hidden), hidden, cache
