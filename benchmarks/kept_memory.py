"""What it is worth that freed memory is kept between steps (kerasft/_core/memory.py).

    python benchmarks/kept_memory.py --model MINILM --data NEWS [--rounds 3]

MINILM is a Hugging Face folder, NEWS a folder with train.jsonl. The first 160 rows are trained for
two epochs with LoRA, in turns with freed memory kept and with the setting left as TensorFlow makes
it (MALLOC_TOP_PAD_ at glibc's own value, which `keep_freed` takes for somebody's choice). Each run
is a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import _harness as harness

ROWS = 160
LEFT = {"MALLOC_TOP_PAD_": "131072"}


def train(model: Path, data: Path, seed: int) -> dict[str, Any]:
    """Fit once; seconds of `fit`, of the system, and pages that were given."""
    import kerasft as kf

    with tempfile.TemporaryDirectory() as temporary:
        lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        for name, part in (("train", lines[:ROWS]), ("held", lines[ROWS : ROWS + 16])):
            Path(temporary, f"{name}.jsonl").write_text("".join(part), encoding="utf-8")
        held = f"{temporary}/held.jsonl"
        recipe = kf.Recipe(
            task="text-classification",
            preset=str(model),
            method="lora",
            data={
                "train": f"{temporary}/train.jsonl",
                "validation": held,
                "test": held,
                "max_length": 128,
            },
            training={"epochs": 2, "batch_size": 16},
            seed=seed,
        )
        start = resource.getrusage(resource.RUSAGE_SELF)
        found = kf.train(recipe, verbose=0).report.to_json()
        end = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "fit_seconds": found["fit_seconds"],
        "system_seconds": end.ru_stime - start.ru_stime,
        "pages": end.ru_minflt - start.ru_minflt,
        "peak_mib": end.ru_maxrss / 1024,
    }


def child(args: argparse.Namespace, seed: int, variables: dict[str, str]) -> dict[str, Any]:
    """`train` in a process of its own."""
    command = [sys.executable, __file__, "--model", str(args.model), "--data", str(args.data)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [*command, "--seed", str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=clean | variables,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    """Train in turns and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, help="train once with it and print what was measured")
    args = parser.parse_args()
    if args.seed is not None:
        print(json.dumps(train(args.model, args.data, args.seed)))
        return 0
    seeds = list(range(args.rounds))
    found = harness.in_turns(
        seeds,
        kept=lambda seed: child(args, seed, {}),
        left=lambda seed: child(args, seed, LEFT),
    )
    middle = {
        name: {key: median(run[key] for run in runs) for key in runs[0]}
        for name, runs in found.items()
    }
    ratio = median(
        kept["fit_seconds"] / left["fit_seconds"]
        for kept, left in zip(found["kept"], found["left"], strict=True)
    )
    path = harness.record(
        "kept-memory",
        f"Two epochs of LoRA on {ROWS} rows of {args.data.name} with {args.model.name}, batches of "
        "16, at most 128 tokens: freed memory kept between steps, and as TensorFlow leaves it on "
        "Python 3.11 once a generator has run. Medians.",
        values={"time kept / left": ratio}
        | {f"{key}, {name}": value for name, part in middle.items() for key, value in part.items()},
        bounds=[harness.Bound("time kept / left", ratio, "<=", 0.9)],
        raw=found,
        seeds=seeds,
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
