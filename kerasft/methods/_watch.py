"""What a method does at every step of a training, beside what its layers do."""

from dataclasses import dataclass
from typing import Any


def watch_of(method: Any, backbone: Any, steps: int) -> Any:
    """What a method has done at every step of a training, or None.

    A method says it in `watch(backbone, steps)`, of a backbone to which it has been applied; the
    object that it gives has

        penalty()     a number in the graph, added once to the loss of the global batch
        after(pairs)  run when the weights have moved: gradient and variable of each of them, the
                      gradients summed over the replicas, without the scale of the loss, unclipped

    What it has to remember from step to step lies in weights of its layers that are marked by
    `record`, so that a checkpoint holds them.

    Args:
        method: the method.
        backbone: a backbone to which it has been applied.
        steps: updates in the whole training.

    Example:
        >>> watch_of(AdaLoRA(), backbone, steps=100).penalty()
    """
    return method.watch(backbone, steps) if hasattr(method, "watch") else None


@dataclass(frozen=True)
class Watches:
    """The watches of several methods as one.

    Args:
        members: the watches.
    """

    members: tuple[Any, ...]

    def penalty(self) -> Any:
        """The sum of theirs."""
        return sum(member.penalty() for member in self.members)

    def after(self, pairs: list[tuple[Any, Any]]) -> None:
        """Each of theirs, in their order."""
        for member in self.members:
            member.after(pairs)
