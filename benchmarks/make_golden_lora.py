"""Make tests/golden/methods/lora: what PEFT's rsLoRA, DoRA and PiSSA do on the golden BERT.

    PYTHON benchmarks/make_golden_lora.py

PYTHON is an interpreter with torch, transformers and peft. One file a variant: the adapter's
weights (`before:`), the logits, the loss of one full-batch step of plain SGD on the adapter alone,
and weights and logits after it (`weight:`), and the merged kernels. Of DoRA also the folder `dora`,
as PEFT writes the adapter of `before:`.
"""

import json
from pathlib import Path

import numpy as np
import torch
from _golden_models import encode, tokenizer_of
from _golden_steps import logits, save_adapter, step
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
RANK, ALPHA, TARGETS = 4, 8, ["query", "value"]
VARIANTS = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
}


def base() -> torch.nn.Module:
    """The golden classifier in evaluation mode."""
    return AutoModelForSequenceClassification.from_pretrained(
        GOLDEN / "bert", attn_implementation="eager"
    ).eval()


def adapter(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The adapter's weights by name, without PEFT's prefix."""
    named = model.named_parameters()
    return {
        n.removeprefix("base_model.model.").replace(".default", ""): w.detach().numpy().copy()
        for n, w in named
        if "lora_" in n
    }


def variant(
    options: dict, batch: dict, targets: list[int], rate: float, folder: Path | None
) -> dict[str, np.ndarray]:
    """All that one file holds; the adapter before the step goes to a folder too, where named."""
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS, **options
    )
    model = get_peft_model(base(), config).eval()
    found = {"logits_fresh": logits(model, batch)}
    if "init_lora_weights" not in options:  # drawn, so that the update does something at once
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    drawn = 0.1 * torch.randn(weight.shape, generator=generator)
                    weight += drawn if "magnitude" in name else drawn - weight
    found |= {f"before:{n}": w for n, w in adapter(model).items()}
    found["logits_before"] = logits(model, batch)
    if folder is not None:
        save_adapter(model, folder)
    found["loss"] = np.float32(step(model, batch, targets, rate))
    found |= {f"weight:{n}": w for n, w in adapter(model).items()}
    found["logits_after"] = logits(model, batch)
    merged = model.merge_and_unload()
    layers = {n: w for n, w in merged.named_parameters() if n.endswith(("query.weight",))}
    return found | {f"merged:{n}": w.detach().numpy() for n, w in layers.items()}


def main() -> None:
    """Write the files."""
    about = json.loads((GOLDEN / "steps" / "about.json").read_text(encoding="utf-8"))
    tokenizer = tokenizer_of(GOLDEN / "bert")
    batch = dict(encode(tokenizer, about["texts"]))
    folder = GOLDEN / "methods" / "lora"
    folder.mkdir(parents=True, exist_ok=True)
    for name, options in VARIANTS.items():
        written = folder / name if name == "dora" else None
        found = variant(options, batch, about["targets"], about["learning_rate"], written)
        np.savez_compressed(folder / f"{name}.npz", **found)


if __name__ == "__main__":
    main()
