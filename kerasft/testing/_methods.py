"""The contract of a tuning method, part by part."""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerasft._core import files, stack, weights
from kerasft.backbones import FAMILIES
from kerasft.methods import (
    adapt,
    carried,
    is_record,
    merge,
    registry,
    replaced,
    unmergeable,
)
from kerasft.pipeline import Pipeline
from kerasft.testing import _rig, tiny
from kerasft.testing._compare import close, difference, equal, refused, same, same_names

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)


@dataclass(frozen=True)
class Refusal:
    """A method that some families cannot carry, by design.

    Args:
        method: the method's name.
        families: names of the families that refuse it.
        when: whether a method's options are refused.
        message: what the `InputError` says.
        reason: why it is so.
    """

    method: str
    families: tuple[str, ...]
    when: Callable[[Any], bool]
    message: str
    reason: str


_ATTENTION = {"query", "key", "value", "output"}
_UNGATED = tuple(f.name for f in FAMILIES if f.kind == "encoder" or f.name in ("gpt2", "opt"))
_TARGETED = ("lora", "adalora", "qlora", "ia3", "vera")
REFUSALS = (
    *(
        Refusal(
            name,
            ("f_net",),
            lambda method: bool(_ATTENTION & set(method.targets)),
            "`targets` must be one of: up, down",
            "FNet mixes tokens by Fourier transforms: it has no attention projections",
        )
        for name in _TARGETED
    ),
    *(
        Refusal(
            name,
            _UNGATED,
            lambda method: "gate" in method.targets,
            "`targets` must be one of",
            "only the newer decoders have a gate in their feed-forward part",
        )
        for name in _TARGETED
    ),
    *(
        Refusal(
            name,
            ("f_net",),
            lambda method: method.placement == "houlsby",
            "`placement: houlsby` puts adapters behind attention",
            "FNet has no attention that an adapter could stand behind",
        )
        for name in ("adapters", "compacter")
    ),
    Refusal(
        "adapters",
        ("albert",),
        lambda method: bool(method.drop_first_blocks or method.drop_random_blocks),
        "runs one block many times",
        "ALBERT's blocks share their weights",
    ),
    Refusal(
        "bitfit",
        ("llama", "llama3", "mistral", "qwen3", "gemma"),
        lambda method: True,
        "BitFit trains biases, and these parts of",
        "these decoders have no biases",
    ),
    Refusal(
        "prefix-tuning",
        ("f_net", "deberta_v3"),
        lambda method: True,
        "A prefix stands before the keys and values of plain attention",
        "FNet has no attention, and DeBERTa's scores are made of distances between tokens",
    ),
    Refusal(
        "freeze",
        ("albert",),
        lambda method: method != type(method)(),
        "runs one block many times",
        "ALBERT's blocks share their weights",
    ),
    Refusal(
        "gradual-unfreezing",
        ("albert",),
        lambda method: True,
        "runs one block many times",
        "ALBERT's blocks share their weights",
    ),
)

_UNMERGEABLE = "the method cannot be merged, and says why"
_NO_ADAPTER = "the method moves all of the backbone or nothing, so there is no adapter"
_NO_MERGE = "the method has nothing to merge"
# Weights of a backbone that no classifier reads: they have no gradient and stay.
UNREAD = {
    "electra": ("pooled_dense/kernel", "pooled_dense/bias"),
    "llama": ("token_embedding/reverse_embeddings",),
    "llama3": ("token_embedding/reverse_embeddings",),
    "mistral": ("token_embedding/reverse_embeddings",),
}


@dataclass
class Case:
    """One method on one family, with what the parts before have left.

    Args:
        method: the method.
        family: the family's row.
        trainable: says of each pristine or added weight of a backbone whether it is to be trained.
        identity: whether a fresh method leaves the outputs as they were.
    """

    method: Any
    family: Any
    trainable: Callable[[Any], Iterable[str]] | None = None
    identity: bool = True
    pipe: Pipeline = field(default=None, repr=False)
    pristine: list[str] = field(default_factory=list)

    def fresh(self, **options: Any) -> Pipeline:
        """A pipeline of the same base, with the method freshly applied and another head."""
        return _rig.pipeline(self.family, self.method, seed=0, **options)


def check_method(
    method: Any,
    family: Any = "bert",
    *,
    trainable: Callable[[Any], Iterable[str]] | None = None,
    identity: bool = True,
    parts: Iterable[str] | None = None,
) -> dict[str, str]:
    """Hold a tuning method to its contract on a tiny backbone of one family.

    Args:
        method: a method that is registered (`kerasft.methods.registry`).
        family: the family's name, or its row of `FAMILIES`.
        trainable: gives the paths of the backbone's weights that are to be trained, from the
            adapted backbone; not compared when None.
        identity: whether a fresh method leaves the outputs as they were, bit for bit.
        parts: names of `METHOD_PARTS`; all when None.

    Returns:
        Part -> "passed", or why there was nothing to check.

    Raises:
        AssertionError: says what does not hold.

    Example:
        >>> check_method(LoRA(rank=4), "gemma")["merge"]
        'passed'
    """
    row = tiny.family(family)
    for refusal in REFUSALS:
        known = refusal.method == method.name and row.name in refusal.families
        if known and refusal.when(method):
            with refused(refusal.message, f"{method} on {row.name}"):
                adapt(tiny.backbone(row), method)
            return {"refusal": refusal.reason}
    case = Case(method, row, trainable, identity)
    wanted = ["identity", *(parts if parts is not None else METHOD_PARTS)]
    return {name: check(case) or "passed" for name, check in METHOD_PARTS.items() if name in wanted}


def _config(case: Case) -> None:
    config = json.loads(json.dumps(registry.config(case.method)))
    equal(registry.build(config), case.method, "the method built from its configuration")
    equal(registry.build(case.method), case.method, "the method built from itself")


def _identity(case: Case) -> None:
    backbone = tiny.backbone(case.family)
    x = tiny.features(backbone)
    case.pristine = sorted(weights.named(backbone.weights))
    before, kept = _rig.answers(backbone, x), _rig.values(backbone.weights)
    adapted = adapt(backbone, case.method)
    case.pipe = _rig.assemble(adapted, case.family, _rig.TASK)
    if case.identity:
        same(_rig.answers(adapted, x), before, "the fresh method's")
    now = _rig.values(adapted.weights)
    gone = replaced(adapted.backbone)
    equal(gone <= set(kept) and not gone & set(now), True, "weights are replaced, or they are kept")
    kept = {path: value for path, value in kept.items() if path not in gone}
    same({path: now.get(path) for path in kept}, kept, "after applying the method, the weight")


def _trainable(case: Case) -> None:
    found = set(_rig.trainable(case.pipe.model))
    head = set(weights.named(case.pipe.head_variables))
    same_names(found & head, head, "trained weights of the head")
    if case.trainable is not None:
        expected = case.trainable(case.pipe.adapted.backbone)
        same_names(found - head, expected, "trained weights of the backbone")


def _training(case: Case) -> None:
    model = case.pipe.model
    moving = set(_rig.trainable(model))
    before = _rig.values(model.weights)
    losses = _rig.stepped(case.pipe)
    equal(bool(np.isfinite(losses).all()), True, f"finite losses ({losses})")
    after = _rig.values(model.weights)
    noted = {v.path for v in model.weights if is_record(v)}
    frozen = {p: v for p, v in before.items() if p not in moving | noted}
    same({p: after[p] for p in frozen}, frozen, "after two steps the frozen weight")
    moved = [p for p in moving if (after[p] != before[p]).any()]
    wanted = moving - set(UNREAD.get(case.family.name, ()))
    same_names(moved, wanted, "weights that moved in two steps")


def _keras_file(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.keras")
        case.pipe.model.save(path)
        again = keras.saving.load_model(path)
    _same_model(again, case.pipe.model, "the .keras file's")


def _folder(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        again = Pipeline.load(case.pipe.save(Path(folder) / "model"))
    _same_model(again.model, case.pipe.model, "the folder's")
    equal(again.adapted.method_config, case.pipe.adapted.method_config, "the folder's method")
    equal(again.task, case.pipe.task, "the folder's task")


def _same_model(got: Any, want: Any, what: str, records: bool = True) -> None:
    x = tiny.features(want)
    same(_rig.answers(got, x), _rig.answers(want, x), what)
    same_names(_rig.trainable(got), _rig.trainable(want), f"{what} trained weights")
    one, other = ([v for v in m.weights if records or not is_record(v)] for m in (got, want))
    same(_rig.values(one), _rig.values(other), f"{what} weight")


def _merged_copy(case: Case) -> str | None:
    if not carried(case.pipe.backbone):
        return _NO_MERGE
    if reason := unmergeable(case.pipe.backbone):
        with refused(reason, "merging"):
            case.pipe.merged()
        return _UNMERGEABLE
    merged, x = case.pipe.merged(), tiny.features(case.pipe.model)
    same_names(weights.named(merged.backbone.weights), case.pristine, "weights of the merged copy")
    close(
        _rig.answers(merged.model, x), _rig.answers(case.pipe.model, x), 1e-5, "the merged copy's"
    )
    with refused("no merge", "merging a merged pipeline"):
        merged.merged()
    return None


def _merge(case: Case) -> str | None:
    """Merge in place, undo it, and merge again; nothing can follow."""
    if not carried(case.pipe.backbone):
        return _NO_MERGE
    if unmergeable(case.pipe.backbone):
        return _UNMERGEABLE
    backbone, x = case.pipe.backbone, tiny.features(case.pipe.model)
    fresh = _rig.answers(case.pipe.model, x)
    _move(case.pipe)
    before = _rig.answers(case.pipe.model, x)
    moved = difference(before["output"], fresh["output"])
    equal(moved > 1e-3, True, f"what is trained moves the answers ({moved:.2g})")
    own, trained = _rig.values(backbone.weights), _rig.trainable(case.pipe.model)
    done = merge(backbone)
    close(_rig.answers(case.pipe.model, x), before, 1e-5, "after the merge the")
    done.undo()
    same(_rig.answers(case.pipe.model, x), before, "after the merge was undone the")
    same(_rig.values(backbone.weights), own, "after the merge was undone the weight")
    same_names(_rig.trainable(case.pipe.model), trained, "trained weights after the undoing")
    with refused("undone already", "undoing a merge twice"):
        done.undo()
    merge(backbone)
    same_names(weights.named(backbone.weights), case.pristine, "weights after the merge")
    with refused("it was merged", "merging twice"):
        merge(backbone)
    return None


def _move(pipe: Pipeline) -> None:
    """Add random values to what the method trains: B of a fresh LoRA is zero, which hides much."""
    random = np.random.default_rng(5)
    for variable in pipe.adapted.trainable_variables:
        variable.assign_add(0.2 * random.standard_normal(variable.shape).astype(np.float32))


def _adapter(case: Case) -> str | None:
    moving = len(case.pipe.adapted.trainable_variables)
    if moving in (0, len(case.pipe.adapted.weights)):
        with tempfile.TemporaryDirectory() as folder, refused("has no adapter", "saving one"):
            case.pipe.save_adapter(str(Path(folder) / "adapter.safetensors"))
        return _NO_ADAPTER
    _move(case.pipe)
    fresh = _rig.pipeline(case.family, case.method)
    fresh.model.get_layer("logits").set_weights(
        [w + 1.0 for w in fresh.model.get_layer("logits").get_weights()]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "adapter.safetensors")
        case.pipe.save_adapter(path)
        fresh.load_adapter(path)
        _same_model(fresh.model, case.pipe.model, "the adapter file's", records=False)
        _refuse_other_adapters(path, fresh)
    return None


def _refuse_other_adapters(path: str, pipe: Pipeline) -> None:
    arrays, notes = weights.read(path)
    own = [k for k in arrays if k.startswith("adapter/")]
    lost = {k: v for k, v in arrays.items() if k != min(own)}
    changes = {
        "another method": (arrays, notes | {"method": {"name": "other"}}),
        "another base": (arrays, notes | {"base": notes["base"] | {"class": "Other"}}),
        "another tokenizer": (arrays, notes | {"tokenizer": "other"}),
        "another task": (arrays, notes | {"task": notes["task"] | {"labels": ["b", "a"]}}),
        "the head of the adapter does not fit": (
            {k: v for k, v in arrays.items() if not k.startswith("head/")},
            notes,
        ),
        "no adapter file": (arrays, {}),
        "differ": (lost, notes),
    }
    before = _rig.values(pipe.model.weights)
    for text, (kept, said) in changes.items():
        files.write_bytes(path, weights.to_bytes(kept, said))
        with refused(text, f"an adapter file of {text}"):
            pipe.load_adapter(path)
    files.write_bytes(path, weights.to_bytes(arrays, notes))
    frozen = next(v for v in pipe.adapted.weights if not v.trainable)
    frozen.assign(np.asarray(frozen) + 1.0)
    with refused("fingerprint", "an adapter of other weights"):
        pipe.load_adapter(path)
    frozen.assign(before[frozen.path])
    same(_rig.values(pipe.model.weights), before, "after refused adapters the weight")


def _bfloat16(case: Case) -> None:
    pipe = case.fresh(dtype="mixed_bfloat16")
    x = tiny.features(pipe.model)
    expected = _rig.answers(case.fresh().model, x)
    close(_rig.answers(pipe.model, x), expected, 0.1, "in mixed_bfloat16 the")
    equal({v.dtype for v in pipe.model.trainable_variables}, {"float32"}, "types of the weights")
    losses = _rig.stepped(pipe, 1)
    equal(bool(np.isfinite(losses).all()), True, f"finite losses ({losses})")


def _replicas(case: Case, eager: bool = True) -> str | None:
    strategy = _rig.replicas()
    if strategy is None:
        return "there is one CPU device; two are set with tf.config"

    def build() -> Pipeline:
        pipe = case.fresh()
        tiny.randomize(pipe.model, seed=2, scale=0.15)
        return pipe

    one, loss = _rig.fitted_with_sgd(None, build, eager=True)
    # In parts, which gradient accumulation takes of each replica's rows; some are empty.
    two, loss_of_two = _rig.fitted_with_sgd(strategy, build, parts=2, eager=eager)
    close(loss_of_two, loss, 1e-5, "the loss on two replicas")
    wanted = _rig.values(one.model.weights)
    close(_rig.values(two.model.weights), wanted, 1e-6, "two replicas:", absolute=True)
    return None


def _replicas_in_graph(case: Case) -> str | None:
    return _replicas(case, eager=False)


METHOD_PARTS: dict[str, Callable[[Case], str | None]] = {
    "config": _config,
    "identity": _identity,
    "trainable": _trainable,
    "training": _training,
    "keras file": _keras_file,
    "folder": _folder,
    "adapter": _adapter,
    "merged copy": _merged_copy,
    "bfloat16": _bfloat16,
    "replicas": _replicas,
    "replicas in a graph": _replicas_in_graph,
    "merge": _merge,
}
