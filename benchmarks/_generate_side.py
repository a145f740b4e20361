"""Generate with Transformers: a JSON job on stdin, a JSON answer as the last line.

Run by check_generate.py under the interpreter that has torch and transformers.
"""

import json
import os
import sys
import time
from importlib import metadata
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers as tr


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Ids of every prompt alone, and the seconds that all of them took together, in one batch."""
    tokenizer = tr.AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    model = tr.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    end = model.config.eos_token_id
    fixed = {"max_new_tokens": job["tokens"], "do_sample": False}
    fixed |= {"eos_token_id": end, "pad_token_id": end}
    prompts = [tokenizer(text, return_tensors="pt") for text in job["prompts"]]
    together = tokenizer(job["prompts"], return_tensors="pt", padding=True)
    found: dict[str, Any] = {"end": end, "prompts": [p.input_ids[0].tolist() for p in prompts]}
    for name, beams in job["searches"].items():
        new = []
        for prompt in prompts:
            ids = model.generate(**prompt, **fixed, num_beams=beams)[0]
            ids = ids[prompt.input_ids.shape[1] :].tolist()
            new.append(ids[: ids.index(end)] if end in ids else ids)
        start = time.perf_counter()
        model.generate(**together, **fixed, num_beams=beams)
        found[name] = {"ids": new, "seconds": time.perf_counter() - start}
    return found


def main() -> None:
    """Answer the job on stdin."""
    tr.utils.logging.set_verbosity_error()
    tr.utils.logging.disable_progress_bar()
    with torch.no_grad():
        found = answer(json.load(sys.stdin))
    found["packages"] = {name: metadata.version(name) for name in ("torch", "transformers")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
