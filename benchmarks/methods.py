"""Every method on one budget: share of the weights, score, seconds, memory, size of its file.

    python benchmarks/methods.py --model MINILM --data DATA [--only NAME,NAME] [--table]

MINILM is a Hugging Face folder, DATA holds the folders spam, news and ner-en. Each method of the
registry trains on the first 800 rows of each for 3 epochs, at the learning rate of its own, with
at most 64 tokens of a text and the first 240 validation rows; `full`, `head-only` and `lora` with
three seeds, the others with one. One run is one file in benchmarks/runs/methods; what is there is
not run again, so the whole may take several sittings. `--table` gathers them into a run file.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness

PLACE = harness.RUNS / "methods"
DATA = {
    "spam": ("text-classification", "macro_f1"),
    "news": ("text-classification", "macro_f1"),
    "ner-en": ("token-classification", "entity_f1"),
}
ROWS, VALIDATION, EPOCHS, BATCH, LENGTH = 800, 240, 3, 16, 64
# Without options `freeze` is `head-only`.
OPTIONS = {"freeze": {"train_top_blocks": 2}}
THRICE = ("full", "head-only", "lora")
WITHIN, SHARE = 0.005, 0.01


def jobs(only: set[str]) -> list[dict[str, Any]]:
    """What to run, a method's first seed before all second ones."""
    from kerasft.methods import registry

    names = [n for n in registry.names() if not only or n in only]
    return [
        {"method": name, "data": data, "seed": seed}
        for seed in (0, 1, 2)
        for name in names
        for data in DATA
        if seed == 0 or name in THRICE
    ]


def file_of(job: dict[str, Any]) -> Path:
    """Where a run lies."""
    return PLACE / f"{job['data']}-{job['method']}-{job['seed']}.json"


def train(job: dict[str, Any], model: Path, data: Path) -> dict[str, Any]:
    """One training, in a process of its own for the sake of its memory."""
    import kerasft as kf

    task, score = DATA[job["data"]]
    folder = data / job["data"]
    with tempfile.TemporaryDirectory() as temporary:
        rows = {}
        for name, count in (("train", ROWS), ("validation", VALIDATION)):
            lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            rows[name] = Path(temporary) / f"{name}.jsonl"
            rows[name].write_text("".join(lines[:count]), encoding="utf-8")
        recipe = kf.Recipe(
            task=task,
            preset=str(model),
            method={"name": job["method"], **OPTIONS.get(job["method"], {})},
            data={
                **{name: str(path) for name, path in rows.items()},
                "test": str(folder / "test.jsonl"),
                "max_length": LENGTH,
            },
            training={"epochs": EPOCHS, "batch_size": BATCH},
            seed=job["seed"],
        )
        pipe = kf.train(recipe, verbose=0)
        found = pipe.report.to_json()
        path = Path(temporary) / "adapter.safetensors"
        try:
            pipe.save_adapter(path)
        except kf.InputError:  # all of the backbone moves, or none of it
            path = Path(pipe.save(Path(temporary) / "model")) / "model.safetensors"
        size = path.stat().st_size
    moving = sum(int(v.shape.num_elements()) for v in pipe.adapted.trainable_variables)
    whole = sum(int(v.shape.num_elements()) for v in pipe.adapted.weights)
    return {
        "score": found[score],
        "before": found["before"][score],
        "seconds": found["fit_seconds"],
        "learning_rate": recipe.learning_rate(),
        "trainable_share": moving / whole,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "file_mib": size / 2**20,
    }


def run(job: dict[str, Any], args: argparse.Namespace) -> None:
    """Run one job in another process and keep what it says."""
    command = [sys.executable, __file__, "--model", str(args.model), "--data", str(args.data)]
    command += ["--job", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} ended with code {done.returncode}.")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    PLACE.mkdir(parents=True, exist_ok=True)
    notes = {"commit": harness.commit(), "packages": harness.versions()}
    text = json.dumps(job | found | notes, indent=1)
    file_of(job).write_text(text + "\n", encoding="utf-8")
    print(job, {key: round(value, 4) for key, value in found.items()}, flush=True)


def weak() -> dict[str, str]:
    """What `kerasft methods` says of each method whose mean score is below that of `head-only`."""
    scores: dict[str, list[float]] = {}
    for data in DATA:
        found: dict[str, list[float]] = {}
        for row in rows_of(data):
            found.setdefault(row["method"], []).append(row["score"])
        for name, own in found.items():
            scores.setdefault(name, []).append(sum(own) / len(own))
    means = {n: sum(s) / len(s) for n, s in scores.items() if len(s) == len(DATA)}
    least = means["head-only"]
    return {
        name: f"Weak on small encoders: mean score {mean:.2f}, head-only {least:.2f}."
        for name, mean in means.items()
        if mean < least
    }


def rows_of(data: str) -> list[dict[str, Any]]:
    """The runs on one data set."""
    rows = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(PLACE.glob("*.json"))]
    return [row for row in rows if row["data"] == data]


def table() -> Path:
    """The run file of all runs: means over seeds, and the two bounds on LoRA."""
    rows = [row for data in DATA for row in rows_of(data)]
    values, bounds = {}, []
    means: dict[tuple[str, str], float] = {}
    for data in DATA:
        for name in sorted({row["method"] for row in rows if row["data"] == data}):
            own = [row for row in rows if (row["data"], row["method"]) == (data, name)]
            keys = [key for key in own[0] if _number(own[0], key)]
            mean = {key: sum(row[key] for row in own) / len(own) for key in keys}
            means[data, name] = mean["score"]
            shown = ", ".join(f"{k} {v}" for k, v in OPTIONS.get(name, {}).items())
            values[f"{data}: {name}{shown and f' ({shown})'}"] = (
                f"score {mean['score']:.4f} (before {mean['before']:.4f}, {len(own)} seeds), "
                f"{mean['trainable_share']:.3%} of the weights, {mean['seconds']:.0f} s, "
                f"{mean['peak_mib']:.0f} MiB, file {mean['file_mib']:.2f} MiB, "
                f"rate {mean['learning_rate']:g}"
            )
        if (data, "lora") in means and (data, "full") in means:
            behind = means[data, "full"] - means[data, "lora"]
            bounds.append(harness.Bound(f"{data}: lora behind full", behind, "<=", WITHIN))
    shares = [row["trainable_share"] for row in rows if row["method"] == "lora"]
    if shares:
        bounds.append(harness.Bound("share of the weights of lora", max(shares), "<=", SHARE))
    return harness.record(
        "methods",
        f"Every method at its own default rate: the first {ROWS} rows, {EPOCHS} epochs, batches of "
        f"{BATCH}, at most {LENGTH} tokens. Scores are macro-F1 on spam and news, entity F1 on "
        "ner-en, on the test rows. The machine had other work, so seconds compare roughly.",
        values=values,
        bounds=bounds,
        raw={"rows": rows},
        seeds=sorted({row["seed"] for row in rows}),
    )


def _number(row: dict[str, Any], key: str) -> bool:
    return isinstance(row[key], (int, float)) and key != "seed"


def main() -> int:
    """Run what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="Hugging Face folder")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--only", default="", help="methods, parted by commas")
    parser.add_argument("--table", action="store_true", help="gather the runs")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.table:
        return harness.finish(table())
    if not (args.model and args.data):
        parser.error("--model and --data are needed")
    if args.job:
        print(json.dumps(train(json.loads(args.job), args.model, args.data)))
        return 0
    for job in jobs({n for n in args.only.split(",") if n}):
        if not file_of(job).exists():
            run(job, args)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
