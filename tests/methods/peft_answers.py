"""What PEFT's methods answer on the tiny BERT and Llama (tests/golden/methods)."""

from pathlib import Path

import numpy as np

from kerasft.backbones.huggingface import load_folder
from kerasft.methods import set_adapter_weights

GOLDEN = Path(__file__).parents[1] / "golden"
# Transformers' names of a backbone's inputs -> KerasHub's.
_INPUTS = {
    "input_ids": "token_ids",
    "attention_mask": "padding_mask",
    "token_type_ids": "segment_ids",
}


def adapted(method, family):
    """A golden backbone with a method and PEFT's weights in it, and PEFT's file."""
    expected = np.load(GOLDEN / "methods" / f"{method.name}_{family}.npz")
    backbone, _ = load_folder(str(GOLDEN / family), dtype="float32", dropout=0.0)
    method.apply(backbone)
    names = {n: n.removeprefix("weight:") for n in expected.files if n.startswith("weight:")}
    set_adapter_weights(backbone, {ours: expected[n] for n, ours in names.items()}, "PEFT")
    return backbone, expected


def distance(backbone, expected):
    """Largest difference to PEFT's last hidden state, at real tokens."""
    x = {ours: expected[name] for name, ours in _INPUTS.items() if name in expected.files}
    out = backbone(x)
    out = np.asarray(out["sequence_output"] if isinstance(out, dict) else out)
    return np.abs(out - expected["last_hidden_state"])[x["padding_mask"] == 1].max()
