"""Freezing: part of the backbone keeps its pretrained weights."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.backbones import Sites, sites
from kerasft.methods._trainable import freeze_all_but, set_trainable


@dataclass(frozen=True)
class Freeze:
    """Freezing: all but the head, all but the top blocks, the first blocks, or blocks by name.

    Without options the whole backbone is frozen and only the head learns.

    Args:
        train_top_blocks: the last k blocks learn, with the norm and pooler above them.
        freeze_first_blocks: the embeddings and the first n blocks are frozen.
        blocks: names (`transformer_layer_3`) or numbers from 0 of the blocks that are frozen;
            the embeddings learn.

    Raises:
        InputError: if more than one option is given, or the backbone has not that many blocks.

    Example:
        >>> Freeze(train_top_blocks=2).apply(backbone)

    Reference: Lee et al. 2019, "What Would Elsa Do? Freezing Layers During Transformer
    Fine-Tuning", https://arxiv.org/abs/1911.03090
    """

    name: ClassVar[str] = "freeze"
    train_top_blocks: int | None = None
    freeze_first_blocks: int | None = None
    blocks: tuple[str | int, ...] = ()

    def __post_init__(self):
        given = [self.train_top_blocks is not None, self.freeze_first_blocks is not None]
        if sum(given) + bool(self.blocks) > 1:
            raise InputError(
                "`freeze` takes one of train_top_blocks, freeze_first_blocks and blocks. "
                f"Received: {self}."
            )
        for key in ("train_top_blocks", "freeze_first_blocks"):
            if getattr(self, key) is not None:
                whole(key, getattr(self, key))

    def apply(self, backbone: Any) -> Any:
        """Freeze the chosen weights of the backbone."""
        places = sites(backbone)
        if self.train_top_blocks is None and self.freeze_first_blocks is None and not self.blocks:
            set_trainable(backbone, lambda variable: False)
            return backbone
        places.need_separate_blocks("Freezing by block")
        if self.blocks:
            frozen = {id(v) for b in places.chosen(self.blocks) for v in b.layer.variables}
            set_trainable(backbone, lambda variable: id(variable) not in frozen)
            return backbone
        first = self._first_trained(places)
        above = self._above(backbone, places) if first <= len(places.blocks) else []
        freeze_all_but(backbone, [*(b.layer for b in places.blocks[first:]), *above])
        return backbone

    def _first_trained(self, places: Sites) -> int:
        count, backbone = len(places.blocks), places.family.backbone
        key = "train_top_blocks" if self.train_top_blocks is not None else "freeze_first_blocks"
        wanted = getattr(self, key)
        if wanted > count:
            raise InputError(
                f"This {backbone} has {count} blocks, so `{key}` can be at most {count}. "
                f"Received: {key}={wanted}. (BERT-base has 12 blocks, BERT-large 24.)"
            )
        return count - wanted if key == "train_top_blocks" else wanted

    def _above(self, backbone: Any, places: Sites) -> list[Any]:
        """Layers that come after the last block: the final norm and the pooler."""
        last = places.blocks[-1].layer
        order = list(backbone.layers)
        return order[order.index(last) + 1 :]
