"""Make tests/golden: tiny models of every family with the answers of Transformers and PEFT.

    python benchmarks/make_golden.py [--out tests/golden] [--only bert roberta ...]

Needs torch, transformers, peft, sentencepiece, h5py and safetensors; kerasft itself needs none of
the first three. Weights are drawn with the seed in `_golden_texts.py`, so a second run gives the
same folders.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from _golden_adalora import write_adalora
from _golden_h5 import write_h5
from _golden_methods import write_methods
from _golden_models import FAMILIES, tokenizer_of, write_model
from _golden_steps import write_steps
from _golden_texts import SEED
from _golden_tokenizers import WRITERS, mistral_json, write_json

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"


def make_family(folder: Path, family: str) -> None:
    """One folder, from its tokenizer to its expected answers."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    WRITERS[family](folder)
    # The tokenizer's loader wants to know the family before the model is written.
    write_json(folder / "config.json", {"model_type": FAMILIES[family]["model_type"]})
    if family == "mistral":
        mistral_json(folder)
    model = write_model(folder, family, list(FAMILIES).index(family))
    if family == "bert":
        write_h5(model, folder, folder.parent / "bert_h5")
        write_steps(folder, tokenizer_of(folder), folder.parent / "steps")


def main() -> None:
    """Write the families asked for, then say what each weighs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=GOLDEN)
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    for family in args.only:
        make_family(args.out / family, family)
    if {"bert", "llama"} & set(args.only):
        write_methods(args.out)
    if "bert" in args.only:
        write_adalora(args.out)
    for folder in sorted(path for path in args.out.iterdir() if path.is_dir()):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(json.dumps({"folder": folder.name, "kilobytes": round(size / 1000)}))


if __name__ == "__main__":
    main()
