"""Check that Transformers loads what kerasft writes, and answers the same.

    python benchmarks/check_save_hf.py --torch-python PYTHON [--out DIR] [FOLDER ...]

For every folder of tests/golden, and every other Hugging Face folder that is named: load it with
kerasft, move its weights a little as training would, write it with `write_folder`, and ask both
libraries for logits; each with a head for texts, one for tags and one for answers. PYTHON is an
interpreter with torch and transformers.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
LIMIT = 1e-5
MAX_LENGTH = 40
FIRST = "https://x.co: don't pay 1234567 £, CAFÉ «naïve» ＡＢＣ，很好！"
TAGS = ("O", "B-A", "I-A", "B-B", "I-B")
# What a folder may be written with beside a head for texts, and Transformers' names for it.
KINDS = {"tags": "ForTokenClassification", "answers": "ForQuestionAnswering"}
# Weights that no class asks for and that change nothing: KerasHub's Mistral always has the layer.
SPARE = {"lm_head.weight"}
SECOND = ["An answer, perhaps.", "很好看。", "", "ok"]


def texts() -> list[str]:
    """The golden texts, and one of awkward signs."""
    read = json.loads((GOLDEN / "bert" / "texts.json").read_text(encoding="utf-8"))
    return [*read["texts"], FIRST]


def write(source: Path, folder: Path, problem: str) -> None:
    """Load with kerasft, move the weights, write, and note kerasft's own ids and logits."""
    import tensorflow as tf

    from kerasft.backbones import family_of
    from kerasft.backbones.huggingface import load_folder, write_folder
    from kerasft.tasks import TextClassification

    backbone, tokenizer = load_folder(str(source), dropout=0.0)
    rng = np.random.default_rng(0)
    for variable in backbone.trainable_variables:
        value = np.asarray(variable)
        variable.assign(value + 0.02 * value.std() * rng.standard_normal(value.shape))
    head = head_for(source, problem, backbone, rng)
    task = task_for(problem, head)
    model = task.build(backbone)
    task.load_head(model, head)
    first, pair = texts(), family_of(backbone).kind == "encoder"
    second = (SECOND * len(first))[: len(first)]
    fields = {"text": tf.constant(first)} | ({"text_pair": tf.constant(second)} if pair else {})
    # Every head is asked about the same ids, those of whole rows.
    reader = TextClassification(pair=pair, max_length=MAX_LENGTH)
    features = tf.function(lambda f: reader.encode(tokenizer, f))(fields)
    found = {name: np.asarray(value) for name, value in features.items()}
    found["logits"] = np.asarray(model({i.name: features[i.name] for i in model.inputs}))
    write_folder(str(folder), backbone, tokenizer, task.to_head(model), MAX_LENGTH)
    np.savez(folder / "kerasft.npz", **found)
    rows = {"first": first, "second": second if pair else None}
    (folder / "texts.json").write_text(json.dumps(rows), encoding="utf-8")


def head_for(source: Path, problem: str, backbone: Any, rng: Any) -> Any:
    """The folder's own head, made fit for a problem, or one that is drawn."""
    from kerasft.backbones.huggingface import read_head

    head = read_head(str(source))
    if head is None or (problem in KINDS or head.problem in KINDS) and head.problem != problem:
        return drawn(problem, backbone, rng)
    if problem == "regression":
        bias = None if head.logits_bias is None else head.logits_bias[:1]
        head = replace(head, labels=("score",), logits_kernel=head.logits_kernel[:, :1])
        head = replace(head, logits_bias=bias)
    return replace(head, problem=problem)


def drawn(problem: str, backbone: Any, rng: Any) -> Any:
    """A head with random weights."""
    from kerasft.backbones import family_of
    from kerasft.backbones.huggingface import Head
    from kerasft.backbones.huggingface.heads import style_of

    labels = {"tags": TAGS, "answers": ("start", "end"), "regression": ("score",)}
    labels = labels.get(problem, ("no", "yes"))
    width, style = backbone.hidden_dim, style_of(family_of(backbone), problem)
    hidden = (rng.normal(0, 0.02, (width, width)), np.zeros(width)) if style.hidden else (None,) * 2
    kernel = rng.normal(0, 0.5, (width, len(labels))).astype("float32")
    bias = rng.normal(0, 0.5, len(labels)).astype("float32") if style.bias else None
    return Head(labels, problem, *hidden, kernel, bias)


def task_for(problem: str, head: Any) -> Any:
    """The task that trains such a head."""
    from kerasft.tasks import QuestionAnswering, TextClassification, TokenClassification

    if problem == "answers":
        return QuestionAnswering()
    if problem == "tags":
        return TokenClassification().with_head(head)
    labels = () if problem == "regression" else head.labels
    return TextClassification(labels=labels, problem=problem)


def check(folder: Path) -> dict:
    """Ask Transformers, and compare."""
    import torch
    import transformers as tr

    named = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    ending = next((e for e in KINDS.values() if e in named), "ForSequenceClassification")
    auto = getattr(tr, f"AutoModel{ending}")
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    tokenizer = tr.AutoTokenizer.from_pretrained(folder)
    rows = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    expected = np.load(folder / "kerasft.npz")
    options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH}
    batch = tokenizer(rows["first"], rows["second"], return_tensors="pt", **options)
    with torch.no_grad():
        logits = logits_of(model.eval()(**batch)).numpy()
    # Logits of a text are [rows, classes]; of tokens, the real ones count.
    real = ... if logits.ndim == 2 else batch["attention_mask"].numpy() == 1
    logits, wanted = logits[real], expected["logits"][real]
    ids, own = batch["input_ids"].numpy(), expected["token_ids"]
    same = ids.shape == own.shape and bool((ids == own).all())
    return {
        "folder": folder.name,
        "max_difference": float(np.abs(logits - wanted).max()),
        "largest_logit": float(np.abs(logits).max()),
        "same_ids": same,
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(set(info["unexpected_keys"]) - SPARE),
        "class": type(model).__name__,
        "problem": model.config.problem_type,
        "labels": list(model.config.id2label.values()),
    }


def logits_of(outputs: Any) -> Any:
    """The logits; those of the start and of the end of an answer side by side."""
    if "start_logits" not in outputs:
        return outputs.logits
    import torch

    return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)


def off(row: dict) -> float:
    """How far the logits are apart, relative to the largest where that is above 1; infinite where
    the ids differ, a weight was not found, or one is there that nothing asks for."""
    if not row["same_ids"] or row["missing"] or row["unexpected"]:
        return float("inf")
    return row["max_difference"] / max(1.0, row["largest_logit"])


def jobs(folders: list[Path]) -> list[tuple[str, Path, str]]:
    """What to write: a name, the folder it is made of, and the problem of its head."""
    from kerasft.backbones.families import family_of_model_type

    found, texts = [], ("single-label", "multi-label", "regression")
    golden = sorted(path.parent for path in GOLDEN.glob("*/texts.json"))
    for index, source in enumerate([*golden, *folders]):
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        family = family_of_model_type(config["model_type"])
        problems = [texts[index % 3], *(problem for problem in KINDS if getattr(family, problem))]
        kind = "golden" if source.parent == GOLDEN else "real"
        found += [(f"{kind}-{source.name}-{problem}", source, problem) for problem in problems]
    return found


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
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        for name, source, problem in jobs(args.folders):
            write(source, out / name, problem)
        command = [args.torch_python, __file__, "--check", str(out)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return harness.finish(record(json.loads(done.stdout.splitlines()[-1])))


def record(found: list[dict]) -> Path:
    """The run file: one bound a folder."""
    return harness.record(
        "save-hf",
        "What `save_hf` writes, loaded by Transformers: largest difference of the logits, relative "
        "where they exceed 1; the token ids have to be equal, and no weight missing or too many.",
        values={"folders": len(found), "equal": sum(off(row) <= LIMIT for row in found)},
        bounds=[harness.Bound(row["folder"], off(row), "<=", LIMIT) for row in found],
        raw={"folders": found},
    )


if __name__ == "__main__":
    sys.exit(main())
