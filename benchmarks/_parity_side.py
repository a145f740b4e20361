"""Transformers' and PEFT's side of parity.py: a JSON job on stdin, arrays into the job's folder."""

import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers as tr
from _golden_steps import adapter_weights, load, logits, step
from _parity_common import ALPHA, MAX_LENGTH, RANK, RATE, TARGETS, TEXTS, adapter
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file


def full(folder: Path, batch: dict, out: Path) -> dict[str, np.ndarray]:
    """Logits before and after a step of SGD; the weights after it go to sgd.safetensors."""
    model = load(folder)
    found = {"logits": logits(model, batch)}
    step(model, batch, TARGETS, RATE)
    weights = {n: w.detach().numpy().copy() for n, w in model.named_parameters()}
    save_file(weights, out / "sgd.safetensors")
    return found | {"logits_after": logits(model, batch)}


def lora(folder: Path, batch: dict, out: Path) -> dict[str, np.ndarray]:
    """The same with PEFT's LoRA, all else frozen; its weights go to lora.safetensors."""
    model = load(folder)
    width, blocks = model.config.hidden_size, model.config.num_hidden_layers
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["query", "value"]
    )
    model = get_peft_model(model, config).eval()
    drawn = adapter(blocks, width)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.from_numpy(drawn[name.replace(".default", "")]))
    found = {"lora_logits": logits(model, batch)}
    step(model, batch, TARGETS, RATE)
    weights = {name: value.copy() for name, value in adapter_weights(model).items()}
    save_file(weights, out / "lora.safetensors")
    return found | {"lora_logits_after": logits(model, batch)}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Everything, into out/logits.npz and the two files of weights."""
    folder, out = Path(job["folder"]), Path(job["out"])
    tokenizer = tr.AutoTokenizer.from_pretrained(folder)
    options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH}
    batch = dict(tokenizer(TEXTS, return_tensors="pt", **options))
    arrays = full(folder, batch, out) | lora(folder, batch, out)
    np.savez(out / "logits.npz", ids=batch["input_ids"].numpy(), **arrays)
    return {name: metadata.version(name) for name in ("torch", "transformers", "peft")}


if __name__ == "__main__":
    tr.utils.logging.set_verbosity_error()
    tr.utils.logging.disable_progress_bar()
    print(json.dumps(run(json.load(sys.stdin))))
