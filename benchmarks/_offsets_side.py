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
    """Ids, offsets and word numbers of every text, without special tokens."""
    job = json.load(sys.stdin)
    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    rows = []
    for text in job["texts"]:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        rows.append([found["input_ids"], found["offset_mapping"], found.word_ids()])
    packages = {name: metadata.version(name) for name in ("transformers", "tokenizers")}
    print(json.dumps({"rows": rows, "packages": packages}))


if __name__ == "__main__":
    main()
