"""Several methods on one backbone."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasft._core.errors import InputError
from kerasft.methods import registry
from kerasft.methods._trainable import set_trainable


@dataclass(frozen=True)
class Chain:
    """A chain: methods applied one after the other; what any of them trains is trained.

    Each method's `blocks` says which part of the backbone is its own: low-rank updates in the
    upper half and biases below are `lora` with `blocks` 6 to 11 and `bitfit` with 0 to 5.

    Args:
        methods: methods, their names, or mappings with `name`.

    Raises:
        InputError: if there are fewer than two, one comes twice, or a chain is in it.

    Example:
        >>> Chain(({"name": "lora", "blocks": [1]}, {"name": "bitfit", "blocks": [0]}))

    Reference: Mao et al. 2022, "UniPELT", https://arxiv.org/abs/2110.07577
    """

    name: ClassVar[str] = "chain"
    methods: tuple[Any, ...]

    def __post_init__(self):
        if not isinstance(self.methods, (list, tuple)) or len(self.methods) < 2:
            raise InputError(
                f"A chain has two or more methods. Received: methods={self.methods!r}. "
                "Write [lora, bitfit]."
            )
        built = tuple(registry.build(_short(method)) for method in self.methods)
        names = [method.name for method in built]
        for name in names:
            if name == self.name or names.count(name) > 1:
                what = "has no chain in it" if name == self.name else "has each method once"
                raise InputError(f"A chain {what}. Received: {', '.join(names)}.")
        object.__setattr__(self, "methods", built)

    @property
    def learning_rate(self) -> float:
        """The lowest of the rates that suit its methods."""
        return min(getattr(method, "learning_rate", 5e-5) for method in self.methods)

    def apply(self, backbone: Any) -> Any:
        """Apply each method, and let move what one of them lets move."""
        moving: set[int] = set()
        for method in self.methods:
            method.apply(backbone)
            moving |= {id(v) for v in backbone.trainable_variables}
        set_trainable(backbone, lambda variable: id(variable) in moving)
        return backbone


def _short(method: Any) -> Any:
    """`{lora: {rank: 8}}` is short for `{name: lora, rank: 8}`, as in a recipe."""
    if isinstance(method, dict) and "name" not in method and len(method) == 1:
        ((name, options),) = method.items()
        if isinstance(options, dict | None):
            return {"name": name} | (options or {})
    return method
