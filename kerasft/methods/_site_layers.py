"""What a method puts at a site: a layer around the one that was there, and its life cycle."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasft._core.checks import nearest
from kerasft._core.errors import InputError
from kerasft._core.weights import named
from kerasft.backbones import ROLES, Site, sites
from kerasft.backbones._surgery import around, inside
from kerasft.methods._change import Change
from kerasft.methods._projection import Projection
from kerasft.methods._trainable import is_random_state, is_record, set_trainable

import keras  # isort: skip  (kerasft.backbones has chosen the backend)


class SiteLayer(keras.layers.Layer):
    """Abstract: a layer at a site around what stood there, which keeps its weights and its place.

    Args:
        base: what is wrapped: a layer of the backbone, or a `SiteLayer` around it.
        site: the site's path, `blocks.0.query`.
        kind: the name of the change, which is part of the layer's name.
    """

    # Why the change cannot be added to the weights of what is wrapped, where it cannot.
    unmergeable: str = ""
    # How many vectors it puts in front of every text, of the token embedding's site alone.
    virtual_tokens: int = 0
    # Paths of the weights that are gone from what is wrapped while this layer stands for them.
    replaces: tuple[str, ...] = ()

    def __init__(self, base: Any, site: str, kind: str):
        super().__init__(name=f"{site.replace('.', '_')}_{kind}", dtype=base.dtype_policy)
        self.base = base

    @property
    def own(self) -> list[Any]:
        """The weights that the method added here, without what it notes in training."""
        inside = {id(v) for v in self.base.variables}
        added = [v for v in self.weights if id(v) not in inside]
        return [v for v in added if not is_random_state(v) and not is_record(v)]

    def unwrap(self) -> Any:
        """Give back what was wrapped, as it was."""
        return self.base

    def wrap(self) -> None:
        """Stand around what was wrapped again, after `unwrap`."""

    def change(self, inner: Change) -> Change | None:
        """What this layer makes of the base, given what it wraps makes of it; None where that is no
        function of each row of a projection."""
        return None


class ProjectionLayer(SiteLayer):
    """Abstract: a layer around a projection, `Dense` or `EinsumDense`.

    The change comes before the projection's activation, so the activation is taken over.

    `shape` is the projection as a matrix, `activation` what `call` applies at the end.
    """

    def __init__(self, base: Any, site: str, kind: str):
        super().__init__(base, site, kind)
        self.shape = projection_of(base)
        self.activation = base.activation
        self.wrap()

    @property
    def biased(self) -> bool:
        """Whether the projection adds a bias."""
        base = self.base
        while isinstance(base, SiteLayer):
            base = base.base
        return base.bias is not None

    @abc.abstractmethod
    def change(self, inner: Change) -> Change | None:
        """What this layer makes of the base, given what it wraps makes of it.

        The merge, and serving several adapters row by row, follow from it.
        """

    def merged(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Kernel and bias of a projection alone that gives what this layer gives, float64."""
        kernel, bias = kernel_and_bias(self.base)
        flat = None if bias is None else bias.reshape(-1)
        matrix, flat = self.change(Change()).merged(self.shape.as_matrix(kernel), flat)
        return self.shape.as_kernel(matrix), None if bias is None else flat.reshape(bias.shape)

    def wrap(self) -> None:
        """Take the activation over."""
        self.base.activation = keras.activations.linear

    def unwrap(self) -> Any:
        """Give back the projection with its activation."""
        self.base.activation = self.activation
        return self.base


class Shared:
    """Weights that the layers of several sites share.

    The first layer that asks makes them and owns them, so they are tracked, named and saved once.
    No attribute of Keras' kind holds them in the others.

    Args:
        make: gives the weights, made with the `add_weight` of the layer that it is handed.
    """

    def __init__(self, make: Callable[[SiteLayer], tuple[Any, ...]]):
        self.make = make
        self.made: tuple[Any, ...] | None = None

    def weights(self, layer: SiteLayer) -> tuple[Any, ...]:
        """The weights, for a layer that is being made."""
        if self.made is None:
            self.made = self.make(layer)
        return self.made


def projection_of(layer: Any) -> Projection:
    """The projection at a site as a matrix, whatever is wrapped around it."""
    while isinstance(layer, SiteLayer):
        if isinstance(layer, ProjectionLayer):  # what it wraps may hold no kernel (see `qlora`)
            return layer.shape
        layer = layer.base
    return Projection.of(layer)


def kernel_and_bias(layer: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Kernel and bias of a projection, whatever is wrapped around it, float64."""
    if isinstance(layer, ProjectionLayer):
        return layer.merged()
    bias = getattr(layer, "bias", None)
    return np.asarray(layer.kernel, np.float64), None if bias is None else np.asarray(bias, float)


def roles(targets: Any) -> tuple[str, ...]:
    """`targets` as a tuple, if it is a list of roles; `InputError` if it is not."""
    known = isinstance(targets, (list, tuple)) and all(t in ROLES for t in targets)
    if known:
        return tuple(targets)
    wrong = next((t for t in targets if t not in ROLES), "") if targets else ""
    raise InputError(
        f"`targets` is a list of projections, of: {', '.join(ROLES)}. "
        f"Received: targets={targets!r}." + nearest(str(wrong), ROLES)
    )


def check_rank(site: Site, rank: int, option: str = "rank") -> None:
    """Raise `InputError` if an update's rank is above the width of the projection at a site."""
    shape = projection_of(site.layer)
    width = min(shape.inputs, shape.outputs)
    if rank > width:
        raise InputError(
            f"The rank of an update is at most the width of its projection: {site.path} "
            f"has {shape.inputs} inputs and {shape.outputs} outputs, so at most {width}. "
            f"Received: {option}={rank}."
        )


def put(
    backbone: Any,
    chosen: list[Site],
    kind: type[SiteLayer],
    make: Callable[[Site], SiteLayer],
) -> Any:
    """Freeze the backbone and put a layer around what stands at each of the sites.

    Args:
        backbone: the backbone.
        chosen: its sites.
        kind: the class of the layers.
        make: gives the layer for a site.

    Raises:
        InputError: if there is no site, or a site carries such a layer already.
    """
    for site in chosen:
        if any(isinstance(layer, kind) for layer in around(site.layer)):
            raise InputError(
                f"{site.path} carries a change of this kind already ({kind.__name__}), and there "
                "is room for one. Name one of the two methods, or load the backbone anew."
            )
    set_trainable(backbone, lambda variable: False)
    for site in chosen:
        place = _innermost(site) if issubclass(kind, ProjectionLayer) else site
        place.put(make(place))
    return backbone


def _innermost(site: Site) -> Site:
    """The site, or the place below what is no projection (an adapter): a change of the projection
    comes before what reads its outputs, in whichever order the methods are named."""
    while isinstance(site.layer, SiteLayer) and not isinstance(site.layer, ProjectionLayer):
        site = replace(site, owner=site.layer, attribute="base")
    return site


def carried(backbone: Any) -> list[Site]:
    """The sites at which a method has put something."""
    return [site for site in sites(backbone).every() if isinstance(site.layer, SiteLayer)]


def layers_of(backbone: Any, kind: type = SiteLayer) -> list[Any]:
    """The layers that methods have put into a backbone, of one class."""
    found = (layer for site in carried(backbone) for layer in around(site.layer))
    return [layer for layer in found if isinstance(layer, kind)]


def replaced(backbone: Any) -> set[str]:
    """Paths of the backbone's weights for which something else stands, until it is merged."""
    return {path for layer in layers_of(backbone) for path in layer.replaces}


def adapter_variables(backbone: Any) -> dict[str, Any]:
    """The weights that make a method's result, by name.

    What a method added is named by its site, `blocks.0.query.lora_a`; weights of the backbone that
    it trains have their own paths.
    """
    found: dict[str, Any] = {}
    for site in carried(backbone):
        for layer in around(site.layer):
            found |= {f"{site.path}.{name}": v for name, v in _by_name(layer).items()}
    known = {id(v) for v in found.values()}
    moving = {p: v for p, v in named(backbone.weights).items() if v.trainable}
    return found | {p: v for p, v in moving.items() if id(v) not in known}


def adapter_weights(backbone: Any) -> dict[str, np.ndarray]:
    """The values of `adapter_variables`."""
    return {name: np.asarray(v) for name, v in adapter_variables(backbone).items()}


def set_adapter_weights(backbone: Any, arrays: dict[str, np.ndarray], source: str) -> None:
    """Set the values of `adapter_variables`.

    Args:
        backbone: the backbone with its method.
        arrays: an array for each of them.
        source: where they come from, for messages.

    Raises:
        InputError: unless exactly the expected ones are there, each with its shape.
    """
    own = adapter_variables(backbone)
    found = {name: tuple(v.shape) for name, v in arrays.items()}
    wanted = {name: tuple(v.shape) for name, v in own.items()}
    if found != wanted:
        odd = sorted(set(found) ^ set(own)) or [n for n in own if found[n] != wanted[n]]
        raise InputError(
            f"{source} does not fit this method and backbone; {len(odd)} weights differ, first: "
            f"{odd[0]}."
        )
    for name, variable in own.items():
        variable.assign(arrays[name])


def _by_name(layer: SiteLayer) -> dict[str, Any]:
    """A layer's own weights by what of their paths lies below the layer."""
    names = [v.path.split(f"{layer.name}/", 1)[-1].replace("/", ".") for v in layer.own]
    return dict(zip(names, layer.own, strict=True))


def unmergeable(backbone: Any) -> str:
    """Why what methods have put into a backbone cannot be merged, or "" where it can."""
    found = layers_of(backbone)
    if not found:
        return "nothing stands beside its weights: the method moved them in place, or it was merged"
    return next((layer.unmergeable for layer in found if layer.unmergeable), "")


@dataclass(frozen=True, eq=False)
class Merged:
    """A merge, which can be undone.

    Args:
        backbone: the plain backbone.
        parts: of each site, what stood there, the layer inside of it, and its kernel and bias.
        trained: which of the backbone's weights learned.
    """

    backbone: Any
    parts: tuple[tuple[Site, Any, Any, np.ndarray | None, np.ndarray | None], ...]
    trained: frozenset[int]

    def undo(self) -> Any:
        """Put the layers of the methods back, and kernels and biases as they were, to the last bit.

        The same weights learn as before. Kernels and biases that have moved since the merge are set
        back too, other weights are not. Gives the backbone.

        Raises:
            InputError: if something stands at a site: it was undone already, or another method has
                been applied since.
        """
        if carried(self.backbone):
            raise InputError(
                "A merge is undone where nothing has come since. Received: a change at "
                f"{carried(self.backbone)[0].path}: it was undone already, or another method is "
                "there."
            )
        for site, outermost, base, kernel, bias in self.parts:
            for values, variable in ((kernel, base.kernel), (bias, getattr(base, "bias", None))):
                if values is not None:
                    variable.assign(values)
            for layer in reversed(around(outermost)):
                layer.wrap()
                site.put(layer)
        set_trainable(self.backbone, lambda variable: id(variable) in self.trained)
        return self.backbone


def merge(backbone: Any) -> Merged:
    """Add what methods have put beside the projections to their weights, in float64, in place.

    The layers of the methods are taken away; what is left is the plain backbone. They are kept,
    with the kernels as they were, by what is returned, for as long as that is.

    Returns:
        `Merged`, whose `undo()` takes the merge back.

    Raises:
        InputError: if there is nothing to merge (it was merged already), or it cannot be.

    Example:
        >>> done = merge(backbone)
        >>> done.undo()

    Reference: Hu et al. 2021, "LoRA", section 4.1, https://arxiv.org/abs/2106.09685
    """
    reason = unmergeable(backbone)
    if reason:
        raise InputError(f"This {type(backbone).__name__} cannot be merged: {reason}.")
    trained = frozenset(id(v) for v in backbone.weights if v.trainable)
    parts = []
    for site in carried(backbone):
        outermost, inner = site.layer, inside(site.layer)
        kernel, bias = outermost.merged()
        before = [_values(getattr(inner, name, None)) for name in ("kernel", "bias")]
        parts.append((site, outermost, inner, *before))
        while isinstance(site.layer, SiteLayer):
            site.put(site.layer.unwrap())
        site.layer.kernel.assign(kernel.astype(np.float32))
        if bias is not None:
            site.layer.bias.assign(bias.astype(np.float32))
    set_trainable(backbone, lambda variable: True)
    return Merged(backbone, tuple(parts), trained)


def _values(variable: Any) -> np.ndarray | None:
    return None if variable is None else np.array(variable)
