"""What `kerasft export --int8` saves, and what it costs: size, time and score beside float32.

    python benchmarks/int8.py --model MINILM --data SPAM [--rows 800]

MINILM is a Hugging Face folder; SPAM a folder with train.jsonl, validation.jsonl and test.jsonl of
`text` and `label`. A classifier is fine-tuned on the first rows, exported with and without --int8,
and both are asked the test rows in turns, in TensorFlow's C runtime on one thread: one text at a
time, and 32 at once.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import _harness as harness
import numpy as np

SINGLE, LENGTH = 100, 64


def rows_of(folder: Path, part: str, most: int | None = None) -> list[dict[str, str]]:
    """The first rows of a part."""
    lines = (folder / f"{part}.jsonl").read_text("utf-8").splitlines()[:most]
    return [json.loads(line) for line in lines]


def make(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Fine-tune, and export twice: name -> folder of the version."""
    import kerasft as kf

    places = {}
    for part, most in (("train", args.rows), ("validation", 200)):
        places[part] = str(folder / f"{part}.jsonl")
        lines = [json.dumps(row) for row in rows_of(args.data, part, most)]
        Path(places[part]).write_text("\n".join(lines) + "\n", "utf-8")
    recipe = kf.Recipe(
        preset=str(args.model),
        data=places | {"max_length": LENGTH},
        training={"epochs": 2, "batch_size": 16, "learning_rate": 1e-4},
    )
    pipe = kf.train(recipe, verbose=2)
    return {
        name: pipe.export(str(folder / name), int8=name == "int8") for name in ("float32", "int8")
    }


def main() -> int:
    """Make both, ask both, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=800, help="rows to fine-tune on")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    test = rows_of(args.data, "test")
    texts = [row["text"] for row in test]
    with tempfile.TemporaryDirectory() as temporary:
        folders = make(args, Path(temporary))
        sizes = {
            name: sum(p.stat().st_size for p in (Path(f) / "variables").iterdir())
            for name, f in folders.items()
        }
        order = json.loads((Path(folders["int8"]) / "assets.extra/labels.json").read_text("utf-8"))
        jobs = {
            "one text": [[text] for text in texts[:SINGLE]],
            "32 texts": [texts[i : i + 32] for i in range(0, len(texts), 32)],
        }
        found = {
            name: harness.other_python(
                sys.executable,
                "_turns_side.py",
                {"folders": folders, "batches": batches, "rounds": args.rounds},
            )
            for name, batches in jobs.items()
        }
    truth = np.array([order.index(row["label"]) for row in test])
    return harness.finish(told(args, sizes, found, truth))


def told(args: argparse.Namespace, sizes: dict, found: dict, truth: np.ndarray) -> Path:
    """The run file."""
    whole = {n: np.array(s.pop("probabilities")) for n, s in found["32 texts"].items()}
    right = {n: 100 * float((p.argmax(1) == truth).mean()) for n, p in whole.items()}
    values = {f"{n}: bytes of the variables": size for n, size in sizes.items()}
    values |= {f"{n}: accuracy on the test rows, %": score for n, score in right.items()}
    times: dict[str, float] = {}
    for case, sides in found.items():
        for name, side in sides.items():
            side.pop("probabilities", None)
            values[f"{name}: {case}, ms"] = median(side["ms"])
        pairs = zip(sides["int8"]["ms"], sides["float32"]["ms"], strict=True)
        times[case] = median(a / b for a, b in pairs)
    for name in sizes:
        values[f"{name}: ms to load"] = median(found[case][name]["load_ms"] for case in found)
    apart = np.abs(whole["int8"] - whole["float32"]).max()
    values["largest difference of a probability"] = float(apart)
    raw: dict[str, Any] = {"sizes": sizes, "asked": found}
    return harness.record(
        "int8",
        f"`kerasft export --int8` of {args.model.name}, fine-tuned on {args.rows} rows of "
        f"{args.data.name} at {LENGTH} tokens, beside the same export in float32: size, time in "
        "the C runtime on one thread, in turns (medians of the ratios), and accuracy on "
        f"{len(truth)} test rows.",
        values=values,
        bounds=[
            harness.Bound("int8 / float32, bytes", sizes["int8"] / sizes["float32"], "<=", 0.3),
            # Both graphs are the same once they are loaded, so what differs is noise.
            *(
                harness.Bound(f"int8 / float32, time of {case}", ratio, "<=", 1.05)
                for case, ratio in times.items()
            ),
            harness.Bound("points of accuracy lost", right["float32"] - right["int8"], "<=", 0.5),
        ],
        raw=raw,
        seeds=[0],
    )


if __name__ == "__main__":
    sys.exit(main())
