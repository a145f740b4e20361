"""What it is worth that a served batch runs rows of like length together.

    python benchmarks/by_length.py --model MINILM --data SPAM

MINILM is a Hugging Face folder, SPAM a folder with test.jsonl of `text`. A classifier (with a new
head: the time does not depend on what it has learned) is exported as it is, and once more with all
rows of a batch padded to the longest. Both are asked the same batches in turns, in TensorFlow's C
runtime on one thread.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import _harness as harness
import numpy as np

LENGTH = 256


def make(model: Path, folder: Path) -> dict[str, str]:
    """Write both: name -> folder of the version."""
    import kerasft as kf
    from kerasft._core.seeds import set_seed
    from kerasft.backbones import load
    from kerasft.export.saved_model import write_saved_model
    from kerasft.methods import adapt
    from kerasft.pipeline import Pipeline

    set_seed(0)
    backbone, tokenizer = load(str(model))
    task = kf.tasks.TextClassification(labels=("ham", "spam"), max_length=LENGTH)
    pipe = Pipeline(task.build(adapt(backbone)), tokenizer, task)
    found = {}
    for name, together in (("padded", True), ("by length", False)):
        pipe.by_place = together
        found[name] = str(folder / name.replace(" ", "-"))
        write_saved_model(pipe, found[name])
    return found


def batches_of(texts: list[str]) -> dict[str, list[list[str]]]:
    """What is asked."""
    short = [" ".join(text.split()[:10]) for text in texts]
    longest = max(texts, key=len)
    return {
        "one text of the data": [[text] for text in texts[:40]],
        "one short text": [[text] for text in short[:40]],
        "32 texts of the data": [texts[i : i + 32] for i in range(0, 96, 32)],
        "32 short texts": [short[i : i + 32] for i in range(0, 96, 32)],
        "31 short texts and a long one": [[*short[:31], longest], [longest, *short[31:62]]],
    }


def main() -> int:
    """Make both, ask both, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    lines = (args.data / "test.jsonl").read_text("utf-8").splitlines()
    values, bounds, raw = {}, [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = make(args.model, Path(temporary))
        for case, batches in batches_of([json.loads(line)["text"] for line in lines]).items():
            job = {"folders": folders, "batches": batches, "rounds": args.rounds}
            found = harness.other_python(sys.executable, "_turns_side.py", job)
            plain, grouped = found["padded"], found["by length"]
            apart = np.subtract(plain.pop("probabilities"), grouped.pop("probabilities"))
            ratio = median(a / b for a, b in zip(grouped["ms"], plain["ms"], strict=True))
            values |= {f"{name}: {case}, ms": median(side["ms"]) for name, side in found.items()}
            values[f"by length / padded: {case}"] = ratio
            values[f"largest difference: {case}"] = float(np.abs(apart).max())
            raw[case] = found
            most = 1.05 if case.startswith("one ") else 1.0
            bounds.append(harness.Bound(f"by length / padded, {case}", ratio, "<=", most))
    worst = max(v for name, v in values.items() if name.startswith("largest"))
    bounds.append(harness.Bound("largest difference of a probability", worst, "<=", 1e-5))
    path = harness.record(
        "by-length",
        f"A served classifier on {args.model.name}, at most {LENGTH} tokens, asked texts of "
        f"{args.data.name}: rows of like length together, and all padded to the longest. C runtime "
        "on one thread, in turns; medians of the times and of their ratios.",
        values=values,
        bounds=bounds,
        raw=raw,
        seeds=[0],
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
