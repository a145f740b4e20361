"""What PEFT's AdaLoRA makes of the tiny BERT: answers, and ranks shared out for given gradients."""

from pathlib import Path

import numpy as np
import torch
from _golden_methods import ROLES, our_name, pattern
from _golden_texts import SEED
from peft import AdaLoraConfig, get_peft_model
from peft.tuners.adalora.layer import RankAllocator
from transformers import AutoModel

STEPS = 12
OPTIONS = {
    "target_r": 2,
    "init_r": 5,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "total_step": STEPS,
    "tinit": 2,
    "tfinal": 3,
    "deltaT": 2,
    "beta1": 0.8,
    "beta2": 0.7,
}


def ours(name: str) -> str:
    """PEFT's A [rank, inputs], E [rank, 1] and B [outputs, rank] are our P, lambda, Q, turned."""
    site, _, kind = our_name(name, "bert").rpartition(".")
    return f"{site}.adalora_" + {"lora_A": "p", "lora_E": "lambda", "lora_B": "q"}[kind]


def turned(weight: torch.Tensor) -> np.ndarray:
    """A weight of PEFT's in our shape."""
    return weight.detach().numpy().T.reshape(-1 if weight.shape[1] == 1 else weight.T.shape).copy()


def shared_out(adapted: torch.nn.Module, generator: torch.Generator) -> dict[str, np.ndarray]:
    """A training with drawn gradients: gradients and what is left by step, the importance.

    PEFT takes no gradient in at the very step at which the budget becomes final; the paper does,
    and so it is done here.
    """
    allocator = RankAllocator(adapted, adapted.peft_config["default"], "default")
    weights = {n: w for n, w in adapted.named_parameters() if "lora_" in n}
    final, budgets = STEPS - OPTIONS["tfinal"], []
    rows = {f"gradient:{ours(n)}": [] for n in weights}
    rows |= {f"left:{ours(n)}": [] for n in weights if "lora_E" in n}
    for step in range(1, STEPS + 1):
        for name, weight in weights.items():
            # Unlike in size from weight to weight and step to step, as gradients are; of 16 bits,
            # which keeps the file small.
            size = torch.rand(1, generator=generator) ** 2
            weight.grad = (size * torch.randn(weight.shape, generator=generator)).half().float()
            with torch.no_grad():
                weight -= 0.05 * weight.grad
            rows[f"gradient:{ours(name)}"].append(turned(weight.grad).astype(np.float16))
        if step == final:
            allocator.update_ipt(adapted)
        budget, _ = allocator.update_and_allocate(adapted, step, force_mask=step == final)
        budgets.append(budget)
        for name, weight in weights.items():
            if "lora_E" in name:
                rows[f"left:{ours(name)}"].append(turned(weight))
    found = {name: np.stack(values) for name, values in rows.items()}
    for name in weights:
        found[f"sensitivity:{ours(name)}"] = turned(allocator.exp_avg_ipt[name])
        found[f"uncertainty:{ours(name)}"] = turned(allocator.exp_avg_unc[name])
    return found | {"budgets": np.array(budgets, np.int32)}


def write_adalora(golden: Path) -> None:
    """adalora_bert.npz in tests/golden/methods."""
    source = golden / "bert"
    model = AutoModel.from_pretrained(source, attn_implementation="eager")
    config = AdaLoraConfig(target_modules=pattern(ROLES["bert"], ("query", "value")), **OPTIONS)
    adapted = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(SEED)
    found = {}
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
                found[f"weight:{ours(name)}"] = turned(weight)
    inputs = np.load(source / "expected.npz")
    names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in inputs]
    features = {name: inputs[name][:2] for name in names}
    with torch.no_grad():
        batch = {name: torch.tensor(value) for name, value in features.items()}
        found["last_hidden_state"] = adapted(**batch).last_hidden_state.numpy()
    found |= shared_out(adapted, generator)
    np.savez_compressed(golden / "methods" / "adalora_bert.npz", **features, **found)
