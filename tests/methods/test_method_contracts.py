"""Every method on every family holds its contract."""

from dataclasses import dataclass
from typing import Any

import pytest

from kerasft._core.weights import named
from kerasft.backbones import FAMILIES, sites
from kerasft.backbones._surgery import around
from kerasft.methods import (
    IA3,
    AdaLoRA,
    Adapters,
    BitFit,
    Chain,
    Compacter,
    Freeze,
    Full,
    GradualUnfreezing,
    HeadOnly,
    LayerNorm,
    LoRA,
    PrefixTuning,
    PromptTuning,
    PTuning,
    QLoRA,
    VeRA,
    carried,
    registry,
)
from kerasft.methods._trainable import is_held
from kerasft.testing import check_method
from kerasft.testing._methods import _NO_ADAPTER, _NO_MERGE, _UNMERGEABLE
from kerasft.testing.contracts import METHOD_PARTS, REFUSALS

# One family for each kind of block; the others repeat one of these with other sizes.
KINDS = ("bert", "albert", "deberta_v3", "f_net", "gpt2", "qwen3", "gemma")
# The contract trains a classifier; methods on encoder-decoders are in test_encoder_decoders.py.
EVERY = tuple(family.name for family in FAMILIES if family.kind != "encoder-decoder")
# A few steps take a moment, the graph of them many seconds: it is made for all in the slow tier.
ALL = tuple(name for name in METHOD_PARTS if name != "replicas in a graph")
# Held in a graph on BERT: the simplest, and what does something of its own at every step.
IN_GRAPH = (LoRA(), GradualUnfreezing(), AdaLoRA(rank=5, initial_rank=6), PromptTuning(5))
CHOSEN = ("config", "identity", "trainable")
TRAINED = (*CHOSEN, "training")
MERGED = (*CHOSEN, "merge")
STORED = (*TRAINED, "keras file", "folder", "bfloat16")
ADAPTER = (*TRAINED, "adapter", "merge")
PROJECTIONS = ("query", "key", "value", "output")


def random_state(variable: Any) -> bool:
    return variable.path.endswith("seed_generator_state")


def below(layers: list[Any]) -> set[str]:
    return {v.path for layer in layers for v in layer.variables if not random_state(v)}


def all_weights(backbone: Any) -> set[str]:
    return set(named(backbone.weights))


def nothing(backbone: Any) -> set[str]:
    return set()


def second_block_and_above(backbone: Any) -> set[str]:
    """Of a backbone with two blocks: the second one, and what comes after it."""
    blocks = [block.layer for block in sites(backbone).blocks]
    order = list(backbone.layers)
    return below([blocks[1], *order[order.index(blocks[1]) + 1 :]])


def all_but_first_block(backbone: Any) -> set[str]:
    return all_weights(backbone) - below([sites(backbone).blocks[0].layer])


def biases(backbone: Any) -> set[str]:
    return {p for p in all_weights(backbone) if p.rsplit("/", 1)[-1] in ("bias", "beta")}


def norms(backbone: Any) -> set[str]:
    """Gains and shifts: no other weight of a backbone is called so."""
    names = ("gamma", "beta", "scale")
    return {p for p in all_weights(backbone) if p.rsplit("/", 1)[-1] in names}


def added(backbone: Any) -> set[str]:
    """What stands beside the backbone's own weights."""
    layers = [layer for site in carried(backbone) for layer in around(site.layer)]
    return {v.path for layer in layers for v in layer.own if not is_held(v)}


def chained(backbone: Any) -> set[str]:
    """Low-rank updates in the second block, biases in the first."""
    blocks = [block.layer for block in sites(backbone).blocks]
    first = {p for p in below([blocks[0]]) if p.rsplit("/", 1)[-1] in ("bias", "beta")}
    return first | {p for p in added(backbone) if p.startswith("blocks_1_")}


def updates(backbone: Any, method: Any) -> set[str]:
    """The two matrices of each update."""
    names = [
        f"blocks_{block.index}_{role}_lora"
        for block in sites(backbone).blocks
        for role in method.targets or block.projections
    ]
    return {f"{name}/{matrix}" for name in names for matrix in ("lora_a", "lora_b")}


@dataclass(frozen=True)
class Member:
    """A method, the weights that it trains, and the parts of its contract that always run.

    Args:
        method: the method.
        trained: adapted backbone -> the paths of the weights that are to be trained; None where
            the method's options say it (LoRA), or where it is a new method.
        parts: what runs, by family; `KINDS` stands for those families, "" for the others.
        identity: whether a fresh method leaves the outputs as they were.
    """

    method: Any
    trained: Any
    parts: dict[str, tuple[str, ...]]
    identity: bool = True

    def parts_on(self, family: str) -> tuple[str, ...]:
        """The parts that run on a family without `-m slow`."""
        kind = "KINDS" if family in KINDS and "KINDS" in self.parts else ""
        return self.parts.get(family, self.parts.get(kind, ()))


def lora(*targets: str, **options: Any) -> LoRA:
    return LoRA(targets=targets, **options)


WIDE = lora(*PROJECTIONS, "up", "down", rank=3, alpha=2.0)
GATED = lora(*PROJECTIONS, "gate", "up", "down", rank=2)
FEED = lora("up", "down", rank=2)
PISSA = lora("query", "up", rank=3, start="pissa", scaling="rslora", ranks={"blocks.1.up": 2})
DORA = lora("query", "output", "down", rank=3, dora=True)
FEW = {"bert": CHOSEN, "gpt2": CHOSEN, "albert": CHOSEN}
MEMBERS = (
    Member(Full(), all_weights, {"": TRAINED, "bert": ALL}),
    Member(Freeze(), nothing, {"": CHOSEN, "bert": TRAINED, "gpt2": STORED}),
    Member(LoRA(), None, {"": MERGED, "KINDS": (*TRAINED, "merge"), "bert": tuple(METHOD_PARTS)}),
    Member(GradualUnfreezing(), all_weights, {"bert": ALL, "gpt2": CHOSEN, "albert": CHOSEN}),
    Member(LoRA(plus=16.0), None, {"bert": CHOSEN}),
    Member(HeadOnly(), nothing, {"": ("config", "identity"), "bert": (*CHOSEN, "adapter")}),
    Member(BitFit(), biases, {"bert": ALL, "gpt2": STORED, "llama": CHOSEN}),
    Member(LayerNorm(), norms, {"": CHOSEN, "bert": ALL, "llama": STORED}),
    Member(Chain((LoRA(blocks=(1,)), BitFit(blocks=(0,)))), chained, {"bert": ALL, "gpt2": STORED}),
    # Of 24 triples 4 go, fewer than the 6 of a projection: each has a number that moves.
    Member(AdaLoRA(rank=5, initial_rank=6), added, {"bert": ALL, "gemma": MERGED, "f_net": CHOSEN}),
    Member(
        AdaLoRA(rank=5, initial_rank=6, targets=("query", "up")),
        added,
        {"gpt2": (*STORED, "adapter", "merge"), "albert": MERGED},
    ),
    Member(IA3(), added, {"bert": ALL, "llama": ADAPTER, "f_net": CHOSEN}),
    Member(VeRA(), added, {"bert": ALL, "gemma": ADAPTER, "f_net": CHOSEN}),
    Member(Adapters(), added, {"bert": ALL, "gpt2": STORED, "f_net": CHOSEN}),
    Member(
        Adapters("parallel", size=4),
        added,
        {"albert": STORED, "qwen3": (*TRAINED, "adapter"), "f_net": TRAINED},
    ),
    Member(
        Adapters("pfeiffer", drop_first_blocks=1), added, {"deberta_v3": TRAINED, "albert": CHOSEN}
    ),
    # Not trained: in two steps from the start an adapter moves only where neither leaves it out.
    Member(
        Adapters("pfeiffer", drop_random_blocks=1),
        added,
        {"bert": (*CHOSEN, "keras file", "folder", "adapter", "merged copy"), "albert": CHOSEN},
    ),
    Member(Compacter(size=8), added, {"bert": ALL, "gpt2": STORED, "f_net": CHOSEN}),
    Member(Compacter("pfeiffer", size=8), added, {"gemma": (*TRAINED, "adapter")}),
    Member(
        PromptTuning(virtual_tokens=5),
        added,
        {"bert": ALL, "llama": STORED, "gpt2": ADAPTER},
        identity=False,
    ),
    Member(PTuning(virtual_tokens=5), added, {"bert": ALL, "gpt2": ADAPTER}, identity=False),
    Member(
        PTuning(virtual_tokens=5, hidden=6, encoder="lstm"),
        added,
        {"bert": TRAINED, "gpt2": ADAPTER},
        identity=False,
    ),
    Member(
        PrefixTuning(virtual_tokens=4),
        added,
        {"bert": ALL, "gemma": STORED, "gpt2": ADAPTER, "f_net": CHOSEN, "deberta_v3": CHOSEN},
        identity=False,
    ),
    Member(PrefixTuning(projection=7), added, {"llama": (*STORED, "adapter")}, identity=False),
    Member(Freeze(train_top_blocks=1), second_block_and_above, FEW),
    Member(Freeze(freeze_first_blocks=1), second_block_and_above, FEW),
    Member(Freeze(blocks=(0,)), all_but_first_block, FEW),
    Member(WIDE, None, dict.fromkeys(("bert", "albert", "deberta_v3", "gpt2"), MERGED)),
    Member(FEED, None, {"f_net": (*TRAINED, "merge")}),
    Member(QLoRA(bits=4, rank=3), added, {"bert": ALL}, identity=False),
    Member(
        QLoRA(bits=8, rank=3, targets=("query", "up")),
        added,
        {"gemma": (*TRAINED, "merge", "adapter")},
        identity=False,
    ),
    Member(
        PISSA, added, {"bert": (*ADAPTER, "keras file"), "gpt2": (*TRAINED, "merge", "adapter")}
    ),
    Member(
        DORA,
        added,
        {
            "bert": (*ADAPTER, "keras file"),
            "gemma": (*TRAINED, "merge", "adapter"),
            "albert": MERGED,
        },
    ),
    Member(GATED, None, {"bert": CHOSEN, "qwen3": MERGED, "gemma": (*STORED, "adapter", "merge")}),
)


def label(member: Member) -> str:
    options = registry.config(member.method)
    if isinstance(member.method, Chain):
        return f"chain of {' and '.join(m.name for m in member.method.methods)}".replace(" ", "_")
    default = registry.config(type(member.method)())
    changed = [f"{k}={v}" for k, v in options.items() if v != default[k]]
    return " ".join([member.method.name, *changed]).replace(" ", "_")


# A method in a new file is found here too, and held to every part that needs no word from it.
NEW = sorted(set(registry.names()) - {member.method.name for member in MEMBERS})
MEMBERS += tuple(Member(registry.get(name)(), None, {"": CHOSEN, "bert": ALL}) for name in NEW)
PAIRS = [
    pytest.param(
        member,
        family,
        member.parts_on(family),
        id=f"{label(member)}-{family}",
        marks=[pytest.mark.graph] * (family == "bert" and member.method in IN_GRAPH),
    )
    for member in MEMBERS
    for family in EVERY
    if member.parts_on(family)
]
LACKING = {_NO_MERGE, _NO_ADAPTER, _UNMERGEABLE}
MERGEABLE = (LoRA, AdaLoRA, QLoRA, IA3, VeRA)
ALL_OR_NOTHING = (Full, HeadOnly, Freeze, GradualUnfreezing)


def trained_by(member: Member) -> Any:
    if isinstance(member.method, LoRA) and member.trained is None:
        return lambda backbone: updates(backbone, member.method)
    return member.trained


@pytest.mark.contract("methods x families", of=len(PAIRS))
@pytest.mark.parametrize(("member", "family", "parts"), PAIRS)
def test_contract(member, family, parts):
    results = check_method(
        member.method,
        family,
        trainable=trained_by(member),
        identity=member.identity,
        parts=parts,
    )
    if set(results) == {"refusal"}:
        assert results["refusal"] in {refusal.reason for refusal in REFUSALS}
    else:
        assert set(results) == set(parts)
        assert set(results.values()) - LACKING <= {"passed"}
        if isinstance(member.method, MERGEABLE):
            assert {results.get("merge", "passed"), results.get("merged copy", "passed")} == {
                "passed"
            }
        if not isinstance(member.method, ALL_OR_NOTHING):
            assert results.get("adapter", "passed") == "passed"


@pytest.mark.slow
@pytest.mark.contract("methods x families, all parts", of=len(MEMBERS) * len(EVERY))
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("member", MEMBERS, ids=label)
def test_whole_contract(member, family):
    check_method(member.method, family, trainable=trained_by(member), identity=member.identity)


def test_every_method_is_held_to_its_contract():
    assert {member.method.name for member in MEMBERS} == set(registry.names())
    assert {p.values[0].method.name for p in PAIRS} == set(registry.names())
