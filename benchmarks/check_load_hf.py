"""Check that kerasft computes what Transformers does, over options that tests/golden has not.

    python benchmarks/check_load_hf.py --torch-python PYTHON

PYTHON, an interpreter with torch and transformers, makes tiny models with random weights, one an
option; kerasft loads them and compares the last hidden states, relative to the largest entry.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import _harness as harness
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
LIMIT = 1e-5
LENGTH = 48
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
# name -> (golden folder, keys of config.json that are changed, class of Transformers)
VARIANTS: dict[str, tuple[str, dict, str]] = {
    "bert relu, eps 1e-3": ("bert", {"hidden_act": "relu", "layer_norm_eps": 1e-3}, "AutoModel"),
    "bert one segment": ("bert", {"type_vocab_size": 1}, "AutoModel"),
    "bert masked lm": ("bert", {}, "AutoModelForMaskedLM"),
    "roberta two segments": ("roberta", {"type_vocab_size": 2}, "AutoModelForMaskedLM"),
    "roberta eps 1e-3": ("roberta", {"layer_norm_eps": 1e-3}, "AutoModel"),
    "xlm-roberta tokens": ("xlm-roberta", {}, "AutoModelForTokenClassification"),
    "distilbert relu": ("distilbert", {"activation": "relu"}, "AutoModel"),
    "albert two groups": ("albert", {"num_hidden_layers": 4, "num_hidden_groups": 2}, "AutoModel"),
    "albert inner two": ("albert", {"inner_group_num": 2, "hidden_act": "gelu"}, "AutoModel"),
    "deberta long": ("deberta-v2", {"position_buckets": 6}, "AutoModel"),
    "deberta reach": ("deberta-v2", {"max_relative_positions": 64}, "AutoModel"),
    "deberta eps 1e-3": ("deberta-v2", {"layer_norm_eps": 1e-3}, "AutoModel"),
    "electra wide": ("electra", {"embedding_size": 32}, "AutoModelForPreTraining"),
    "gpt2 inner": ("gpt2", {"n_inner": 40, "activation_function": "relu"}, "AutoModel"),
    "gpt2 lm": ("gpt2", {"layer_norm_epsilon": 1e-3}, "AutoModelForCausalLM"),
    "llama lm untied": ("llama", {"tie_word_embeddings": False}, "AutoModelForCausalLM"),
    "llama all heads": ("llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-3}, "AutoModel"),
    "llama 3.1": ("llama", {"rope_parameters": LLAMA3, "rope_theta": None}, "AutoModel"),
    "mistral window": ("mistral", {"sliding_window": 8}, "AutoModel"),
    "mistral lm": ("mistral", {"head_dim": 8, "rms_norm_eps": 1e-3}, "AutoModelForCausalLM"),
    "qwen2 lm untied": ("qwen2", {"tie_word_embeddings": False}, "AutoModelForCausalLM"),
    "qwen3 eps 1e-3": ("qwen3", {"rms_norm_eps": 1e-3}, "AutoModel"),
    "gemma eps 1e-3": ("gemma", {"rms_norm_eps": 1e-3, "hidden_act": "gelu"}, "AutoModel"),
    "gemma2 head": ("gemma2", {"query_pre_attn_scalar": 8, "head_dim": 8}, "AutoModel"),
    "gemma2 lm": ("gemma2", {"num_key_value_heads": 2}, "AutoModelForCausalLM"),
}


def make(out: Path) -> None:
    """The part that needs torch: models with random weights and what they answer."""
    import torch
    import transformers as tr

    tr.utils.logging.disable_progress_bar()
    for number, (name, (source, changes, cls)) in enumerate(VARIANTS.items()):
        config = json.loads((GOLDEN / source / "config.json").read_text(encoding="utf-8"))
        config = {k: v for k, v in (config | changes).items() if v is not None or k == "n_inner"}
        kind = config.pop("model_type")
        config = tr.AutoConfig.for_model(kind, **config)
        config._attn_implementation = "eager"
        model = getattr(tr, cls).from_config(config).eval()
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
        ids = torch.randint(5, config.vocab_size, (3, LENGTH), generator=generator)
        mask = (torch.arange(LENGTH)[None] < torch.tensor([[LENGTH], [30], [7]])).long()
        body = getattr(model, model.base_model_prefix, model)
        with torch.no_grad():
            hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
        folder = out / name.replace(" ", "_").replace(",", "")
        model.save_pretrained(folder)
        for file in (GOLDEN / source).iterdir():
            if file.name not in ("config.json", "model.safetensors", "expected.npz"):
                (folder / file.name).write_bytes(file.read_bytes())
        arrays = {"token_ids": ids.numpy(), "padding_mask": mask.numpy(), "hidden": hidden}
        np.savez(folder / "expected.npz", **arrays)


def check(folder: Path) -> float:
    """The part that needs kerasft: the largest difference, relative to the largest entry."""
    from kerasft.backbones.huggingface import load_folder

    backbone, _ = load_folder(str(folder))
    expected = np.load(folder / "expected.npz")
    ids, mask = expected["token_ids"], expected["padding_mask"]
    every = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
    outputs = backbone({i.name: every[i.name] for i in backbone.inputs})
    outputs = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
    difference = np.abs(np.asarray(outputs) - expected["hidden"])[mask == 1]
    return float(difference.max() / np.abs(expected["hidden"]).max())


def main() -> int:
    """Compare every variant and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch-python", help="an interpreter with torch and transformers")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.make)
        return 0
    if not args.torch_python:
        parser.error("--torch-python is needed")
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([args.torch_python, __file__, "--make", out], check=True)
        found = {path.name: check(path) for path in sorted(Path(out).iterdir())}
    path = harness.record(
        "load-hf",
        "Hugging Face folders with unusual settings in kerasft against Transformers: largest "
        "difference of the hidden states, relative to the largest entry.",
        values={"variants": len(VARIANTS), "loaded": len(found)},
        bounds=[harness.Bound(name, value, "<=", LIMIT) for name, value in found.items()],
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
