"""Every method on every family holds its contract."""

from dataclasses import dataclass
from typing import Any

import pytest

from kerasft._core.weights import named
from kerasft.backbones import FAMILIES, sites
from kerasft.methods import Freeze, Full, LoRA, registry
from kerasft.testing import check_method
from kerasft.testing.contracts import METHOD_PARTS, REFUSALS

# One family for each kind of block; the others repeat one of these with other sizes.
KINDS = ("bert", "albert", "deberta_v3", "f_net", "gpt2", "qwen3", "gemma")
ALL = tuple(METHOD_PARTS)
NO_REPLICAS = tuple(part for part in ALL if part != "replicas")
CHOSEN = ("config", "identity", "trainable")
TRAINED = (*CHOSEN, "training")
MERGED = (*TRAINED, "merge")
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


def updates(*roles: str) -> Any:
    """The two matrices of each update."""

    def expected(backbone: Any) -> set[str]:
        blocks = range(len(sites(backbone).blocks))
        names = [f"blocks_{i}_{role}_lora" for i in blocks for role in roles]
        return {f"{name}/{matrix}" for name in names for matrix in ("lora_a", "lora_b")}

    return expected


@dataclass(frozen=True)
class Member:
    """A method, the weights that it trains, and the parts of its contract that always run.

    Args:
        method: the method.
        trained: adapted backbone -> the paths of the weights that are to be trained.
        parts: what runs on the families of `KINDS`.
        other_parts: what runs on the other families; nothing when empty.
        whole: families on which every part runs; `replicas` on the first of them only.
    """

    method: Any
    trained: Any
    parts: tuple[str, ...]
    other_parts: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()

    def parts_on(self, family: str) -> tuple[str, ...]:
        """The parts that run on a family without `-m slow`."""
        if family in self.whole:
            return ALL if family == self.whole[0] else NO_REPLICAS
        return self.parts if family in KINDS else self.other_parts


EVERY = tuple(family.name for family in FAMILIES)
MEMBERS = (
    Member(Full(), all_weights, TRAINED, TRAINED, whole=("bert",)),
    Member(Freeze(), nothing, TRAINED, CHOSEN, whole=("bert",)),
    Member(LoRA(), updates("query", "value"), MERGED, MERGED, whole=("bert", "gemma")),
    Member(Freeze(train_top_blocks=1), second_block_and_above, CHOSEN),
    Member(Freeze(freeze_first_blocks=1), second_block_and_above, CHOSEN),
    Member(Freeze(blocks=(0,)), all_but_first_block, CHOSEN),
    Member(LoRA(rank=3, alpha=2.0, targets=("up", "down")), updates("up", "down"), MERGED),
    Member(
        LoRA(rank=2, targets=(*PROJECTIONS, "gate", "up", "down")),
        updates(*PROJECTIONS, "gate", "up", "down"),
        MERGED,
    ),
)


def label(member: Member) -> str:
    options = registry.config(member.method)
    default = registry.config(type(member.method)())
    changed = [f"{k}={v}" for k, v in options.items() if v != default[k]]
    return " ".join([member.method.name, *changed]).replace(" ", "_")


PAIRS = [
    pytest.param(member, family, member.parts_on(family), id=f"{label(member)}-{family}")
    for member in MEMBERS
    for family in EVERY
    if member.parts_on(family)
]


@pytest.mark.contract("methods x families", of=len(PAIRS))
@pytest.mark.parametrize(("member", "family", "parts"), PAIRS)
def test_contract(member, family, parts):
    results = check_method(member.method, family, trainable=member.trained, parts=parts)
    refused = {refusal.reason for refusal in REFUSALS} & set(results.values())
    if not refused:
        assert set(results) == set(parts)
        lacking = {"the method has no `merge`", "the method has no `state`"}
        assert set(results.values()) - lacking == {"passed"}


@pytest.mark.slow
@pytest.mark.contract("methods x families, all parts", of=len(MEMBERS) * len(FAMILIES))
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("member", MEMBERS, ids=label)
def test_whole_contract(member, family):
    check_method(member.method, family, trainable=member.trained)


def test_every_method_meets_every_family():
    """A new method is found by the registry; here it only has to say which weights it trains."""
    met = {(type(param.values[0].method).name, param.values[1]) for param in PAIRS}
    registered = {(name, family) for name in registry.names() for family in EVERY}
    assert registered <= met | {(name, f) for name in unlisted() for f in EVERY}


def unlisted() -> list[str]:
    return sorted(set(registry.names()) - {member.method.name for member in MEMBERS})


NEW = [(name, family) for name in unlisted() for family in EVERY]


@pytest.mark.contract("new methods x families", of=len(NEW))
@pytest.mark.parametrize(("name", "family"), NEW)
def test_contract_of_a_method_without_an_edit(name, family):
    parts = NO_REPLICAS if family != "bert" else ALL
    check_method(registry.get(name)(), family, parts=parts)
