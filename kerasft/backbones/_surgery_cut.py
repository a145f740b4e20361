"""The private names that cutting a backbone asks for: where in its graph the blocks end."""

from typing import Any

from kerasft.backbones._surgery import blocks_of


def states_after(backbone: Any, count: int) -> Any:
    """The hidden states behind so many blocks, as the graph has them; of blocks that run more than
    once (ALBERT), behind the last time."""
    block = blocks_of(backbone)[count - 1]
    depths = sorted(backbone._nodes_by_depth)
    nodes = [n for depth in depths for n in backbone._nodes_by_depth[depth] if n.operation is block]
    return nodes[0].outputs[0]


def called_with(layer: Any) -> dict[str, Any]:
    """The options with which a layer of a functional model is called, without what is None."""
    given = layer._inbound_nodes[0].arguments.kwargs
    return {name: value for name, value in given.items() if value is not None}
