"""Where the projections of a backbone lie in the model that Transformers has for it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.backbones.huggingface.config import config_of
from kerasft.backbones.huggingface.layouts import layout_of
from kerasft.backbones.huggingface.ports import ports_of
from kerasft.backbones.sites import sites


@dataclass(frozen=True)
class Place:
    """Where the kernel of one projection lies in a Hugging Face weight.

    Args:
        module: the name of the module that holds the weight, below the model's prefix:
            `encoder.layer.0.attention.self.query`; GPT-2's `h.0.attn.c_attn` holds three.
        inputs, outputs: sizes of that module.
        rows, columns: int, in the kernel's shape: the input and the output of the module that each
            entry of the kernel belongs to.
    """

    module: str
    inputs: int
    outputs: int
    rows: np.ndarray
    columns: np.ndarray


def places_of(backbone: Any) -> tuple[str, dict[str, Place]]:
    """The places of a plain backbone's projections.

    Args:
        backbone: a KerasHub backbone without a method's layers.

    Returns:
        (prefix, site path -> place): the prefix stands before the modules' names in a model with
        a head, `bert.`.

    Raises:
        InputError: if Transformers or the converters cannot represent the family.
    """
    layout = layout_of(backbone)
    ports = {id(p.variable): p for p in ports_of(layout, backbone, config_of(layout, backbone))}
    found = {}
    for site in sites(backbone).projections():
        port = ports[id(site.layer.kernel)]
        entries = np.arange(np.prod(port.shape), dtype="int64").reshape(port.shape)
        entries = port.apply(entries) if port.hook else entries
        # A Linear is [outputs, inputs], GPT-2's Conv1D [inputs, outputs].
        turned = layout.model_type == "gpt2"
        inputs, outputs = port.shape if turned else port.shape[::-1]
        rows, columns = (entries // outputs, entries % outputs)
        if not turned:
            rows, columns = entries % inputs, entries // inputs
        module = port.key.removesuffix(".weight")
        found[site.path] = Place(module, inputs, outputs, rows, columns)
    return layout.prefix, found
