"""Layers that do another adapter's to each row of a batch."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft._core.errors import InputError
from kerasft.backbones._surgery import around, gain_of, inside, own_weights, without_rows
from kerasft.methods._change import Change
from kerasft.methods._site_layers import carried, projection_of

stack.ensure()
import tensorflow as tf  # noqa: E402  (after the backend is chosen)

_SHIFTS, _GAINS = ("bias", "beta"), ("gamma", "scale", "weight")


def changes_of(backbone: Any, base: Mapping[str, np.ndarray]) -> dict[str, Change]:
    """What the method of a backbone has made of each layer of the base that it changed.

    Args:
        backbone: the backbone with its method.
        base: the weights of the base, by path (see `own_weights`).

    Returns:
        Changes by the key of the layer (see `own_weights`).

    Raises:
        InputError: if the method is more than a function of each row: it moves kernels or
            embeddings, stands at another place than a projection, or holds the base in a form of
            its own.
    """
    found: dict[str, Change] = {}
    layers, tables = own_weights(backbone), without_rows(backbone)
    for key, (layer, variables) in layers.items():
        for name, (path, variable) in variables.items():
            if path not in base:
                continue  # the method's own
            if np.array_equal(np.asarray(variable), base[path]):
                continue
            moved = np.asarray(variable, np.float64)
            if id(layer) in tables:
                raise _refused(f"the method moves {path}, which all rows of a batch share")
            change = found.get(key, Change())
            if name in _SHIFTS:
                change = change.shifted((moved - base[path]).reshape(-1))
            elif name in _GAINS and "kernel" not in variables:
                change = _gained(change, gain_of(layer, moved), gain_of(layer, base[path]))
                if "beta" in variables:  # o * beta is in o * f already, of the base's beta
                    before = np.asarray(base[variables["beta"][0]], np.float64)
                    change = change.shifted(before * (1 - change.outputs))
            else:
                raise _refused(f"the method moves {path}")
            found[key] = change
    keys = {id(layer): key for key, (layer, _) in layers.items()}
    for site in carried(backbone):
        if id(inside(site.layer)) not in keys:
            raise _refused(f"{site.layer.name} is no change of a projection that the base has")
        key = keys[id(inside(site.layer))]
        change = found.get(key, Change())
        for layer in reversed(around(site.layer)):
            change = layer.change(change)
            if change is None:
                raise _refused(f"{layer.name} is no such function")
        found[key] = change
    return found


def _gained(change: Change, after: np.ndarray, before: np.ndarray) -> Change:
    if not np.all(np.abs(before) > 1e-12):
        raise _refused("a gain of the base is 0, and a share of it says nothing")
    return replace(change, outputs=after / before)


def _refused(why: str) -> InputError:
    return InputError(
        "Adapters stand side by side where each is a function of one row of a projection, a bias "
        "or a norm: lora, adalora, vera, ia3, bitfit, layer-norm, and chains. It cannot "
        f"be so here: {why}. Serve this model on its own."
    )


class Routes:
    """Layers of a model that change with the row.

    Each layer keeps its weights; tables hold what every adapter makes of it, [adapters, ...], and
    a row's numbers are gathered by its adapter. Outside `rows` the layers are as they were.

    Args:
        layers: the layers by key.
        changes: of each adapter, changes by key; the first adapter's is row 0 of the tables.

    `row` is the adapter of each row, int32 [batch], inside `rows`, and None outside.
    """

    def __init__(self, layers: Mapping[str, Any], changes: Sequence[Mapping[str, Change]]):
        self.tables: dict[str, dict[str, tf.Variable]] = {}
        self.row: Any = None
        self._now: dict[str, dict[str, Any]] = {}
        touched = sorted({key for own in changes for key in own})
        for key in touched:
            own = [change.get(key, Change()) for change in changes]
            sizes = _sizes(layers[key], own)
            self.tables[key] = {
                name: tf.Variable(table, trainable=False, name=f"{key}/{name}".replace("#", "_"))
                for name, table in _stacked(own, sizes).items()
            }
            _route(layers[key], lambda key=key: self._now.get(key))

    @property
    def variables(self) -> list[Any]:
        """All tables."""
        return [table for own in self.tables.values() for table in own.values()]

    @contextlib.contextmanager
    def rows(self, adapter: Any) -> Iterator[None]:
        """Apply adapter number `adapter`, int32 [batch], to each row of what runs inside."""
        before = self.row, self._now
        self.row = adapter
        self.choose(adapter)
        try:
            yield
        finally:
            self.row, self._now = before

    def choose(self, adapter: Any) -> None:
        """The adapter of each sequence, where a row has several, until `rows` ends."""
        # Gathered here, once, and not in the loop that writes a text token by token.
        self._now = {
            key: {name: tf.gather(table, adapter) for name, table in own.items()}
            for key, own in self.tables.items()
        }


def _sizes(layer: Any, own: Sequence[Change]) -> tuple[int, int]:
    """Inputs and outputs of a layer, of another kernel the most outputs of all."""
    kernels = [c.kernel for c in own if c.kernel is not None]
    if kernels:
        return kernels[0].shape[0], max(kernel.shape[1] for kernel in kernels)
    if hasattr(layer, "kernel"):
        shape = projection_of(layer)
        return shape.inputs, shape.outputs
    width = int(layer.weights[0].shape[-1])
    return width, width


def _stacked(own: Sequence[Change], sizes: tuple[int, int]) -> dict[str, np.ndarray]:
    """The tables of a layer; what an adapter lacks is filled so that it changes nothing."""
    inputs, outputs = sizes
    rank = max((c.a.shape[1] for c in own if c.a is not None), default=0)
    shapes = {
        "inputs": ((inputs,), 1.0),
        "a": ((inputs, rank), 0.0),
        "b": ((rank, outputs), 0.0),
        "outputs": ((outputs,), 1.0),
        "shift": ((outputs,), 0.0),
        "kernel": ((inputs, outputs), 0.0),
    }
    found = {}
    for name, (shape, fill) in shapes.items():
        values = [getattr(change, name) for change in own]
        if all(value is None for value in values):
            continue
        table = np.full((len(own), *shape), fill, np.float32)
        for row, value in zip(table, values, strict=True):
            if value is not None:
                row[tuple(slice(n) for n in value.shape)] = value
        found[name] = table
    return found


def _route(layer: Any, now: Any) -> None:
    """Let a layer do to each row what `now()` says, and what it did before where that is None."""
    plain = layer.call
    activation = getattr(layer, "activation", None)
    if activation is not None:
        layer.activation = _linear

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        own = now()
        y = plain(x, *args, **kwargs) if own is None else _routed(plain, own, x, *args, **kwargs)
        return y if activation is None else activation(y)

    layer.call = call


def _linear(x: Any) -> Any:
    return x


def _routed(plain: Any, own: dict[str, Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """The layer on rows [batch, ...] with the numbers of each row's adapter.

    What a row holds, windows, beams and tokens, is one axis: [batch, -1, inputs].
    """
    some = next(iter(own.values()))
    own = {name: tf.cast(value, x.dtype) for name, value in own.items()}
    width = own["a"].shape[1] if "a" in own else own["kernel"].shape[1] if "kernel" in own else None
    flat = None if width is None else tf.reshape(x, [tf.shape(some)[0], -1, width])
    if "kernel" in own:
        lead = tf.shape(x)[:-1]
        y = flat @ own["kernel"]
        shape = tf.concat([lead, [own["kernel"].shape[2]]], 0)
        static = [*x.shape[:-1], own["kernel"].shape[2]]
    else:
        y = plain(_each(tf.multiply, x, own.get("inputs")), *args, **kwargs)
        y, shape, static = _each(tf.multiply, y, own.get("outputs")), tf.shape(y), y.shape
    if "a" in own and "kernel" not in own:
        y += tf.reshape(flat @ own["a"] @ own["b"], shape)
    y = tf.reshape(_each(tf.add, y, own.get("shift")), shape)
    y.set_shape(static)
    return y


def _each(op: Any, x: Any, vectors: Any) -> Any:
    """x [batch, ...] and a vector of its last axes for each row, [batch, n]."""
    if vectors is None:
        return x
    shape = tf.shape(x)
    flat = tf.reshape(x, [tf.shape(vectors)[0], -1, vectors.shape[1]])
    return tf.ensure_shape(tf.reshape(op(flat, vectors[:, None]), shape), x.shape)
