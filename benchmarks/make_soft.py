"""Soft prompts and prefixes in PEFT and Transformers, on the tiny golden models.

    python benchmarks/make_soft.py

Writes tests/golden/methods/soft.npz: for `bert`, `gpt2` and `llama` the weights of a prompt, of
PEFT's prompt encoders, its MLP and its LSTM, and of a prefix, all random, and the hidden states of
real tokens.
"""

from pathlib import Path

import numpy as np
import torch
from peft import PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModel, DynamicCache

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
TOKENS, HIDDEN, SEED, ROWS = 4, 6, 7, 2


def base(name: str) -> torch.nn.Module:
    """The model without a head, in evaluation mode."""
    model = AutoModel.from_pretrained(GOLDEN / name, attn_implementation="eager")
    return model.float().eval()


def randomize(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Random weights for the prompt encoder; returns them by what of their names follows it."""
    generator, found = torch.Generator().manual_seed(SEED), {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
                found[name.split("default.")[-1]] = weight.numpy().copy()
    return found


def prompted(name: str, config: object, inputs: dict) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Weights of a prompt, and hidden states of the text behind it, as PEFT computes them."""
    model = get_peft_model(base(name), config).eval()
    weights = randomize(model)
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state[:, TOKENS:]
    return weights, hidden.numpy()


def prefixed(name: str, inputs: dict) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values [layers, 2, heads, tokens, size] and hidden states of the text behind them.

    PEFT would count the prefix; here the text's positions begin with 0.
    """
    model, generator = base(name), torch.Generator().manual_seed(SEED)
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (config.num_hidden_layers, 2, heads, TOKENS, size)
    prefix = torch.randn(shape, generator=generator)
    ids = inputs["input_ids"]
    rows, length = ids.shape
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(prefix):
        every = (x[None].expand(rows, *x.shape).contiguous() for x in (keys, values))
        cache.update(*every, layer)
    with torch.no_grad():
        hidden = model(
            input_ids=ids,
            attention_mask=torch.cat(
                [torch.ones(rows, TOKENS).long(), inputs["attention_mask"]], 1
            ),
            position_ids=torch.arange(length)[None].expand(rows, length),
            past_key_values=cache,
        ).last_hidden_state
    return prefix.numpy(), hidden.numpy()


def main() -> None:
    """Write the file."""
    found: dict[str, np.ndarray] = {}
    for name in ("bert", "gpt2", "llama"):
        texts = np.load(GOLDEN / name / "expected.npz")
        kept = {k: torch.tensor(texts[k][:ROWS]).long() for k in ("input_ids", "attention_mask")}
        width = int(kept["attention_mask"].sum(1).max())
        inputs = {k: v[:, :width] for k, v in kept.items()}
        task = "FEATURE_EXTRACTION"
        prompt = PromptTuningConfig(task_type=task, num_virtual_tokens=TOKENS)
        encoder, lstm = (
            PromptEncoderConfig(
                task_type=task,
                num_virtual_tokens=TOKENS,
                encoder_reparameterization_type=kind,
                encoder_hidden_size=size,
            )
            for kind, size in (("MLP", HIDDEN), ("LSTM", HIDDEN // 2))
        )
        for kind, config in (("prompt", prompt), ("encoder", encoder), ("lstm", lstm)):
            weights, hidden = prompted(name, config, inputs)
            found |= {f"{name}/{kind}/{k}": v for k, v in weights.items()}
            found[f"{name}/{kind}/hidden"] = hidden
        if name != "bert":  # Transformers' BERT takes keys and values as a decoder only
            found[f"{name}/prefix"], found[f"{name}/prefix/hidden"] = prefixed(name, inputs)
        found |= {f"{name}/{k}": v.numpy().astype(np.int32) for k, v in inputs.items()}
    folder = GOLDEN / "methods"
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / "soft.npz", **found)


if __name__ == "__main__":
    main()
