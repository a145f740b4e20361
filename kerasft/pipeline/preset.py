"""A pipeline's backbone and tokenizer as a preset that KerasHub alone loads."""

import os
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.backbones import describe_backbone
from kerasft.methods import carried


def save_preset(pipe: Any, folder: str | os.PathLike) -> str:
    """Write the backbone, its adapter merged, and the tokenizer as a KerasHub preset.

    The head is no part of it. The outputs of the backbone that KerasHub loads are those of the
    pipeline's, within 1e-5 of the largest where an adapter was merged.

    Args:
        pipe: a pipeline.
        folder: a new folder.

    Returns:
        The folder.

    Raises:
        InputError: if the folder exists, the method cannot be merged, or the backbone has what
            KerasHub's configuration has no place for (another activation or epsilon than its
            class), so that it would be lost without a word.

    Example:
        >>> save_preset(pipe, "merged")
        >>> keras_hub.models.Backbone.from_preset("merged")
    """
    plain = pipe.merged() if carried(pipe.backbone) else pipe
    backbone = plain.backbone
    own = describe_backbone(backbone)["fixes"]
    bare = describe_backbone(type(backbone).from_config(backbone.get_config()))["fixes"]
    lost = {name: value for name, value in own.items() if bare.get(name) != value}
    if lost:
        kept = {name: bare.get(name) for name in lost}
        raise InputError(
            f"A preset of {type(backbone).__name__} keeps {kept}, and this backbone has {lost}: "
            "KerasHub would load it and answer otherwise. Write it with `save_hf`, or with `save`, "
            "whose folder is a preset for kerasft."
        )
    with files.new_folder(folder) as local:
        backbone.save_to_preset(str(local))
        plain.tokenizer.save_to_preset(str(local))
    return os.fspath(folder)
