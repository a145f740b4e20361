"""The contract of a backbone family, part by part."""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft._core import stack, weights
from kerasft.backbones import (
    ROLES,
    build_backbone,
    describe_backbone,
    load_tokenizer,
    save_tokenizer,
    set_template,
    sites,
    template_of,
)
from kerasft.backbones._surgery import apply_fixes, read_fixes
from kerasft.heads import ClassificationHead
from kerasft.methods import adapt
from kerasft.preprocessing import Template
from kerasft.testing import _rig, tiny
from kerasft.testing._compare import close, difference, equal, refused, same, same_names

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)

_ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: np.asarray(keras.activations.gelu(x, approximate=False)),
}


@dataclass
class Case:
    """One family, with a backbone that all parts share."""

    family: Any
    backbone: Any

    @property
    def features(self) -> dict[str, np.ndarray]:
        """Three rows of 8, 7 and 6 real tokens; a decoder's after an encoder of two less."""
        return tiny.features(self.backbone)

    @property
    def crossed(self) -> bool:
        """Whether it is an encoder-decoder, whose outputs are its decoder's."""
        return self.family.kind == "encoder-decoder"

    def named(self, name: str) -> str:
        """The backbone's name of an input of the sequence that the outputs belong to."""
        return f"decoder_{name}" if self.crossed else name


def check_family(family: Any, *, parts: Iterable[str] | None = None) -> dict[str, str]:
    """Hold a backbone family to its contract, on a tiny backbone and tokenizer.

    Args:
        family: the family's name, or its row of `FAMILIES`.
        parts: names of `FAMILY_PARTS`; all when None.

    Returns:
        Part -> "passed", or why there was nothing to check.

    Raises:
        AssertionError: says what does not hold.

    Example:
        >>> check_family("bert")["padding"]
        'passed'
    """
    row = tiny.family(family)
    case = Case(row, tiny.backbone(row))
    wanted = FAMILY_PARTS if parts is None else tuple(parts)
    return {name: FAMILY_PARTS[name](case) or "passed" for name in wanted}


# What the classes of norms call what they multiply with.
_SCALES = ("gamma", "scale", "weight")


def _sites(case: Case) -> None:
    found = sites(case.backbone)
    equal(found.family, case.family, "the family")
    equal(len(found.blocks), 1 if case.family.shares_blocks else 4 if case.crossed else 2, "blocks")
    for index, block in enumerate(found.blocks):
        for role, site in block.projections.items():
            equal(site.path, f"blocks.{index}.{role}", "a site's path")
            right = isinstance(site.layer, (keras.layers.Dense, keras.layers.EinsumDense))
            equal((role in ROLES, right), (True, True), f"{site.path} is a projection")
        kernels = [site.layer.kernel.path for site in block.projections.values()]
        _covered(block, ("kernel",), kernels)
        _covered(block, _SCALES, [_scale(norm).path for norm in block.norms])
    with refused("must be one of", "a role that is not there"):
        list(found.targets(("query", "nothing")))


def _covered(block: Any, endings: tuple[str, ...], paths: list[str]) -> None:
    """Whether the weights of a block with those names are exactly the given ones."""
    there = [v.path for v in block.layer.variables if v.path.rsplit("/", 1)[-1] in endings]
    same_names(paths, there, f"block {block.index}: {endings[0]}s that have a name")


def _scale(norm: Any) -> Any:
    return next(v for v in norm.variables if v.path.rsplit("/", 1)[-1] in _SCALES)


def _padding(case: Case) -> None:
    narrow = case.features
    rows, length = narrow[case.named("token_ids")].shape
    # What stands on padding must not matter, so it is not the pad id here.
    wide = {n: np.pad(v, [(0, 0), (0, 3)], constant_values=1) for n, v in narrow.items()}
    for name in (n for n in wide if n.endswith("padding_mask")):
        wide[name][:, narrow[name].shape[1] :] = 0
    before, after = (_sequence(_rig.answers(case.backbone, x)) for x in (narrow, wide))
    real = narrow.get(case.named("padding_mask"), np.ones((rows, length), np.int32)).astype(bool)
    before, after = before[real], after[:, :length][real]
    if case.family.maskable:
        close(after, before, 1e-5, "with more padding the outputs of real tokens")
    else:
        moved = difference(after, before)
        equal(moved > 1e-2, True, f"padding moves the outputs ({moved:.2g})")


def _sequence(out: dict[str, np.ndarray]) -> np.ndarray:
    known = ("decoder_sequence_output", "sequence_output", "output")
    return next(out[name] for name in known if name in out)


def _direction(case: Case) -> None:
    """A decoder's token does not see what follows it; an encoder's does, and so does a decoder
    what its encoder has read."""
    x = case.features
    changed = {n: v.copy() for n, v in x.items()}
    changed[case.named("token_ids")][0, -1] += 1
    before, after = (_sequence(_rig.answers(case.backbone, v))[0] for v in (x, changed))
    equal(difference(after[-1], before[-1]) > 1e-4, True, "a token moves its own output")
    moved = difference(after[:-1], before[:-1])
    decoder = case.family.kind != "encoder"
    equal(moved == 0.0, decoder, f"tokens before the changed one are left alone (moved {moved})")
    if case.crossed:
        changed = {n: v.copy() for n, v in x.items()}
        changed["encoder_token_ids"][0, -1] += 1
        moved = difference(_sequence(_rig.answers(case.backbone, changed))[0][0], before[0])
        equal(moved > 1e-4, True, f"the source's last token moves the first output ({moved:.2g})")


def _description(case: Case) -> None:
    x = case.features
    before = _rig.answers(case.backbone, x)
    _same_again(case.backbone, x)
    fixed = tiny.backbone(case.family)
    fixes = {"layer_norm_epsilon": 0.3} | (
        {"activation": "silu"} if "activation" in read_fixes(fixed) else {}
    )
    for name, value in fixes.items():
        last = _rig.answers(fixed, x)
        apply_fixes(fixed, {name: value})
        moved = difference(_sequence(_rig.answers(fixed, x)), _sequence(last))
        equal(moved > 1e-4, True, f"{name} moves the outputs ({moved:.2g})")
    found = read_fixes(fixed)
    equal({name: found[name] for name in fixes}, fixes, "the fixes that are read back")
    _same_again(fixed, x)
    same(_rig.answers(case.backbone, x), before, "the first backbone's")
    for name in case.family.config:
        for value in (True, False):
            made = tiny.backbone(case.family, **{name: value})
            equal(getattr(_same_again(made, x), name), value, f"the rebuilt backbone's {name}")


def _same_again(backbone: Any, x: dict[str, np.ndarray]) -> Any:
    """Describe, build, give the weights: the outputs are equal bit for bit."""
    description = json.loads(json.dumps(describe_backbone(backbone)))
    again = build_backbone(description)
    same_names(weights.named(again.weights), weights.named(backbone.weights), "rebuilt weights")
    weights.assign(again, weights.state_of(backbone), "the backbone")
    same(_rig.answers(again, x), _rig.answers(backbone, x), "the rebuilt backbone's")
    equal(describe_backbone(again), describe_backbone(backbone), "the description")
    with refused("must be one of", "a class outside the table"):
        build_backbone(description | {"class": "os.system"})
    return again


def _tokenizer(case: Case) -> None:
    tokenizer = tiny.tokenizer(case.family)
    before = _encoded(tokenizer)
    size = tokenizer.vocabulary_size()
    equal(bool((before["token_ids"] >= 0).all()), True, "no id is negative")
    equal(bool((before["token_ids"] < size).all()), True, "every id is in the vocabulary")
    equal(len({tuple(row) for row in before["token_ids"]}) >= 5, True, "texts differ in their ids")
    again = _stored(tokenizer)
    equal(type(again), type(tokenizer), "the class of the tokenizer")
    equal(again.vocabulary_size(), size, "the size of the vocabulary")
    equal(template_of(again), template_of(tokenizer), "the template")
    same(_encoded(again), before, "the stored tokenizer's")
    own = Template((4,), (5, 6), (7,), pad=1, second_segment=0)
    set_template(again, own)
    equal(template_of(_stored(again)), own, "a template of a checkpoint's own")


def _encoded(tokenizer: Any) -> dict[str, np.ndarray]:
    """Ids of odd texts. Outside a graph, which takes longer to make than to run."""
    fields = {"text": keras.ops.convert_to_tensor(tiny.ODD_TEXTS)}
    return {n: np.asarray(v) for n, v in _rig.TASK.encode(tokenizer, fields).items()}


def _stored(tokenizer: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, folder)
        return load_tokenizer(folder)


def _heads(case: Case) -> None:
    adapted = adapt(case.backbone)
    x = case.features
    if case.crossed:
        with refused("an encoder-decoder, which writes texts", "a head on an encoder-decoder"):
            _rig.TASK.build(adapted)
        return
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in x}
    features = adapted(inputs)
    out = _rig.answers(case.backbone, x)
    for pooling in (None, "cls", "last", "mean", "max"):
        head = ClassificationHead(3, pooling)
        if pooling == "cls" and case.family.kind == "decoder":
            with refused("Use last, mean or max", "`cls` on a decoder"):
                head.build(case.family, features, inputs)
            continue
        model = keras.Model(inputs, head.build(case.family, features, inputs))
        random = np.random.default_rng(0)
        for layer in model.layers:
            if layer is not adapted:
                shapes = [w.shape for w in layer.get_weights()]
                layer.set_weights([0.3 * random.standard_normal(s) for s in shapes])
        expected = _logits(case, head, model, out, x)
        close(_rig.answers(model, x), {"output": expected}, 1e-5, f"pooling {pooling}: the")


def _logits(case: Case, head: Any, model: Any, out: Any, x: dict[str, np.ndarray]) -> np.ndarray:
    """What a head has to answer, in NumPy."""
    style, own = case.family.head, head.is_own(case.family)
    pooling = head.resolved_pooling(case.family)
    vectors = _pooled(_sequence(out), x, pooling)
    if own and style.pooler:
        vectors = out["pooled_output"]
    if own and style.hidden:
        kernel, bias = model.get_layer("head_dense").get_weights()
        vectors = _ACTIVATIONS[style.hidden](vectors @ kernel + bias)
    kernel, *bias = model.get_layer("logits").get_weights()
    equal(len(bias), int(style.bias or not own), "biases of the logits")
    return vectors @ kernel + (bias[0] if bias else 0.0)


def _pooled(sequence: np.ndarray, x: dict[str, np.ndarray], pooling: str) -> np.ndarray:
    mask = x.get("padding_mask", np.ones(sequence.shape[:2], np.int32)).astype(bool)
    real = [row[keep] for row, keep in zip(sequence, mask, strict=True)]
    pick = {
        "cls": lambda row: row[0],
        "last": lambda row: row[-1],
        "mean": lambda row: row.mean(0),
        "max": lambda row: row.max(0),
    }
    return np.stack([pick[pooling](row) for row in real])


FAMILY_PARTS: dict[str, Callable[[Case], str | None]] = {
    "sites": _sites,
    "padding": _padding,
    "direction": _direction,
    "description": _description,
    "tokenizer": _tokenizer,
    "heads": _heads,
}
