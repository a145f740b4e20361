"""Offsets of Hugging Face's fast tokenizers: a JSON job on stdin, a JSON answer as the last line.

Run by check_offsets.py under the interpreter that has transformers.
"""

import json
import os
import sys
from importlib import metadata

os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import AutoTokenizer


def main() -> None:
    """Ids, offsets, word numbers and normal form of every text; which texts are special tokens."""
    job = json.load(sys.stdin)
    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    normalizer, rows = tokenizer.backend_tokenizer.normalizer, []
    for text in job["texts"]:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        form = normalizer.normalize_str(text) if normalizer else text
        rows.append([found["input_ids"], found["offset_mapping"], found.word_ids(), form])
    packages = {name: metadata.version(name) for name in ("transformers", "tokenizers")}
    specials = list(tokenizer.all_special_tokens)
    print(json.dumps({"rows": rows, "specials": specials, "packages": packages}))


if __name__ == "__main__":
    main()
