"""P-tuning: a soft prompt that an encoder makes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerasft._core.checks import one_of, whole
from kerasft.backbones.vocabulary import token_table
from kerasft.methods._dense import dense_layers, lstm_layers
from kerasft.methods._soft_prompt import prompt_backbone

ENCODERS = ("mlp", "lstm")


@dataclass(frozen=True)
class PTuning:
    """P-tuning: vectors in front of every text, which a small trained encoder makes.

        [f(P); E(x)],   f(P) = relu(relu(P W_1 + b_1) W_2 + b_2) W_3 + b_3      (mlp)
                        f(P) = relu(r(P) W_1 + b_1) W_2 + b_2                   (lstm)

    with r two bidirectional LSTMs on each other, which read the vectors in their order. P and f
    learn, all else stands still. All vectors go through one encoder, so that they move together,
    and the numbers of a prompt follow from many weights: a smaller rate than that of
    `prompt-tuning` is enough. Both encoders are PEFT's; the paper's is the LSTM, and PEFT's default
    the MLP, which is a fraction of the work.

    Args:
        virtual_tokens: the number of vectors; as many positions less are left for a text.
        hidden: width of the encoder's two hidden layers, of the LSTM's in each direction (behind
            it are 2 hidden); 0 for the width of the embedding.
        seed: of the start.
        encoder: f, `mlp` or `lstm`.

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
    encoder: str = "mlp"

    def __post_init__(self):
        whole("virtual_tokens", self.virtual_tokens, 1)
        whole("hidden", self.hidden)
        whole("seed", self.seed)
        one_of("encoder", self.encoder, ENCODERS)

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone and put the encoder's vectors in front of its texts."""
        width = token_table(backbone).output_dim
        hidden = self.hidden or width
        random = np.random.default_rng(self.seed)
        prompt = random.standard_normal((self.virtual_tokens, width))

        def encoder(owner: Any) -> list[Any]:
            if self.encoder == "mlp":
                sizes = (width, hidden, hidden, width)
                return dense_layers(owner, "encoder", sizes, "relu", random)
            recurrent = lstm_layers(owner, "lstm", width, hidden, 2, random)
            sizes = (2 * hidden, 2 * hidden, width)
            return recurrent + dense_layers(owner, "encoder", sizes, "relu", random)

        return prompt_backbone(backbone, prompt, encoder)
