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
    """Ids of all prompts, what follows each in one batch of them, and the seconds."""
    tokenizer = tr.AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    model = tr.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    end = model.config.eos_token_id
    fixed = {"max_new_tokens": job["tokens"], "do_sample": False}
    fixed |= {"eos_token_id": end, "pad_token_id": end}
    together = tokenizer(job["prompts"], return_tensors="pt", padding=True)
    length = together.input_ids.shape[1]
    found: dict[str, Any] = {"end": end, "prompts": tokenizer(job["prompts"]).input_ids}
    for name, beams in job["searches"].items():
        model.generate(**together, **(fixed | {"max_new_tokens": 2}), num_beams=beams)
        start = time.perf_counter()
        rows = model.generate(**together, **fixed, num_beams=beams)[:, length:].tolist()
        seconds = time.perf_counter() - start
        new = [row[: row.index(end)] if end in row else row for row in rows]
        found[name] = {"ids": new, "seconds": seconds}
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
