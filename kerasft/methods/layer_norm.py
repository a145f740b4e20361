"""Norm tuning: only the normalisation layers learn."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft.backbones import sites
from kerasft.methods._trainable import freeze_all_but


@dataclass(frozen=True)
class LayerNorm:
    """Norm tuning: gain and shift of the norms learn, the rest stands still.

        y = (x - mean) / sqrt(var + eps) * gain + shift      (an RMS norm has the gain alone)

    Args:
        blocks: numbers or names of the blocks whose norms learn; where empty, those of all blocks,
            and the norms before and after them.

    Raises:
        InputError: for a block that is not there.

    Example:
        >>> adapted = adapt(backbone, "layer-norm")

    Reference: Qi et al. 2022, "Parameter-Efficient Tuning on Layer Normalization for Pre-trained
    Language Models", https://arxiv.org/abs/2211.08682
    """

    name: ClassVar[str] = "layer-norm"
    learning_rate: ClassVar[float] = 3e-3
    blocks: tuple[int | str, ...] = ()

    def apply(self, backbone: Any) -> Any:
        """Freeze all but the norms."""
        places = sites(backbone)
        parts = [norm for block in places.chosen(self.blocks) for norm in block.norms]
        freeze_all_but(backbone, parts if self.blocks else [*parts, *places.outer_norms])
        return backbone
