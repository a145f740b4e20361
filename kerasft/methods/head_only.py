"""The head alone: the backbone stands still."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft.methods._trainable import set_trainable


@dataclass(frozen=True)
class HeadOnly:
    """Head only: the backbone is frozen whole, a feature extractor under a head that learns.

    Example:
        >>> adapted = adapt(backbone, "head-only")

    Reference: Peters et al. 2019, "To Tune or Not to Tune?", https://arxiv.org/abs/1903.05987
    """

    name: ClassVar[str] = "head-only"
    learning_rate: ClassVar[float] = 3e-2

    def apply(self, backbone: Any) -> Any:
        """Freeze the backbone."""
        set_trainable(backbone, lambda variable: False)
        return backbone
