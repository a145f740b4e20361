"""What PEFT's IA3 and VeRA make of the tiny BERT and the tiny Llama, their weights drawn too."""

import re
from pathlib import Path

import numpy as np
import torch
from _golden_texts import SEED
from peft import IA3Config, VeraConfig, get_peft_model
from transformers import AutoModel

# Where the projections lie in Transformers' modules. IA3's targets are patterns, for BERT's
# attention has an `output.dense` too.
ROLES = {
    "bert": {
        "query": r"attention\.self\.query",
        "key": r"attention\.self\.key",
        "value": r"attention\.self\.value",
        "output": r"attention\.output\.dense",
        "up": r"intermediate\.dense",
        "down": r"layer\.\d+\.output\.dense",
    },
    "llama": {
        "query": r"q_proj",
        "key": r"k_proj",
        "value": r"v_proj",
        "output": r"o_proj",
        "gate": r"gate_proj",
        "up": r"up_proj",
        "down": r"down_proj",
    },
}
# VeRA's targets have unlike sizes, so that A and B are sliced.
TARGETS = {"ia3": {"bert": None, "llama": None}, "vera": {"bert": None, "llama": ("query", "down")}}
RANK = 5


def pattern(roles: dict[str, str], targets: tuple[str, ...] | None = None) -> str:
    """A pattern that matches the modules of some roles, of all where None."""
    return r".*\b(" + "|".join(roles[role] for role in targets or roles) + ")"


def config(method: str, family: str):
    """PEFT's configuration: every projection, or the targets of `TARGETS`."""
    roles, targets = ROLES[family], TARGETS[method][family]
    modules = pattern(roles, targets)
    if method == "ia3":
        return IA3Config(target_modules=modules, feedforward_modules=pattern(roles, ("down",)))
    return VeraConfig(r=RANK, target_modules=modules, vera_dropout=0.0, projection_prng_key=SEED)


def write_answers(source: Path, method: str, folder: Path) -> None:
    """METHOD_FAMILY.npz: the weights under our names, the ids and the last hidden state."""
    family = source.name
    model = AutoModel.from_pretrained(source, attn_implementation="eager")
    adapted = get_peft_model(model, config(method, family)).eval()
    generator = torch.Generator().manual_seed(SEED)
    found = {}
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if weight.requires_grad:
                weight += 0.5 * torch.randn(weight.shape, generator=generator)
                found[f"weight:{our_name(name, family)}"] = weight.numpy().reshape(-1)
    if method == "vera":
        found["vera_a"] = adapted.base_model.vera_A["default"].numpy().T
        found["vera_b"] = adapted.base_model.vera_B["default"].numpy().T
    inputs = np.load(source / "expected.npz")
    names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in inputs]
    features = {name: inputs[name][:2] for name in names}
    with torch.no_grad():
        batch = {name: torch.tensor(value) for name, value in features.items()}
        found["last_hidden_state"] = adapted(**batch).last_hidden_state.numpy()
    np.savez_compressed(folder / f"{method}_{family}.npz", **features, **found)


def our_name(name: str, family: str) -> str:
    """`...layer.1.attention.self.key.ia3_l.default` is our `blocks.1.key.ia3_l`."""
    module, kind, _ = name.rsplit(".", 2)
    (role,) = [r for r, p in ROLES[family].items() if re.search(rf"\b{p}$", module)]
    block = re.search(r"layers?\.(\d+)\.", module)[1]
    kinds = {"vera_lambda_d": "scale_d", "vera_lambda_b": "scale_b"}
    return f"blocks.{block}.{role}.{kinds.get(kind, kind)}"


def write_methods(golden: Path) -> None:
    """ia3_*.npz and vera_*.npz in tests/golden/methods."""
    folder = golden / "methods"
    folder.mkdir(exist_ok=True)
    for method, families in TARGETS.items():
        for family in families:
            write_answers(golden / family, method, folder)
