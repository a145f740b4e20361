"""kerasft: fine-tune KerasHub's BERT- and GPT-type backbones on your own labelled text.

TensorFlow is loaded on first use, so that `import kerasft` and `kerasft --help` are quick.
"""

import importlib
from typing import Any

from kerasft._version import __version__

_ROOMS = (
    "backbones",
    "data",
    "evaluation",
    "export",
    "generation",
    "heads",
    "methods",
    "metrics",
    "objectives",
    "optimizers",
    "preprocessing",
    "serving",
    "tasks",
    "testing",
    "training",
)
_NAMES = {
    "AdapterSet": "kerasft.pipeline.adapter_set",
    "InputError": "kerasft._core.errors",
    "Pipeline": "kerasft.pipeline",
    "Recipe": "kerasft.training.recipe",
    "build": "kerasft.training.build",
    "doctor": "kerasft.training.doctor",
    "from_peft": "kerasft.pipeline.peft",
    "load": "kerasft.training.build",
    "quickstart": "kerasft.training.quickstart",
    "retrain": "kerasft.training.retrain",
    "save_peft": "kerasft.pipeline.peft",
    "save_preset": "kerasft.pipeline.preset",
    "train": "kerasft.training.train",
    "without_first_blocks": "kerasft.pipeline.dropped",
    "zero_shot": "kerasft.training.build",
}

__all__ = ["__version__", *_ROOMS, *_NAMES]


def __getattr__(name: str) -> Any:
    """Load a room or a name when it is first asked for."""
    if name in _ROOMS:
        return importlib.import_module(f"kerasft.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'kerasft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
