"""Fine-tune tags or answers from the same weights with kerasft and with Hugging Face's Trainer.

    python benchmarks/vs_trainer_spans.py --data ner-en --model minilm --torch-python PYTHON
    python benchmarks/vs_trainer_spans.py --data qa --model minilm --torch-python PYTHON

DATA is a folder with train.jsonl and test.jsonl, {"tokens", "tags"} or {"question", "context",
"answer_text", "answer_start"}; MODEL is a Hugging Face checkpoint folder. `save_hf` writes MODEL
with a new head, and both sides start from that folder. Both get the same encoded batches in the
same order, AdamW, linear warm-up and decay, clipped gradients, float32, and no dropout unless it
is asked for, so that nothing is drawn. The logits of both for the test rows are read by kerasft's
task and scored by `entity_scores` or `answer_scores`, before and after. They run in turns.

One thing differs: Transformers' loss of answers has the padding of a batch in its softmax, and
kerasft's has not.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

import _harness as harness
import numpy as np
from vs_trainer import FIXED, rows_of

# What a run is by default, so that it takes minutes on two cores. Transformers' head for answers
# has no dropout.
TASKS: dict[str, dict[str, Any]] = {
    "token-classification": {
        "options": {},
        "score": "entity_f1",
        "points": 100,
        "defaults": {"max_length": 128, "epochs": 3, "lr": 1e-4, "rows": 1800, "test_rows": None},
    },
    "question-answering": {
        "options": {"overlap": 64, "head_dropout": 0.0},
        "score": "f1",
        "points": 1,
        "defaults": {"max_length": 256, "epochs": 2, "lr": 1e-4, "rows": 800, "test_rows": 300},
    },
}


def recipe_of(job: dict[str, Any], preset: str) -> Any:
    """kerasft's recipe of a job."""
    import kerasft as kf

    keys = ("epochs", "batch_size", "learning_rate", "dropout", *FIXED)
    return kf.Recipe(
        preset=preset,
        task={"name": job["task"], **TASKS[job["task"]]["options"]},
        data={
            "train": job["train"],
            "validation": None,
            "test": job["test"],
            "max_length": job["max_length"],
        },
        training={key: job[key] for key in keys},
        seed=job["seed"],
    )


def built(recipe: Any, folder: Path) -> Any:
    """A run of kerasft before its first step."""
    from kerasft._core.seeds import set_seed
    from kerasft.training.callbacks.checkpoints import Store
    from kerasft.training.prepare import prepare_data
    from kerasft.training.train import Run

    set_seed(recipe.seed)
    run = Run(prepare_data(recipe), Store(str(folder / "none"), 1), str(folder), 0)
    run.build()
    return run


def chunks_of(run: Any) -> list[tuple[dict[str, list], dict[str, np.ndarray]]]:
    """The test rows and their features."""
    rows = run.prepared.sources["test"].every_row()
    return [(fields, run.pipe.encode(fields)) for fields in rows.chunks()]


def scores_of(task: Any, chunks: list, logits: Iterable[np.ndarray]) -> dict[str, Any]:
    """The scores of somebody's logits of the test rows, by kerasft's task and report."""
    from kerasft.evaluation import Collector

    collector = Collector(task.name, task.kind, task.labels, **task.scoring())
    for (fields, features), outputs in zip(chunks, logits, strict=True):
        shown = {name: fields[name] for name in task.inputs}
        collector.add(shown, task.truth(fields), task.scores(outputs, features))
    return collector.report().after


def numbered(path: Path, arrays: Iterable[dict[str, np.ndarray]]) -> str:
    """Write arrays under names as `3/token_ids`."""
    found = {f"{i}/{name}": v for i, each in enumerate(arrays) for name, v in each.items()}
    np.savez(path, **found)
    return str(path)


def with_trainer(python: str, job: dict[str, Any], out: Path) -> dict[str, Any]:
    """One seed with Hugging Face's Trainer, on the batches that kerasft makes."""
    run = built(recipe_of(job, job["start"]), out)
    feed, chunks, seed = run.feeds["train"], chunks_of(run), job["seed"]
    epochs = [feed.batches(epoch) for epoch in range(job["epochs"])]
    batches = [x | {"targets": y} for epoch in epochs for x, y, *_ in epoch]
    names = (*run.pipe.inputs, "padding_mask")
    test = [{name: features[name] for name in names} for _, features in chunks]
    logits = out / f"logits-{seed}.npz"
    told = job | {
        "folder": job["start"],
        "problem": run.task.head_problem,
        "train": numbered(out / f"train-{seed}.npz", batches),
        "test": numbered(out / f"test-{seed}.npz", test),
        "logits": str(logits),
        # As a share of the steps the Trainer would round it up.
        "warmup": round(len(batches) * job["warmup"]),
        "cores": harness.cores(),
    }
    found = harness.other_python(python, "_spans_side.py", told)
    if found["steps"] != len(batches):
        raise SystemExit(f"The Trainer made {found['steps']} steps of {len(batches)} batches.")
    with np.load(logits) as file:
        for part in ("before", "after"):
            given = [file[f"{part}/{index}"] for index in range(len(chunks))]
            found |= named(job, part, scores_of(run.task, chunks, given))
    return found


def with_kerasft(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """One seed with kerasft; the scores of its report."""
    import kerasft as kf

    pipe = kf.train(recipe_of(job, job["start"]), out=str(out / f"run-{job['seed']}"), verbose=2)
    report = json.loads((out / f"run-{job['seed']}" / "metrics.json").read_text())
    found = {"fit_seconds": report["fit_seconds"]}
    return found | named(job, "before", pipe.report.before) | named(job, "after", pipe.report.after)


def named(job: dict[str, Any], part: str, scores: dict[str, Any]) -> dict[str, float]:
    """The scores in points of 100, by name and part."""
    factor = TASKS[job["task"]]["points"]
    keys = {"token-classification": ("entity_f1", "entity_precision", "entity_recall")}
    keys = keys.get(job["task"], ("f1", "exact_match"))
    return {f"{key} {part}": factor * scores[key] for key in keys}


def start_of(job: dict[str, Any], out: Path) -> str:
    """The folder from which both sides start: the model with a head that the seed draws."""
    run = built(recipe_of(job, job["model"]), out)
    return run.pipe.save_hf(out / f"start-{job['seed']}")


def summary(results: dict[str, list[dict]], score: str) -> dict[str, float]:
    """Means of both sides, the difference in points, and how the fit times compare."""
    values: dict[str, float] = {}
    for side, runs in results.items():
        for key in runs[0]:
            if all(isinstance(run[key], float) for run in runs):
                values[f"{side} {key}"] = mean(run[key] for run in runs)
    if len(results) == 2:
        for part in ("before", "after"):
            key = f"{score} {part}"
            difference = values[f"kerasft {key}"] - values[f"trainer {key}"]
            values[f"kerasft minus trainer, {key}, in points"] = difference
        ratio = values["kerasft fit_seconds"] / values["trainer fit_seconds"]
        values["fit time, kerasft over trainer"] = ratio
    return values


def parse() -> argparse.Namespace:
    """The command line; what is not given is the task's default."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .jsonl files")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--torch-python", required=True, help="interpreter with torch")
    parser.add_argument("--max-length", type=int, help="token ids in a window")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--dropout", type=float, default=0.0, help="default: none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, help="training rows, drawn by seed 0")
    parser.add_argument("--test-rows", type=int, help="test rows, drawn by seed 0")
    parser.add_argument("--only", choices=["trainer", "kerasft"], help="one side; not recorded")
    parser.add_argument("--no-record", action="store_true", help="print, write no run file")
    args = parser.parse_args()
    with (args.data / "train.jsonl").open(encoding="utf-8") as file:
        row = json.loads(file.readline())
    args.task = "token-classification" if "tags" in row else "question-answering"
    for name, value in TASKS[args.task]["defaults"].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main() -> int:
    """Run both sides in turns and record the run."""
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        job = {
            "task": args.task,
            "model": str(args.model),
            "train": str(rows_of(args.data, "train", args.rows, out)),
            "test": str(rows_of(args.data, "test", args.test_rows, out)),
            "max_length": args.max_length,
            "batch_size": args.batch_size,
            "epochs": args.epochs,
            "learning_rate": args.lr,
            "head_learning_rate": args.lr,  # as the Trainer
            "dropout": args.dropout,
            **FIXED,
        }
        jobs = {seed: job | {"seed": seed} for seed in args.seeds}
        jobs = {seed: each | {"start": start_of(each, out)} for seed, each in jobs.items()}
        calls = {
            "trainer": lambda seed: with_trainer(args.torch_python, jobs[seed], out),
            "kerasft": lambda seed: with_kerasft(jobs[seed], out),
        }
        chosen = {side: call for side, call in calls.items() if args.only in (None, side)}
        results = harness.in_turns(args.seeds, **chosen)
    if args.only or args.no_record:
        means = summary(results, TASKS[args.task]["score"])
        print(json.dumps({"runs": results, "means": means}, indent=1))
        return 0
    return harness.finish(record(args, results))


def record(args: argparse.Namespace, results: dict[str, list[dict]]) -> Path:
    """The run file, with the bound of one point of F1."""
    score = TASKS[args.task]["score"]
    values = summary(results, score)
    behind = -values[f"kerasft minus trainer, {score} after, in points"]
    sides = {f"{s} {k}": [run[k] for run in runs] for s, runs in results.items() for k in runs[0]}
    packages = sides.pop("trainer packages")[0]
    used = {
        name: getattr(args, name)
        for name in (*TASKS[args.task]["defaults"], "batch_size", "dropout")
    }
    return harness.record(
        f"vs-trainer-{args.data.name}-{args.model.name}",
        f"The same fine-tuning of {args.model.name} on {args.data.name} ({args.task}) with kerasft "
        "and with Hugging Face's Trainer, from the same head, on the same encoded batches: F1 "
        "within one point, mean over the seeds; scores in points of 100.",
        values=values,
        bounds=[harness.Bound("F1 points behind the Trainer", behind, "<=", 1.0)],
        raw={"settings": [f"{name}={value}" for name, value in used.items()]} | sides,
        seeds=args.seeds,
        packages=packages,
    )


if __name__ == "__main__":
    sys.exit(main())
