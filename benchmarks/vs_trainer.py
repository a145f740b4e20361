"""Fine-tune the same weights on the same rows with kerasft and with Hugging Face's Trainer.

    python benchmarks/vs_trainer.py --data news --model minilm --torch-python venv-torch/bin/python

DATA is a folder with train.jsonl and test.jsonl ({"text", "label"}); MODEL is a Hugging Face
checkpoint folder. Both sides: the same batches in the same order, AdamW, linear warm-up and decay,
clipped gradients, the family's own head, float32. They run in turns.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import _harness as harness

FIXED = {"warmup": 0.1, "weight_decay": 0.01, "clip_norm": 1.0}


def rows_of(data: Path, split: str, count: int | None, out: Path) -> Path:
    """The split's file, or a copy with `count` rows drawn by a fixed seed."""
    path = data / f"{split}.jsonl"
    if count is None:
        return path
    lines = path.read_text(encoding="utf-8").splitlines()
    chosen = random.Random(0).sample(lines, min(count, len(lines)))
    (out / path.name).write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return out / path.name


def with_trainer(python: str, job: dict[str, Any]) -> dict[str, Any]:
    """One seed with Hugging Face's Trainer, on the batches that kerasft makes."""
    job = job | {"batches": batches_of(recipe_of(job))}
    return harness.other_python(python, "_trainer_side.py", job)


def recipe_of(job: dict[str, Any]) -> Any:
    """kerasft's recipe of a job."""
    import kerasft as kf

    keys = ("epochs", "batch_size", "learning_rate", *FIXED)
    return kf.Recipe(
        preset=job["model"],
        data={
            "train": job["train"],
            "validation": None,
            "test": job["test"],
            "max_length": job["max_length"],
        },
        training={key: job[key] for key in keys},
        seed=job["seed"],
    )


def batches_of(recipe: Any) -> list[list[int]]:
    """The rows of every step of a recipe, all epochs one after another."""
    from kerasft.backbones import load
    from kerasft.data import Plan, encode_rows, encoder
    from kerasft.training.prepare import prepare_data

    prepared = prepare_data(recipe)
    encode = encoder(prepared.task, load(recipe.preset)[1])
    lengths = encode_rows(prepared.sources["train"].chunks(), encode).lengths
    plan = Plan(lengths, recipe.training.batch_size, recipe.seed, shuffle=True)
    epochs = range(recipe.training.epochs)
    return [[int(row) for row in rows] for epoch in epochs for rows in plan.epoch(epoch)]


def with_kerasft(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """One seed with kerasft; the scores of its metrics.json."""
    import kerasft as kf

    recipe = recipe_of(job)
    kf.train(recipe, out=str(out / f"run-{job['seed']}"), verbose=2)
    scores = json.loads((out / f"run-{job['seed']}" / "metrics.json").read_text())
    return {key: scores[key] for key in ("accuracy", "macro_f1", "fit_seconds")}


def summary(results: dict[str, list[dict]]) -> dict[str, float]:
    """Means of both sides, the differences in points, and how the fit times compare."""
    values: dict[str, float] = {}
    for key in ("accuracy", "macro_f1", "fit_seconds"):
        for side, runs in results.items():
            values[f"{side} {key}"] = mean(run[key] for run in runs)
    if len(results) == 2:
        for key in ("accuracy", "macro_f1"):
            points = 100 * (values[f"kerasft {key}"] - values[f"trainer {key}"])
            values[f"kerasft minus trainer, {key} in points"] = points
        ratio = values["kerasft fit_seconds"] / values["trainer fit_seconds"]
        values["fit time, kerasft over trainer"] = ratio
    return values


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .jsonl files")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--torch-python", required=True, help="interpreter with torch")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="training rows, drawn by seed 0; default: all")
    parser.add_argument("--test-rows", type=int, help="test rows, drawn by seed 0; default: all")
    parser.add_argument("--only", choices=["trainer", "kerasft"], help="one side; not recorded")
    return parser.parse_args()


def main() -> int:
    """Run both sides in turns and record the run."""
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        job = {
            "model": str(args.model),
            "train": str(rows_of(args.data, "train", args.rows, out)),
            "test": str(rows_of(args.data, "test", args.test_rows, out)),
            "max_length": args.max_length,
            "batch_size": args.batch_size,
            "epochs": args.epochs,
            "learning_rate": args.lr,
            "head_learning_rate": args.lr,  # as the Trainer
            **FIXED,
        }
        calls = {
            "trainer": lambda turn: with_trainer(args.torch_python, job | {"seed": turn}),
            "kerasft": lambda turn: with_kerasft(job | {"seed": turn}, out),
        }
        chosen = {side: call for side, call in calls.items() if args.only in (None, side)}
        results = harness.in_turns(args.seeds, **chosen)
    if args.only:
        print(json.dumps({"runs": results, "means": summary(results)}, indent=1))
        return 0
    return harness.finish(record(args, results))


def record(args: argparse.Namespace, results: dict[str, list[dict]]) -> Path:
    """The run file, with the bound of one point of accuracy."""
    values = summary(results)
    behind = -values["kerasft minus trainer, accuracy in points"]
    sides = {f"{s} {k}": [run[k] for run in runs] for s, runs in results.items() for k in runs[0]}
    packages = sides.pop("trainer packages")[0]
    part = f"-{args.rows}-rows" if args.rows else ""
    return harness.record(
        f"vs-trainer-{args.data.name}-{args.model.name}{part}",
        f"The same fine-tuning of {args.model.name} on {args.data.name} with kerasft and with "
        "Hugging Face's Trainer: accuracy within one point, mean over the seeds.",
        values=values,
        bounds=[harness.Bound("accuracy points behind the Trainer", behind, "<=", 1.0)],
        raw=sides,
        seeds=args.seeds,
        packages=packages,
    )


if __name__ == "__main__":
    sys.exit(main())
