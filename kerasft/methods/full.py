"""Full fine-tuning."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft.methods._trainable import set_trainable


@dataclass(frozen=True)
class Full:
    """Full fine-tuning: every weight moves.

    Example:
        >>> from kerasft.methods import adapt
        >>> adapted = adapt(backbone, "full")

    Reference: Devlin et al. 2019, "BERT", https://arxiv.org/abs/1810.04805
    """

    name: ClassVar[str] = "full"

    def apply(self, backbone: Any) -> Any:
        """Let every weight of the backbone move."""
        set_trainable(backbone, lambda variable: True)
        return backbone
