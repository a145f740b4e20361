"""BitFit: only the biases learn."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft._core.errors import InputError
from kerasft.backbones import sites
from kerasft.methods._site_layers import roles
from kerasft.methods._trainable import set_trainable

# The shift of a norm is a bias too; Keras calls it beta.
_BIASES = ("bias", "beta")


@dataclass(frozen=True)
class BitFit:
    """BitFit: the biases learn, those of the norms too, and the rest stands still.

        y = x W + b,   only b moves

    Args:
        targets: the projections whose biases learn, of `query`, `key`, `value`, `output`, `gate`,
            `up`, `down`; where empty, every bias of the backbone. The paper's smaller form has
            `query` and `up`.
        blocks: numbers or names of the blocks whose biases learn; all, and what is outside the
            blocks, where empty.

    Raises:
        InputError: if the backbone has no biases (Llama, Mistral, Gemma, T5).

    Example:
        >>> adapted = adapt(backbone, BitFit(targets=("query", "up")))

    Reference: Ben Zaken et al. 2022, "BitFit: Simple Parameter-efficient Fine-tuning for
    Transformer-based Masked Language-models", https://arxiv.org/abs/2106.10199
    """

    name: ClassVar[str] = "bitfit"
    learning_rate: ClassVar[float] = 1e-3
    targets: tuple[str, ...] = ()
    blocks: tuple[int | str, ...] = ()

    def __post_init__(self):
        roles(self.targets)

    def apply(self, backbone: Any) -> Any:
        """Freeze all but the biases."""
        places = sites(backbone)
        if self.targets:
            parts = [site.layer for site in places.targets(self.targets, self.blocks)]
        elif self.blocks:
            parts = [block.layer for block in places.chosen(self.blocks)]
        else:
            parts = [backbone]
        biases = {
            id(v) for part in parts for v in part.weights if v.path.rsplit("/", 1)[-1] in _BIASES
        }
        if not biases:
            raise InputError(
                f"BitFit trains biases, and these parts of {places.family.backbone} have none. "
                f"Received: {self}. Use layer-norm or lora."
            )
        set_trainable(backbone, lambda variable: id(variable) in biases)
        return backbone
