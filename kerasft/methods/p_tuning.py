"""P-tuning: a soft prompt that an encoder makes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import whole
from kerasft.backbones.vocabulary import token_table
from kerasft.methods._soft_prompt import prompt_backbone


@dataclass(frozen=True)
class PTuning:
    """P-tuning: vectors in front of every text, which a small trained encoder makes.

        [f(P); E(x)],   f(P) = relu(relu(P W_1 + b_1) W_2 + b_2) W_3 + b_3

    P and f learn, all else stands still. All vectors go through one encoder, so that they move
    together, and the numbers of a prompt follow from many weights: a smaller rate than that of
    `prompt-tuning` is enough. The encoder is PEFT's default, an MLP; the paper has an LSTM before
    it, which is not here.

    Args:
        virtual_tokens: the number of vectors; as many positions less are left for a text.
        hidden: width of the encoder's two hidden layers; 0 for the width of the embedding.
        seed: of the start.

    Raises:
        InputError: for an encoder-decoder, or for more vectors than a backbone has positions.

    Example:
        >>> adapted = adapt(backbone, PTuning(virtual_tokens=10, hidden=128))

    Reference: Liu et al. 2021, "GPT Understands, Too", https://arxiv.org/abs/2103.10385
    """

    name: ClassVar[str] = "p-tuning"
    learning_rate: ClassVar[float] = 1e-3
    virtual_tokens: int = 20
    hidden: int = 0
    seed: int = 0

    def __post_init__(self):
        whole("virtual_tokens", self.virtual_tokens, 1)
        whole("hidden", self.hidden)
        whole("seed", self.seed)

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put the encoder's vectors in front of its texts."""
        width = token_table(backbone).output_dim
        hidden = self.hidden or width
        random = np.random.default_rng(self.seed)
        prompt = random.standard_normal((self.virtual_tokens, width))
        return prompt_backbone(backbone, prompt, (hidden, hidden, width), random)
