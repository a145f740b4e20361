"""Prompt tuning: only the vectors of a soft prompt learn."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import one_of, whole
from kerasft._core.errors import InputError
from kerasft.backbones.vocabulary import token_table
from kerasft.methods._soft_prompt import drawn_rows, drawn_vectors, prompt_backbone

STARTS = ("vocabulary", "random", "text")


@dataclass(frozen=True)
class PromptTuning:
    """Prompt tuning: trained vectors in front of every text, before a frozen backbone.

        [P; E(x)],   P [virtual tokens, width] learns, all else stands still

    The vectors take the first positions, and the text follows behind them; heads see the text's
    positions alone. AdamW moves every number of P by about the rate in a step, whatever its
    gradient: 0.01 is a quarter of the spread of BERT's embeddings (0.04), so that a prompt can
    leave its start within a hundred steps. The paper's 0.3 is for Adafactor, whose step is relative
    to the weights.

    Args:
        virtual_tokens: the number of vectors; as many positions less are left for a text.
        start: `vocabulary`: embeddings of tokens drawn by the seed; `random`: numbers spread as
            those of the embeddings; `text`: the embeddings of `start_ids`.
        start_ids: ids of a text, as the backbone's tokenizer gives them; repeated, or cut, to the
            number of vectors.
        seed: of what is drawn.

    Raises:
        InputError: for an encoder-decoder, for more vectors than a backbone has positions, or for
            ids outside the vocabulary.

    Example:
        >>> ids = tuple(tokenizer("Is this message spam?").numpy().tolist())
        >>> adapted = adapt(backbone, PromptTuning(8, start="text", start_ids=ids))

    Reference: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning",
    https://arxiv.org/abs/2104.08691
    """

    name: ClassVar[str] = "prompt-tuning"
    learning_rate: ClassVar[float] = 3e-2
    virtual_tokens: int = 20
    start: str = "vocabulary"
    start_ids: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self):
        whole("virtual_tokens", self.virtual_tokens, 1)
        whole("seed", self.seed)
        one_of("start", self.start, STARTS)
        ids = self.start_ids
        known = isinstance(ids, (list, tuple)) and all(type(i) is int and i >= 0 for i in ids)
        if not known or bool(ids) != (self.start == "text"):
            raise InputError(
                "`start_ids` are the ids of a text, and go with start='text'. Received: "
                f"start={self.start!r}, start_ids={ids!r}. Write what the tokenizer gives, [5, 6]."
            )
        object.__setattr__(self, "start_ids", tuple(ids))

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put the vectors in front of its texts."""
        return prompt_backbone(backbone, self._first(backbone))

    def _first(self, backbone: Any) -> np.ndarray:
        if self.start == "vocabulary":
            return drawn_rows(backbone, self.virtual_tokens, self.seed)
        if self.start == "random":
            return drawn_vectors(backbone, self.virtual_tokens, self.seed)
        table = np.asarray(token_table(backbone).embeddings, np.float32)
        if max(self.start_ids) >= len(table):
            raise InputError(
                f"`start_ids` are ids from 0 to {len(table) - 1}. Received: {max(self.start_ids)}."
            )
        return table[np.resize(self.start_ids, self.virtual_tokens)]
