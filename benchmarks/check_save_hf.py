"""Check that Transformers loads what kerasft writes, and answers the same.

    python benchmarks/check_save_hf.py --torch-python PYTHON [--out DIR] [FOLDER ...]

For every folder of tests/golden, and every other Hugging Face folder that is named: load it with
kerasft, move its weights a little as training would, write it with `write_folder`, and ask both
libraries for logits. PYTHON is an interpreter with torch and transformers.
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
MAX_LENGTH = 40
FIRST = "https://x.co: don't pay 1234567 £, CAFÉ «naïve» ＡＢＣ，很好！"
SECOND = ["An answer, perhaps.", "很好看。", "", "ok"]


def texts() -> list[str]:
    """The golden texts, and one of awkward signs."""
    read = json.loads((GOLDEN / "bert" / "texts.json").read_text(encoding="utf-8"))
    return [*read["texts"], FIRST]


def write(source: Path, folder: Path, problem: str) -> None:
    """Load with kerasft, move the weights, write, and note kerasft's own ids and logits."""
    sys.path.insert(0, str(ROOT))
    import tensorflow as tf

    from kerasft.backbones import family_of
    from kerasft.backbones.huggingface import Head, load_folder, read_head, write_folder
    from kerasft.tasks import TextClassification

    backbone, tokenizer = load_folder(str(source), dropout=0.0)
    rng = np.random.default_rng(0)
    for variable in backbone.trainable_variables:
        value = np.asarray(variable)
        variable.assign(value + 0.02 * value.std() * rng.standard_normal(value.shape))
    head = read_head(str(source)) or _random_head(Head, family_of(backbone), backbone, rng)
    changes: dict = {"problem": problem}
    if problem == "regression":
        bias = head.logits_bias
        changes |= {"labels": ("score",), "logits_kernel": head.logits_kernel[:, :1]}
        changes["logits_bias"] = None if bias is None else bias[:1]
    head = Head(**{**vars(head), **changes})
    pair = family_of(backbone).kind == "encoder"
    labels = () if problem == "regression" else head.labels
    task = TextClassification(labels=labels, problem=problem, pair=pair, max_length=MAX_LENGTH)
    model = task.build(backbone)
    task.load_head(model, head)
    first = texts()
    second = (SECOND * len(first))[: len(first)]
    fields = {"text": tf.constant(first)} | ({"text_pair": tf.constant(second)} if pair else {})
    features = tf.function(lambda f: task.encode(tokenizer, f))(fields)
    found = {name: np.asarray(value) for name, value in features.items()}
    found["logits"] = np.asarray(model({i.name: features[i.name] for i in model.inputs}))
    write_folder(str(folder), backbone, tokenizer, head, MAX_LENGTH)
    np.savez(folder / "kerasft.npz", **found)
    rows = {"first": first, "second": second if pair else None}
    (folder / "texts.json").write_text(json.dumps(rows), encoding="utf-8")


def _random_head(cls, family, backbone, rng):
    width, style = backbone.hidden_dim, family.head
    hidden = (rng.normal(0, 0.02, (width, width)), np.zeros(width)) if style.hidden else (None,) * 2
    kernel = rng.normal(0, 0.5, (width, 2)).astype("float32")
    return cls(("no", "yes"), "single-label", *hidden, kernel, np.zeros(2) if style.bias else None)


def check(folder: Path) -> dict:
    """Ask Transformers, and compare."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    expected = np.load(folder / "kerasft.npz")
    options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH}
    batch = tokenizer(rows["first"], rows["second"], return_tensors="pt", **options)
    with torch.no_grad():
        logits = model.eval()(**batch).logits.numpy()
    ids, own = batch["input_ids"].numpy(), expected["token_ids"]
    same = ids.shape == own.shape and bool((ids == own).all())
    return {
        "folder": folder.name,
        "max_difference": float(np.abs(logits - expected["logits"]).max()),
        "largest_logit": float(np.abs(logits).max()),
        "same_ids": same,
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "problem": model.config.problem_type,
        "labels": list(model.config.id2label.values()),
    }


def off(row: dict) -> float:
    """How far the logits are apart, relative to the largest where that is above 1; infinite where
    the ids differ or a weight was not found."""
    if not row["same_ids"] or row["missing"]:
        return float("inf")
    return row["max_difference"] / max(1.0, row["largest_logit"])


def main() -> int:
    """Write with kerasft, check with Transformers, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch-python", help="an interpreter with torch and transformers")
    parser.add_argument("--out", type=Path, help="where to write the folders")
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("folders", nargs="*", type=Path)
    args = parser.parse_args()
    if args.check:
        print(json.dumps([check(path) for path in sorted(args.check.iterdir())]))
        return 0
    if not args.torch_python:
        parser.error("--torch-python is needed")
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        named = sorted(path.parent for path in GOLDEN.glob("*/texts.json")) + args.folders
        for index, source in enumerate(named):
            kind = "golden" if source.parent == GOLDEN else "real"
            problem = ("single-label", "multi-label", "regression")[index % 3]
            write(source, out / f"{kind}-{source.name}", problem)
        command = [args.torch_python, __file__, "--check", str(out)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return harness.finish(record(json.loads(done.stdout.splitlines()[-1])))


def record(found: list[dict]) -> Path:
    """The run file: one bound a folder."""
    return harness.record(
        "save-hf",
        "What `save_hf` writes, loaded by Transformers: largest difference of the logits, relative "
        "where they exceed 1; the token ids have to be equal.",
        values={"folders": len(found), "equal": sum(off(row) <= LIMIT for row in found)},
        bounds=[harness.Bound(row["folder"], off(row), "<=", LIMIT) for row in found],
        raw={"folders": found},
    )


if __name__ == "__main__":
    sys.exit(main())
