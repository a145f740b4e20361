"""Which weights a method lets learn at a rate of their own."""

from typing import Any

from kerasft.optimizers import Pace


def paces_of(method: Any, backbone: Any) -> dict[str, Pace]:
    """What a method says of the weights that it trains, by path (see `_core.weights.named`).

    A method says it in `paces(backbone)`, of a backbone to which it has been applied; one that
    has no such function trains all of them at the rate of the run, as does one that leaves a
    weight out.

    Args:
        method: the method.
        backbone: a backbone to which it has been applied.

    Example:
        >>> paces_of(LoRA(plus=16.0), backbone)["blocks_0_query_lora/lora_b"]
        Pace(multiplier=16.0, from_epoch=0)
    """
    return method.paces(backbone) if hasattr(method, "paces") else {}
