"""AdapterDrop after training: a pipeline without the adapters of its first blocks."""

from kerasft._core import weights
from kerasft._core.errors import InputError
from kerasft.backbones import build_backbone
from kerasft.methods import adapt, registry
from kerasft.pipeline.pipeline import Pipeline


def without_first_blocks(pipe: Pipeline, count: int) -> Pipeline:
    """A copy of a pipeline whose first blocks have no adapters, and run faster for it.

    It answers as the pipeline would if what these adapters add were 0, which costs little where
    they were left out at random in training (`drop_random_blocks`). It is saved and exported as any
    other.

    Args:
        pipe: a pipeline whose method is `adapters`.
        count: how many of the blocks, from the first one on.

    Raises:
        InputError: for another method, or if no adapter is left or there are fewer already.

    Example:
        >>> without_first_blocks(kf.load("runs/spam"), 4).export("saved_models/spam")

    Reference: Rücklé et al. 2020, "AdapterDrop", https://arxiv.org/abs/2010.11918
    """
    method = registry.build(pipe.adapted.method_config)
    if not hasattr(method, "without_first_blocks"):
        raise InputError(
            "Blocks go without their adapters where the method is `adapters`. Received: "
            f"method={method.name!r}."
        )
    plain = build_backbone(pipe.adapted.description)
    copy = pipe.task.build(adapt(plain, method.without_first_blocks(count)))
    held = weights.state_of(pipe.model)
    own = {path: held[path] for path in weights.named(copy.weights)}
    weights.assign(copy, own, "the pipeline")
    return Pipeline(copy, pipe.tokenizer, pipe.task, pipe.info)
