"""Names for the places in a backbone: blocks, projections, norms, embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kerasft._core.checks import nearest, one_of
from kerasft._core.errors import InputError
from kerasft._core.weights import named
from kerasft.backbones import _surgery, _surgery_soft
from kerasft.backbones.families import Family, family_of

_ATTENTION = ("query", "key", "value", "output")
# `cross_` is the attention of an encoder-decoder's decoder to what its encoder has read.
ROLES = (*_ATTENTION, *(f"cross_{role}" for role in _ATTENTION), "gate", "up", "down")


@dataclass(frozen=True)
class Site:
    """One place of a backbone where a layer may be put around the one that is there.

    Args:
        path: its name, e.g. `blocks.0.query`, `blocks.0.attention` or `embedding`.
        block: the number of the block, -1 outside the blocks.
        role: the last part of the name.
        owner, attribute: where the layer is kept.
        known_as: other places, (owner, attribute), that keep the same layer.
    """

    path: str
    block: int
    role: str
    owner: Any
    attribute: str
    known_as: tuple[tuple[Any, str], ...] = ()

    @property
    def layer(self) -> Any:
        """The layer that sits there now."""
        return getattr(self.owner, self.attribute)

    def put(self, layer: Any) -> Any:
        """Put another layer there and return the old one."""
        for owner, attribute in self.known_as:
            _surgery.replace(owner, attribute, layer)
        return _surgery.replace(self.owner, self.attribute, layer)


@dataclass(frozen=True)
class Block:
    """One transformer block: its layer, projections by role, norms, and its self-attention, where
    that is a layer that takes a prefix."""

    index: int
    layer: Any
    projections: dict[str, Site]
    norms: tuple[Any, ...]
    attention: Site | None = None


@dataclass(frozen=True)
class Sites:
    """The places of a backbone and what its family can do.

    `outer_norms` lie in no block; `embedding` is where the token embedding stands.
    """

    family: Family
    blocks: tuple[Block, ...]
    embedding: Site
    outer_norms: tuple[Any, ...] = ()

    def every(self) -> Iterator[Site]:
        """All places: the embedding, then attentions and projections block by block."""
        yield self.embedding
        for block in self.blocks:
            yield from (block.attention,) if block.attention else ()
            yield from block.projections.values()

    def projections(self) -> list[Site]:
        """All projections, block by block."""
        return [site for block in self.blocks for site in block.projections.values()]

    def targets(self, roles: tuple[str, ...], blocks: tuple[str | int, ...] = ()) -> list[Site]:
        """The projections of the given roles, block by block.

        Args:
            roles: of `ROLES`; all that there are where empty.
            blocks: numbers or names of blocks (see `chosen`); all where empty.

        Raises:
            InputError: for a role that no block has, with those that are there.
        """
        known = [r for r in ROLES if any(r in block.projections for block in self.blocks)]
        for role in roles:
            if role not in known:
                one_of("targets", role, known)
        within = self.chosen(blocks)
        return [b.projections[r] for b in within for r in roles or known if r in b.projections]

    def chosen(self, blocks: tuple[str | int, ...]) -> tuple[Block, ...]:
        """Blocks by number from 0 (from -1 downwards: from the last), or by name; all where empty.

        Raises:
            InputError: for a block that is not there, or where blocks share their weights.
        """
        if not blocks:
            return self.blocks
        self.need_separate_blocks("A choice of blocks")
        count = len(self.blocks)
        found = {b.layer.name: b for b in self.blocks} | {b.index: b for b in self.blocks}
        found |= {index - count: block for index, block in enumerate(self.blocks)}
        for name in blocks:
            if name not in found or isinstance(name, bool):
                names = [b.layer.name for b in self.blocks]
                raise InputError(
                    f"This {self.family.backbone} has {count} blocks, {names[0]} to {names[-1]} "
                    f"(or 0 to {count - 1}). Received: blocks={name!r}." + nearest(str(name), names)
                )
        wanted = {found[name].index for name in blocks}
        return tuple(block for block in self.blocks if block.index in wanted)

    def need_separate_blocks(
        self, what: str, instead: str = "Leave the choice of blocks out, or use `full`."
    ) -> None:
        """Raise `InputError` where one block is run many times and cannot be treated by number."""
        if self.family.shares_blocks:
            raise InputError(
                f"{what} needs blocks with weights of their own, but {self.family.backbone} runs "
                f"one block many times. {instead}"
            )


def sites(backbone: Any) -> Sites:
    """Name the blocks, projections and norms of a KerasHub backbone.

    Args:
        backbone: a KerasHub backbone of a family in `families.FAMILIES`.

    Returns:
        `Sites`; `sites(b).blocks[0].projections["query"].layer` is the first query projection.

    Raises:
        InputError: if kerasft does not know the backbone.
    """
    blocks = []
    for index, layer in enumerate(_surgery.blocks_of(backbone)):
        roles, norms = _surgery.LAYOUTS[type(layer).__name__]
        found = {}
        for role, path in roles.items():
            owner, name = _surgery.resolve(layer, path)
            if hasattr(owner, name):
                found[role] = Site(f"blocks.{index}.{role}", index, role, owner, name)
        owners = (_surgery.resolve(layer, path) for path in norms)
        present = tuple(getattr(o, n) for o, n in owners if hasattr(o, n))
        attention = None
        if path := _surgery_soft.ATTENTIONS.get(type(layer).__name__):
            attention = Site(f"blocks.{index}.attention", index, "attention", layer, path)
        blocks.append(Block(index, layer, found, present, attention))
    (owner, name), *others = _surgery_soft.embedding_of(backbone)
    embedding = Site("embedding", -1, "embedding", owner, name, tuple(others))
    outer = _surgery.norms_outside(backbone)
    return Sites(family_of(backbone), tuple(blocks), embedding, outer)


def depths(backbone: Any) -> dict[str, int]:
    """How far each weight of a backbone lies below the head, by its path.

        0 above the blocks (last norm, pooler, a table of the outputs alone),
        1 the last block, ..., n the first of n,
        n + 1 what lies below the blocks (embeddings, and a table that is the outputs' too)

    The stacks of an encoder-decoder are counted side by side, each from its own top, as Raffel et
    al. unfreeze them; n is the length of the longer one.

    Args:
        backbone: a KerasHub backbone; what methods have put into a block belongs to it. The paths
            are those of `kerasft._core.weights.named`.

    Raises:
        InputError: where blocks share their weights (ALBERT).

    Example:
        >>> depths(backbone)["transformer_layer_0/self_attention_layer/query/kernel"]
        12

    Reference: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", section 3.5.1, https://arxiv.org/abs/1910.10683
    """
    sites(backbone).need_separate_blocks(
        "A rate for each block", "Leave training.layer_decay out, or use `full`."
    )
    stacks = _surgery.stacks_of(backbone)
    lowest = max(len(stack) for stack in stacks) + 1
    found = {id(v): 0 for layer in _surgery.layers_above(backbone) for v in layer.variables}
    for stack in stacks:
        for depth, layer in enumerate(reversed(stack), 1):
            found |= {id(v): depth for v in layer.variables}
    # Llama's and Mistral's embedding holds the logits' own table beside that of the inputs.
    found |= {id(v): 0 for v in backbone.weights if v.name == "reverse_embeddings"}
    return {path: found.get(id(v), lowest) for path, v in named(backbone.weights).items()}
