"""LoRA adapters as PEFT's folders hold them, in and out."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from kerasft._core import files, weights
from kerasft._core.checks import in_range
from kerasft._core.errors import InputError
from kerasft.backbones import sites
from kerasft.backbones.huggingface.layouts import layout_of
from kerasft.backbones.huggingface.places import Place, places_of
from kerasft.methods._projection import Projection
from kerasft.methods._site_layers import carried, projection_of
from kerasft.methods.lora import LoRA, LoRALayer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BEFORE, _MAGNITUDE = "base_model.model.", "lora_magnitude_vector"
# Options of PEFT's that change what A and B mean, and the only values that are read here.
_PLAIN = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    # The others change the base when PEFT loads them (pissa, olora, loftq, corda).
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
    "use_dora": (None, False, True),
    "lora_bias": (None, False),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "layer_replication": (None,),
    "megatron_config": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
}


def read_peft(folder: str | os.PathLike, backbone: Any) -> tuple[LoRA, dict, dict]:
    """Read a LoRA adapter that PEFT wrote.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.
        backbone: the plain KerasHub backbone that the adapter is for.

    Returns:
        (method, weights for `set_adapter_weights`, the other weights by their names in a model
        with a head: `classifier.weight`).

    Raises:
        InputError: if the folder is another kind of adapter, or not for this backbone.

    Reference: https://huggingface.co/docs/peft/developer_guides/checkpoint
    """
    config = _config(os.fspath(folder))
    source = files.join(os.fspath(folder), WEIGHTS)
    arrays, _ = weights.read(source)
    arrays = {name.removeprefix(_BEFORE): v.astype(np.float32) for name, v in arrays.items()}
    prefix, places = places_of(backbone)
    layers = {site.path: site for site in sites(backbone).projections()}
    state, scales, seen = {}, {}, set()
    for path, place in places.items():
        pair = _pair(arrays, prefix, place.module, source)
        if pair is None:
            continue
        seen |= set(pair)
        a, b = (arrays[name] for name in pair)
        _fits(source, place, a, b)
        g, f = _lines(place, Projection.of(layers[path].layer))
        a, b = _used(a.T[g], b.T[:, f]) if len(f) < place.outputs else (a.T[g], b.T[:, f])
        state[f"{path}.lora_a"], state[f"{path}.lora_b"] = a, b
        if config.get("use_dora"):
            name = pair[0].replace("lora_A.weight", _MAGNITUDE)
            state[f"{path}.lora_magnitude"] = _lengths(arrays, name, place, source)[f]
            seen.add(name)
        scales[path] = _scale(config, prefix + place.module, len(arrays[pair[0]]), source)
    others = {name: v for name, v in arrays.items() if name not in seen}
    unknown = [name for name in others if ".lora_" in name]
    if not state or unknown:
        what = f"the weight {unknown[0]!r}" if unknown else f"{len(arrays)} weights, none of them"
        raise InputError(
            f"{source} must be an adapter of a {type(backbone).__name__}'s projections. "
            f"Received: {what}."
        )
    return _method(config, layers, state, scales), state, others


def write_peft(
    folder: str,
    adapted: Any,
    plain: Any,
    head: dict[str, np.ndarray],
    prefix: str | None = None,
    **notes: Any,
) -> None:
    """Write a LoRA adapter as PEFT's folder.

    Args:
        folder: a local folder.
        adapted: the backbone with its LoRA.
        plain: the same backbone without it, of whose weights only the shapes matter.
        head: weights above the backbone by their names in Transformers' model.
        prefix: what stands before the backbone's modules there; as in most models with a head
            when None.
        notes: `task_type`, `base_model_name_or_path`.

    Ranks and scales that differ are written as one of each: matrices are filled up with zeros,
    and B takes the rest of its scale. The difference of `start: pissa` is a LoRA of twice the rank.

    Raises:
        InputError: if the method is not LoRA alone.
    """
    layers = {site.path: site.layer for site in carried(adapted.backbone)}
    method = adapted.method_config
    if method["name"] != LoRA.name:
        raise InputError(
            f"A PEFT folder is written of a LoRA adapter. Received: method={method['name']!r}. "
            "`save_adapter` writes this one."
        )
    usual, places = places_of(plain)
    prefix = usual if prefix is None else prefix
    modules: dict[str, list[tuple[Place, LoRALayer]]] = {}
    for path, layer in layers.items():
        modules.setdefault(places[path].module, []).append((places[path], layer))
    arrays = {_BEFORE + name: value for name, value in head.items()}
    # One rank for all: a module that holds several projections has the ranks of all of them.
    rank = max(sum(layer.factors()[0].shape[1] for _, layer in p) for p in modules.values())
    scale = float(max(layer.scale for layer in layers.values()))
    for module, parts in modules.items():
        name = f"{_BEFORE}{prefix}{module}"
        a, b = _stacked(parts, rank, scale)
        arrays[f"{name}.lora_A.weight"], arrays[f"{name}.lora_B.weight"] = a, b
        if method["dora"]:
            held = [
                s for s in sites(adapted.backbone).projections() if places[s.path].module == module
            ]
            arrays[f"{name}.{_MAGNITUDE}"] = _magnitudes([(places[s.path], s.layer) for s in held])
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": method["dropout"],
        "use_dora": method["dora"],
        "target_modules": sorted(modules),
        "modules_to_save": sorted({name.split(".")[0] for name in head}) or None,
        "bias": "none",
        "fan_in_fan_out": layout_of(plain).model_type == "gpt2",
        "inference_mode": True,
        **notes,
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    files.write_json(files.join(folder, CONFIG), config)
    from safetensors.numpy import save

    files.write_bytes(files.join(folder, WEIGHTS), save(arrays, metadata={"format": "pt"}))


def _config(folder: str) -> dict[str, Any]:
    path = files.join(folder, CONFIG)
    config = files.read_json(path)
    for key, allowed in _PLAIN.items():
        found = config.get(key) if isinstance(config, dict) else None
        if found not in allowed:
            raise InputError(
                f"{path}: kerasft reads plain LoRA adapters, {key} {allowed[0]!r}. "
                f"Received: {key}={found!r:.80}."
            )
    return config


def _pair(arrays: dict, prefix: str, module: str, source: str) -> tuple[str, str] | None:
    """The names of a module's two matrices, with or without the prefix of a model with a head."""
    for before in (prefix, ""):
        pair = tuple(f"{before}{module}.lora_{m}.weight" for m in "AB")
        held = [name in arrays for name in pair]
        if all(held):
            return pair
        if any(held):
            raise InputError(f"{source} holds one of the two matrices of {module!r} only.")
    return None


def _fits(source: str, place: Place, a: np.ndarray, b: np.ndarray) -> None:
    right = a.ndim == b.ndim == 2 and len(a) == b.shape[1] and len(a) > 0
    if not right or a.shape[1] != place.inputs or len(b) != place.outputs:
        raise InputError(
            f"{source}: the matrices of {place.module!r} must be [rank, {place.inputs}] and "
            f"[{place.outputs}, rank]. Received: {a.shape} and {b.shape}."
        )


def _lines(place: Place, shape: Projection) -> tuple[np.ndarray, np.ndarray]:
    """Input of the module for each input of the projection as a matrix, and output for output."""
    return shape.as_matrix(place.rows)[:, 0], shape.as_matrix(place.columns)[0]


def _used(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrices without the ranks that are another projection's of the same module: 0 in B here."""
    used = b.any(axis=1)
    used[0] |= not used.any()
    return a[:, used], b[used]


def _stacked(
    parts: list[tuple[Place, LoRALayer]], rank: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """A [rank, inputs] and B [outputs, rank] of a module that holds several projections.

    Their ranks are put one beside the other, so each output sees its own alone; the rest is 0.
    """
    place = parts[0][0]
    a = np.zeros((rank, place.inputs), np.float32)
    b = np.zeros((place.outputs, rank), np.float32)
    start = 0
    for place, layer in parts:
        g, f = _lines(place, layer.shape)
        left, right = (np.asarray(part) for part in layer.factors())
        mine = slice(start, start + left.shape[1])
        a[mine, g] = left.T
        b[f, mine] = right.T * np.float32(layer.scale / scale)
        start = mine.stop
    return a, b


def _magnitudes(held: list[tuple[Place, Any]]) -> np.ndarray:
    """The lengths [outputs] that a module's columns get: those learned, or as they are."""
    found = np.zeros(held[0][0].outputs, np.float32)
    for place, layer in held:
        adapted = isinstance(layer, LoRALayer)
        shape = layer.shape if adapted else Projection.of(layer)
        _, f = _lines(place, shape)
        if adapted:
            found[f] = np.asarray(layer.magnitude)
        else:
            found[f] = np.linalg.norm(shape.as_matrix(np.asarray(layer.kernel)), axis=0)
    return found


def _lengths(arrays: dict, name: str, place: Place, source: str) -> np.ndarray:
    found = arrays.get(name)
    if found is None or found.size != place.outputs:
        got = "nothing" if found is None else f"shape {found.shape}"
        raise InputError(
            f"{source}: DoRA has a vector of {place.outputs} lengths, {name!r}. Received: {got}."
        )
    return found.reshape(-1)


def _scale(config: dict[str, Any], module: str, rank: int, source: str) -> float:
    """What PEFT multiplies B A with in one module: alpha / rank, or alpha / sqrt(rank)."""
    expected = _by_pattern(config.get("rank_pattern"), module, config.get("r"))
    if rank != expected:
        raise InputError(
            f"{source}: matrices of rank {expected!r} are expected for {module!r}, as "
            f"{CONFIG} says. Received: rank {rank}."
        )
    alpha = _by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    return in_range("lora_alpha", alpha, 0, above=True) / (
        rank**0.5 if config.get("use_rslora") else rank
    )


def _by_pattern(patterns: dict[str, Any] | None, module: str, otherwise: Any) -> Any:
    """The value of the first pattern, a regular expression, that a module's name ends with."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _method(
    config: dict[str, Any], layers: dict[str, Any], state: dict, scales: dict[str, float]
) -> LoRA:
    """The LoRA that has these matrices.

    They are filled up to one rank with zeros; where the scales differ, B takes the rest of its own.
    """
    held = [layers[path] for path in scales]
    rank = max(state[f"{path}.lora_a"].shape[1] for path in scales)
    common = max(scales.values())
    for path, scale in scales.items():
        a, b = state[f"{path}.lora_a"], state[f"{path}.lora_b"]
        room = (0, rank - a.shape[1])
        state[f"{path}.lora_a"] = np.pad(a, [(0, 0), room])
        state[f"{path}.lora_b"] = np.pad(b * np.float32(scale / common), [room, (0, 0)])
    targets = tuple(dict.fromkeys(site.role for site in held))
    blocks = tuple(dict.fromkeys(site.block for site in held))
    everywhere = set(blocks) == {site.block for site in layers.values()}
    # Projections that other blocks have and one has not get an update of 0.
    for site in layers.values():
        if site.role in targets and site.block in blocks and site.path not in scales:
            shape = projection_of(site.layer)
            state[f"{site.path}.lora_a"] = np.zeros((shape.inputs, rank), np.float32)
            state[f"{site.path}.lora_b"] = np.zeros((rank, shape.outputs), np.float32)
            if config.get("use_dora"):
                matrix = shape.as_matrix(np.asarray(site.layer.kernel))
                state[f"{site.path}.lora_magnitude"] = np.linalg.norm(matrix, axis=0)
    return LoRA(
        rank,
        common * rank,
        float(config.get("lora_dropout") or 0.0),
        targets,
        () if everywhere else blocks,
        dora=bool(config.get("use_dora")),
    )
