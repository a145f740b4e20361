"""Gradual unfreezing: the blocks join in from the top, epoch by epoch."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft._core.checks import whole
from kerasft.backbones import depths, sites
from kerasft.methods._trainable import set_trainable
from kerasft.optimizers import Pace


@dataclass(frozen=True)
class GradualUnfreezing:
    """Gradual unfreezing: every epoch the next lower blocks begin to learn, embeddings last.

        a weight learns from epoch (depth - 1) // blocks_per_epoch, counted from 0,
        depth = 1 for the last block, 2 for the one below it, ..., and for the embeddings one more
        than there are blocks

    The head, and what lies between it and the blocks, learns from the first epoch. Below a weight
    that stands still nothing is saved: its gradient is made, so that Adam's moments are right when
    it is let go. The paper joins it with a rate that falls from block to block
    (`training.layer_decay: 0.385`, its factor 2.6) and with a rate that rises and falls in a line
    (`training.warmup: 0.1`). A backbone of n blocks learns as a whole from epoch
    n // blocks_per_epoch on; with fewer epochs its lowest weights stay as they were.

    Args:
        blocks_per_epoch: how many blocks join in an epoch, at least 1. The stacks of an
            encoder-decoder are unfrozen side by side.

    Raises:
        InputError: where blocks share their weights (ALBERT).

    Example:
        >>> adapted = adapt(backbone, {"name": "gradual-unfreezing", "blocks_per_epoch": 4})

    Reference: Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text
    Classification", https://arxiv.org/abs/1801.06146
    """

    name: ClassVar[str] = "gradual-unfreezing"
    blocks_per_epoch: int = 1

    def __post_init__(self):
        whole("blocks_per_epoch", self.blocks_per_epoch, 1)

    def apply(self, backbone: Any) -> Any:
        """Let every weight be trained; when it begins is said by `paces`."""
        sites(backbone).need_separate_blocks("Gradual unfreezing", "Use `full`.")
        set_trainable(backbone, lambda variable: True)
        return backbone

    def paces(self, backbone: Any) -> dict[str, Pace]:
        """The epoch from which each weight learns."""
        return {
            path: Pace(from_epoch=max(depth - 1, 0) // self.blocks_per_epoch)
            for path, depth in depths(backbone).items()
        }
