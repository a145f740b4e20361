"""What one full-batch step of plain SGD does to the tiny BERT, in full and with PEFT's LoRA."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from _golden_models import encode
from _golden_texts import SEED, TARGETS, TEXTS
from _golden_tokenizers import write_json
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

RATE = 0.1
RANK, ALPHA = 4, 8


def load(folder: Path) -> torch.nn.Module:
    """The classifier in evaluation mode, where dropout does nothing."""
    return AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()


def step(model: torch.nn.Module, batch: dict, targets: list[int], rate: float = RATE) -> float:
    """One step of SGD on the mean cross-entropy; returns the loss before it."""
    moving = [weight for weight in model.parameters() if weight.requires_grad]
    loss = torch.nn.functional.cross_entropy(model(**batch).logits, torch.tensor(targets))
    gradients = torch.autograd.grad(loss, moving)
    with torch.no_grad():
        for weight, gradient in zip(moving, gradients, strict=True):
            weight -= rate * gradient
    return float(loss.detach())


def logits(model: torch.nn.Module, batch: dict) -> np.ndarray:
    """The logits as an array."""
    with torch.no_grad():
        return model(**batch).logits.numpy()


def lora(model: torch.nn.Module, seed: int = SEED) -> torch.nn.Module:
    """PEFT's LoRA on query and value, B drawn too so that the adapter does something at once."""
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["query", "value"]
    )
    adapted = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return adapted


def adapter_weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """A and B under the names that PEFT's adapter file gives them."""
    named = model.named_parameters()
    return {n.replace(".default", ""): w.detach().numpy() for n, w in named if "lora_" in n}


def save_adapter(model: torch.nn.Module, folder: Path) -> None:
    """adapter_config.json and adapter_model.safetensors as PEFT writes them, without a path."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": "bert", "target_modules": ["query", "value"]}
    write_json(folder / "adapter_config.json", config)


def write_steps(source: Path, tokenizer, folder: Path) -> None:
    """sgd.npz, the adapter's folder, lora.npz and about.json."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    batch = dict(encode(tokenizer, TEXTS))
    model = load(source)
    before = logits(model, batch)
    loss = step(model, batch, TARGETS)
    after = {f"weight:{n}": w.detach().numpy() for n, w in model.named_parameters()}
    result = {"logits_before": before, "logits_after": logits(model, batch), "loss": loss}
    np.savez_compressed(folder / "sgd.npz", **result, **after)
    adapted = lora(load(source))
    save_adapter(adapted, folder / "lora")
    before = logits(adapted, batch)
    loss = step(adapted, batch, TARGETS)
    after = {f"weight:{n}": w for n, w in adapter_weights(adapted).items()}
    result = {"logits_before": before, "logits_after": logits(adapted, batch), "loss": loss}
    np.savez_compressed(folder / "lora.npz", **result, **after)
    about = {"base": "bert", "texts": TEXTS, "targets": TARGETS, "learning_rate": RATE}
    write_json(folder / "about.json", about)
