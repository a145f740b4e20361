"""Which entry of which Hugging Face weight each entry of a Keras variable holds.

A converter says it by calling `port_weight(variable, key, hook)` for every variable; here the
calls are only noted. Loading runs the hooks forwards. Writing gives each hook an array of
positions, so that what comes out says where each entry came from, and puts the entries back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kerasft._core.errors import InputError
from kerasft.backbones import _surgery
from kerasft.backbones.huggingface import deberta_v3, electra
from kerasft.backbones.huggingface.layouts import Layout
from kerasft.backbones.huggingface.store import Store
from kerasft.backbones.sites import sites

_OWN = {"electra": electra, "deberta-v2": deberta_v3}
_LM_HEAD = "lm_head.weight"
_SEGMENTS = "embeddings.token_type_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_MOST_LAYERS = 1000
_EACH_POSITIONS = ".embed_positions.weight"
_OFFSET = 2  # RoBERTa's and BART's positions start at 2
_LOGITS_BIAS = "final_logits_bias"


class _Exact(np.ndarray):
    """An array that keeps its dtype: KerasHub's Mistral converter rounds to float16."""

    def astype(self, *_, **__):
        return self


@dataclass(frozen=True)
class Port:
    """One variable, the Hugging Face weight it comes from, and how."""

    variable: Any
    key: str
    hook: Callable | None
    shape: tuple[int, ...]

    def apply(self, value: np.ndarray) -> np.ndarray:
        """The variable's value out of the weight."""
        if self.hook is None:
            return value
        return np.asarray(self.hook(value.view(_Exact), list(self.variable.shape)))


class _Notebook:
    """Stands where a converter expects KerasHub's loader, and notes what is asked of it."""

    def __init__(self, backbone: Any):
        self.calls: list[tuple[Any, str, Callable | None]] = []
        self._width = backbone.hidden_dim

    def port_weight(self, keras_variable, hf_weight_key, hook_fn=None):
        self.calls.append((keras_variable, hf_weight_key, hook_fn))

    def get_tensor(self, key):
        # Converters ask for a key with gamma to see how norms are named, and for XLM-R's
        # segment embeddings to add them; they are added by `_fold_segments` here.
        if key.endswith((".gamma", ".beta")):
            raise KeyError(key)
        return np.zeros((1, self._width), "float32")


def ports_of(layout: Layout, backbone: Any, config: dict[str, Any]) -> list[Port]:
    """What the converter of a model type does, as a list."""
    converter: ModuleType = _OWN.get(layout.model_type) or _surgery.converter_of(layout.model_type)
    notebook = _Notebook(backbone)
    converter.convert_weights(backbone, notebook, config)
    roles = {
        id(site.layer.kernel): role.removeprefix("cross_")
        for block in sites(backbone).blocks
        for role, site in block.projections.items()
    }
    ports = []
    for variable, key, hook in notebook.calls:
        key = key.removeprefix(layout.prefix)
        shape = _stored_shape(layout, backbone, variable, key, hook, roles.get(id(variable)))
        ports.append(Port(variable, key, hook, shape))
    return ports


def _stored_shape(layout, backbone, variable, key, hook, role) -> tuple[int, ...]:
    """The shape of the Hugging Face weight: a Linear is [out, in], GPT-2's Conv1D [in, out]."""
    shape, size = tuple(variable.shape), int(np.prod(variable.shape))
    width = backbone.hidden_dim
    if hook is None:
        return shape
    if ".c_attn." in key:
        return (3 * width,) if key.endswith("bias") else (width, 3 * width)
    if len(shape) == 1 or key.endswith("bias"):
        return (size,)
    if key == _POSITIONS or key.endswith(_EACH_POSITIONS):
        return (shape[0] + _OFFSET, shape[1])
    if layout.model_type == "gpt2":
        return (size // width, width) if role == "output" else shape
    if role in ("query", "key", "value"):
        return (size // width, width)
    if role == "output":
        return (width, size // width)
    # A table of embeddings under a hook that only rounds stays as it is; a matrix is turned.
    turned = shape[::-1]
    probe = hook(np.zeros(turned, "int8").view(_Exact), list(shape))
    return turned if tuple(probe.shape) == shape else shape


def fill(layout: Layout, backbone: Any, config: dict[str, Any], store: Store) -> None:
    """Set every weight of a backbone from a checkpoint.

    Raises:
        InputError: if a weight is missing or of another shape than config.json asks for.
    """
    prefix = prefix_in(layout, store)
    for port in ports_of(layout, backbone, config):
        name = port.key if port.key == _LM_HEAD else prefix + port.key
        if name not in store and port.key == _LM_HEAD:
            # A classifier's checkpoint has no such layer; KerasHub's class always has.
            value = store.get(prefix + layout.anchor).T
        elif name not in store and port.key.startswith(layout.spare):
            continue
        else:
            value = port.apply(store.get(name, port.shape))
        port.variable.assign(value)
    _fold_segments(layout, backbone, store, prefix)
    if _LOGITS_BIAS in store and store.get(_LOGITS_BIAS).any():
        raise InputError(
            f"{store.source}: KerasHub's {layout.backbone} has no bias of its logits. Received: "
            f"{_LOGITS_BIAS!r} that is not 0."
        )


def _fold_segments(layout: Layout, backbone: Any, store: Store, prefix: str) -> None:
    """RoBERTa adds its one segment's embedding everywhere; KerasHub's class has none."""
    name = prefix + _SEGMENTS
    if layout.prefix != "roberta." or name not in store:
        return
    positions = backbone.embeddings.position_embedding.position_embeddings
    rows = store.shapes[name][0]
    positions.assign_add(store.get(name, (rows, backbone.hidden_dim))[0])


def prefix_in(layout: Layout, store: Store) -> str:
    """What stands before the backbone's weights, e.g. `bert.`; found by the token embeddings."""
    ends = [n for n in store.shapes if n == layout.anchor or n.endswith("." + layout.anchor)]
    if not ends:
        names = ", ".join(sorted(store.shapes)[:3]) or "none"
        raise InputError(
            f"{store.source} must hold the weight {layout.anchor!r} of a {layout.model_type}. "
            f"Received: {len(store.shapes)} weights, the first: {names}."
        )
    return min(ends, key=len).removesuffix(layout.anchor)


def check_size(layout: Layout, arguments: dict[str, Any], store: Store, path: str) -> None:
    """`InputError` where config.json asks for more numbers than the checkpoint holds.

    So an absurd number in it is found before memory is asked for.
    """
    if arguments["num_layers"] > _MOST_LAYERS:
        raise InputError(
            f"{path} must ask for at most {_MOST_LAYERS} layers. "
            f"Received: {layout.arguments['num_layers']}={arguments['num_layers']}."
        )
    least = _least_numbers(arguments)
    if least > store.size():
        raise InputError(
            f"{path} asks for at least {least} numbers, but {store.source} holds {store.size()}. "
            "Check that config.json and the weights belong together."
        )


def _least_numbers(arguments: dict[str, Any]) -> int:
    """A lower bound for the size of a backbone: its tables and some of its matrices."""
    width, layers = arguments["hidden_dim"], arguments["num_layers"]
    rows = arguments.get("vocabulary_size") or arguments["vocab_size"]
    rows += arguments.get("max_sequence_length", 0) + arguments.get("num_segments", 0)
    blocks = arguments.get("num_groups", layers) * arguments.get("num_inner_repetitions", 1)
    heads = arguments.get("num_query_heads", 0) * (arguments.get("head_dim") or 0)
    found = rows * arguments.get("embedding_dim", width)
    found += blocks * width * (arguments["intermediate_dim"] + heads)
    return found + 2 * width * arguments.get("bucket_size", 0)


def written_weights(
    layout: Layout, backbone: Any, config: dict[str, Any], prefix: str, pooler: bool = True
) -> dict[str, np.ndarray]:
    """The weights of a backbone under their Hugging Face names, float32.

    Args:
        prefix: what stands before the names; not always that of the layout.
        pooler: whether the class that reads them has the weights that a layout can spare.
    """
    found: dict[str, np.ndarray] = {}
    for port in ports_of(layout, backbone, config):
        if not pooler and port.key.startswith(layout.spare):
            continue
        name = port.key if port.key == _LM_HEAD else prefix + port.key
        value = np.asarray(port.variable, "float32")
        if port.hook is None:
            found[name] = value
            continue
        into = found.setdefault(name, np.zeros(port.shape, "float32"))
        places = np.arange(into.size, dtype="int64").reshape(port.shape)
        into.reshape(-1)[port.apply(places).reshape(-1)] = value.reshape(-1)
    if layout.prefix == "roberta.":
        found[prefix + _SEGMENTS] = np.zeros((1, backbone.hidden_dim), "float32")
    return found
