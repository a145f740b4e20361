"""What the signature `generate` is asked when a model is exported, and what Python answers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kerasft.export.signatures import functions_of

NAME = "generate"
_TOKENS = 8  # new tokens: each costs a run of the model
# Greedily, and drawn: a row's random numbers follow from its seed and step alone, so that the
# texts of a seed are those of Python in any runtime.
_OPTIONS = (
    {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 7},
)
_PROMPT = "free prize!!! click here"


def written(pipe: Any, adapters: Any = None) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """A text of each way to write one, greedily and drawn by a seed, run step by step in Python.

    Args:
        pipe: the pipeline.
        adapters: several adapters on its base (`kerasft.AdapterSet`), which take turns.

    Yields:
        Inputs and outputs of `generate`, [1, ...] each by name; nothing where the task writes no
        text.
    """
    import tensorflow as tf

    found = functions_of(pipe).get(NAME)
    if found is None:
        return
    function, specs = adapters.by_adapter(*found) if adapters else found
    for number, options in enumerate(_OPTIONS):
        given = {pipe.task.inputs[0]: _PROMPT, "max_new_tokens": _TOKENS} | options
        if adapters:
            given["adapter"] = adapters.names[number % len(adapters.names)]
        inputs = {spec.name: tf.constant([given[spec.name]], spec.dtype) for spec in specs}
        outputs = function(*inputs.values())
        yield _arrays(inputs), _arrays(outputs)


def _arrays(values: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in values.items()}
