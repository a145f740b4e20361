"""QLoRA: low-rank updates beside projections that are held in 8 or 4 bits."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft._core.checks import one_of
from kerasft._core.errors import InputError
from kerasft.backbones import Site, sites
from kerasft.backbones._surgery import around
from kerasft.methods._quantised import Quantised, groups_of
from kerasft.methods._site_layers import ProjectionLayer, projection_of, put
from kerasft.methods.lora import LoRA


@dataclass(frozen=True)
class QLoRA:
    """QLoRA: LoRA on a backbone whose projections are held in 8 or 4 bits.

        y = x Q(W) + b + (alpha / rank) * dropout(x) A B,   B = 0 at the start

    with Q(W) rounded: to 8 bits with one scale a column, or to the 16 levels of NormalFloat with
    one scale for each group of at most 64 inputs of a column. The scales stay in float32, where the
    paper quantises them once more. All projections of all blocks are quantised; embeddings, biases
    and norms stay as they are. Q(W) is decoded for each product and never moves. A fresh model
    differs from its base by the rounding, and merging gives floats: Q(W) + (alpha / rank) * A B.

    Args:
        bits: 8 or 4.
        rank, alpha, dropout, targets, blocks: as in `LoRA`.

    Raises:
        InputError: if a projection cannot be held in 4 bits, or has a change already.

    Example:
        >>> adapted = adapt(backbone, QLoRA(bits=4, rank=8))

    Reference: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs",
    https://arxiv.org/abs/2305.14314
    """

    name: ClassVar[str] = "qlora"
    learning_rate: ClassVar[float] = 1e-3
    bits: int = 4
    rank: int = 4
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    blocks: tuple[int | str, ...] = ()

    def __post_init__(self):
        one_of("bits", self.bits, (8, 4))
        self._lora()

    def _lora(self) -> LoRA:
        return LoRA(self.rank, self.alpha, self.dropout, self.targets, self.blocks)

    def apply(self, backbone: Any) -> Any:
        """Quantise every projection, and put updates beside the targets."""
        places = sites(backbone)
        every = places.projections()
        self._lora().check(places.targets(self.targets, self.blocks))
        for site in every:
            if any(isinstance(layer, ProjectionLayer) for layer in around(site.layer)):
                raise InputError(
                    f"A projection is quantised before anything is put around it, and {site.path} "
                    "carries another method. Name `qlora` before it in the chain; `lora` is in it."
                )
            if self.bits == 4:
                groups_of(projection_of(site.layer), site.path)
        put(backbone, every, Quantised, self._layer)
        return self._lora().apply(backbone)

    def _layer(self, site: Site) -> Quantised:
        return Quantised(site.layer, site.path, self.bits)
