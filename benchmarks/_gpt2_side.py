"""A small GPT-2 with random weights, and ids of Transformers' GPT2Tokenizer: a JSON job on stdin.

Run by gpt2_vocabulary.py under the interpreter that has torch and transformers. The folder holds
vocab.json and merges.txt already; config.json and model.safetensors are added.
"""

import json
import os
import sys
from importlib import metadata
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers as tr


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Write the model and turn the texts into ids."""
    tr.set_seed(job["seed"])
    tokenizer = tr.GPT2Tokenizer.from_pretrained(job["folder"])
    config = tr.GPT2Config(vocab_size=len(tokenizer), **job["config"])
    model = tr.GPT2LMHeadModel(config).eval()
    model.save_pretrained(job["folder"])
    ids = tokenizer(job["texts"], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([job["probe"]])).logits[0]
    return {
        "ids": ids,
        "vocabulary": len(tokenizer),
        "logits": logits[:, : job["shown"]].tolist(),
        "packages": {name: metadata.version(name) for name in ("torch", "transformers")},
    }


if __name__ == "__main__":
    tr.utils.logging.set_verbosity_error()
    tr.utils.logging.disable_progress_bar()
    print(json.dumps(run(json.load(sys.stdin))))
