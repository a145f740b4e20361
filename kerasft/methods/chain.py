"""Several methods on one backbone."""

from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from kerasft._core.errors import InputError
from kerasft._core.weights import named
from kerasft.methods import registry
from kerasft.methods._paces import paces_of
from kerasft.methods._site_layers import layers_of
from kerasft.methods._trainable import set_trainable
from kerasft.methods._watch import Watches, watch_of
from kerasft.optimizers import Pace

# Backbone -> id of each weight that learns -> name of the method that trains it. The weights alone
# do not say it: a bias may be BitFit's or a frozen block's neighbour. Kept beside the backbone,
# because Keras takes what is set on it for a part of the model.
_TRAINED: WeakKeyDictionary = WeakKeyDictionary()


@dataclass(frozen=True)
class Chain:
    """A chain: methods applied one after the other; what any of them trains is trained.

    The `blocks` of a method say which part of the backbone is its own (of `freeze`, which part
    stands still): low-rank updates in the upper half and biases below are `lora` with `blocks` 6
    to 11 and `bitfit` with 0 to 5. The weights of each learn at the rate that suits it, as a share
    of the chain's rate, which is the highest of them; of the backbone's own weights that several
    methods train, the last method's.

        rate of a weight = rate * (rate of its method / highest rate of the methods)

    Args:
        methods: methods, their names, or mappings with `name`.

    Raises:
        InputError: if there are fewer than two, one comes twice, or a chain is in it.

    Example:
        >>> Chain(({"name": "lora", "blocks": [1]}, {"name": "bitfit", "blocks": [0]}))

    Reference: Mao et al. 2022, "UniPELT", https://arxiv.org/abs/2110.07577
    """

    name: ClassVar[str] = "chain"
    methods: tuple[Any, ...] = ("lora", "layer-norm")

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
        """The highest of the rates that suit its methods; the head's too."""
        return max(map(_rate, self.methods))

    def apply(self, backbone: Any) -> Any:
        """Apply each method, and let move what one of them lets move."""
        trained: dict[int, tuple[Any, str]] = {}  # with the weights, which keep their ids
        for method in self.methods:
            added = {id(v) for layer in layers_of(backbone) for v in layer.own}
            method.apply(backbone)
            for v in backbone.trainable_variables:
                # What a method has added stays its own; of the backbone's weights the last one's.
                if id(v) not in added or id(v) not in trained:
                    trained[id(v)] = (v, method.name)
        left = {id(v) for v in backbone.weights}
        for key, (variable, name) in trained.items():
            if key not in left:
                raise InputError(
                    f"`{name}` is to train {variable.path}, which a later method of the chain "
                    f"holds in another form. Received: {', '.join(m.name for m in self.methods)}. "
                    "Leave one of them out."
                )
        set_trainable(backbone, lambda variable: id(variable) in trained)
        _TRAINED[backbone] = {key: name for key, (_, name) in trained.items()}
        return backbone

    def paces(self, backbone: Any) -> dict[str, Pace]:
        """The share of each weight's method in the highest rate, and what that method says."""
        share = {m.name: Pace(_rate(m) / self.learning_rate) for m in self.methods}
        own = {m.name: paces_of(m, backbone) for m in self.methods}
        found = {}
        for path, variable in named(backbone.weights).items():
            name = _TRAINED[backbone].get(id(variable))
            if name is not None:
                found[path] = share[name] * own[name].get(path, Pace())
        return found

    def watch(self, backbone: Any, steps: int) -> Watches | None:
        """What its methods do at every step of a training."""
        found = [watch_of(method, backbone, steps) for method in self.methods]
        found = [watch for watch in found if watch is not None]
        return Watches(tuple(found)) if found else None


def _rate(method: Any) -> float:
    return getattr(method, "learning_rate", 5e-5)


def _short(method: Any) -> Any:
    """`{lora: {rank: 8}}` is short for `{name: lora, rank: 8}`, as in a recipe."""
    if isinstance(method, dict) and "name" not in method and len(method) == 1:
        ((name, options),) = method.items()
        if isinstance(options, dict | None):
            return {"name": name} | (options or {})
    return method
