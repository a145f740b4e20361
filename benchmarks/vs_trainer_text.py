"""Fine-tune a language model from the same weights with kerasft and with Hugging Face's Trainer.

    python benchmarks/vs_trainer_text.py --data dialogue --model smollm2 --torch-python PYTHON

DATA is a folder with train.jsonl and test.jsonl: chats ({"turns"}), summaries ({"document",
"summary"}) or translations ({"en", "zh"}); MODEL is a Hugging Face folder of a decoder. Both sides
get the same encoded batches in the same order, AdamW, linear warm-up and decay, no decay on norms,
clipped gradients, float32 and no dropout. The perplexity of the learned tokens of the test rows is
worked out from the logits of both by one function, before and after.

So that a run takes minutes on two cores, rows have 64 token ids at most: chats lose their end, and
of summaries and translations those rows are taken that fit, of articles with their first words
alone. For these two kerasft writes the texts of some test rows before and after, greedily.

One thing differs: Keras adds Adam's epsilon before it corrects the second moment for its start,
torch afterwards, so very small gradients move a little less in the first steps of kerasft.
"""

import argparse
import dataclasses
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
from _text_scores import perplexity
from vs_trainer import FIXED
from vs_trainer_spans import numbered

WRITTEN = 20  # test rows whose texts are written
ARTICLE = 20  # words of an article that are read
DATA: dict[str, dict[str, Any]] = {
    "turns": {
        "task": {"name": "causal-lm", "format": "chat", "overlong": "cut"},
        "columns": {"messages": "turns"},
        "scores": (),
    },
    "summary": {
        "task": {
            "name": "text-to-text",
            "instruction": "{text}\nIn one sentence:",
            "target_language": "en",
            "max_new_tokens": 40,
        },
        "columns": {"text": "document", "target": "summary"},
        "scores": ("rouge_1", "rouge_2", "rouge_l"),
    },
    "zh": {
        "task": {
            "name": "text-to-text",
            "instruction": "Translate from {source} to {target}: {text}",
            "source_language": "en",
            "target_language": "zh",
            "max_new_tokens": 40,
        },
        "columns": {"text": "en", "target": "zh"},
        "scores": ("bleu", "chrf"),
    },
}


class Side:
    """kerasft's side: data, model and the batches that both sides get."""

    def __init__(self, job: dict[str, Any], out: Path):
        from kerasft._core.seeds import set_seed
        from kerasft.backbones import load
        from kerasft.methods import adapt
        from kerasft.pipeline import Pipeline
        from kerasft.tasks import registry

        set_seed(job["seed"])
        backbone, self.tokenizer = load(job["model"])
        self.job, self.form = job, DATA[job["form"]]
        self.task = registry.build(self.form["task"] | {"max_length": job["max_length"]})
        self.pipe = Pipeline(self.task.build(adapt(backbone, "full")), self.tokenizer, self.task)
        self.sources = {part: self._source(part, out) for part in ("train", "test")}
        self.feeds = {part: self._feed(part) for part in ("train", "test")}
        self.test = [x | {"targets": y} for x, y, *_ in self.feeds["test"].batches()]

    def _source(self, part: str, out: Path) -> Any:
        """The rows of a part; of the test at most so many, drawn by seed 0."""
        from kerasft.data import open_source

        lines = (Path(self.job["data"]) / f"{part}.jsonl").read_text("utf-8").splitlines()
        rows = self._fitting([json.loads(line) for line in lines])
        if part == "test":
            rows = random.Random(0).sample(rows, min(self.job["test_rows"], len(rows)))
        path = out / f"{part}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return open_source(str(path), self.task.fields(), self.form["columns"])

    def _fitting(self, rows: list[dict]) -> list[dict]:
        """The rows that training reads whole; of chats all, as they are cut."""
        from kerasft.data import encoder

        if self.task.name != "text-to-text":
            return rows
        if "document" in rows[0]:
            rows = [r | {"document": " ".join(r["document"].split()[:ARTICLE])} for r in rows]
        long = dataclasses.replace(self.task, max_length=1 << 16)
        fields = {name: [r[c] for r in rows] for name, c in self.form["columns"].items()}
        mask = encoder(long, self.tokenizer, long.reads)(fields)["padding_mask"]
        fits = mask.sum(axis=1) <= self.task.max_length
        return [row for row, short in zip(rows, fits, strict=True) if short]

    def _feed(self, part: str) -> Any:
        """The batches of a part, as `kerasft.train` makes them."""
        from kerasft.backbones import template_of
        from kerasft.data import encode_rows, encoder, feed_of

        task, pad = self.task, template_of(self.tokenizer).pad
        encode = encoder(task, self.tokenizer, task.reads)
        chunks = self.sources[part].chunks()
        rows = encode_rows(chunks, encode, task, keep=self.pipe.inputs, pad=pad)
        size, seed = self.job["batch_size"], self.job["seed"]
        return feed_of(task, rows, self.pipe.inputs, size, seed, shuffle=part == "train")

    def batches(self) -> list[dict[str, np.ndarray]]:
        """The batches of all steps, in order, with their targets."""
        epochs = (self.feeds["train"].batches(epoch) for epoch in count())
        found = (x | {"targets": y} for epoch in epochs for x, y, *_ in epoch)
        return list(islice(found, self.job["steps"]))

    def train(self) -> dict[str, Any]:
        """Score the test rows, train once, and score them again."""
        from kerasft.optimizers import WarmupDecay, adamw
        from kerasft.training.fitted import compiled

        job, model = self.job, self.pipe.model
        steps = job["steps"]
        rate = WarmupDecay(job["learning_rate"], steps, job["warmup_steps"])
        kept = {"weight_decay": job["weight_decay"], "clip_norm": job["clip_norm"]}
        optimizer = adamw(rate, model, **kept)
        fitted = compiled(model, self.task, optimizer)
        found = {"before": perplexity(self._logits, self.test), **self._texts("before")}
        each = _steps(fitted)
        fitted.fit(
            self.feeds["train"].endless(),
            steps_per_epoch=steps,
            callbacks=[each],
            shuffle=False,
            verbose=0,
        )
        found |= {"after": perplexity(self._logits, self.test), **self._texts("after")}
        moved = model.trainable_variables
        return found | {
            "losses": each.losses,
            "seconds": np.diff(each.times).tolist(),
            "without decay": sum(not optimizer._use_weight_decay(v) for v in moved),
            "weights": int(sum(np.prod(v.shape) for v in moved)),
        }

    def _logits(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        return self.pipe.model.predict_on_batch({n: batch[n] for n in self.pipe.inputs})

    def _texts(self, when: str) -> dict[str, float]:
        """Scores of texts that are written greedily, for the data that have them."""
        from kerasft.metrics import generation_scores

        if not self.form["scores"]:
            return {}
        rows = next(iter(self.sources["test"].chunks(WRITTEN)))
        answers = [answer["completion"] for answer in self.pipe.predict(rows["text"])]
        scores = generation_scores(rows["target"], answers, **self.task.scoring()["options"])
        return {f"{name} {when}": scores[name] for name in self.form["scores"]}


def _steps(fitted: Any) -> Any:
    """A callback with the loss of each step alone, and when it ended."""
    import keras

    class Steps(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.losses, self.times = [], []

        def on_train_begin(self, logs=None):
            self.times.append(time.perf_counter())

        def on_train_batch_begin(self, batch, logs=None):
            fitted.metrics[0].reset_state()

        def on_train_batch_end(self, batch, logs=None):
            self.losses.append(float(logs["loss"]))
            self.times.append(time.perf_counter())

    return Steps()


def with_trainer(python: str, side: Side, out: Path) -> dict[str, Any]:
    """The Trainer's side, on the batches that kerasft makes."""
    batches = side.batches()
    told = side.job | {
        "train": numbered(out / "train.npz", batches),
        "test": numbered(out / "test.npz", side.test),
        "warmup": side.job["warmup_steps"],
        "cores": harness.cores(),
    }
    found = harness.other_python(python, "_text_side.py", told)
    if len(found["losses"]) != len(batches):
        raise SystemExit(f"The Trainer made {len(found['losses'])} steps of {len(batches)}.")
    return found


def summary(found: dict[str, dict], side: Side) -> dict[str, Any]:
    """What counts of both sides, and how they compare."""
    batches, sides = side.batches(), {n: found[n] for n in ("trainer", "kerasft")}
    values: dict[str, Any] = {
        "steps": len(batches),
        "learned tokens a step": float(np.mean([(b["targets"] >= 0).sum() for b in batches])),
        "positions a step": float(np.mean([b["targets"].size for b in batches])),
        "rows to train on": len(side.feeds["train"].rows),
        "test rows": len(side.feeds["test"].rows),
        "learned tokens of the test": int(sum((b["targets"] >= 0).sum() for b in side.test)),
    }
    for when in ("before", "after"):
        values |= {f"{name} perplexity {when}": each[when] for name, each in sides.items()}
    ours, theirs = (np.array(sides[name]["losses"]) for name in ("kerasft", "trainer"))
    apart = np.abs(ours - theirs)
    values["largest difference of a step's loss"] = float(apart.max())
    values["mean difference of a step's loss"] = float(apart.mean())
    # The first step of kerasft traces its graph.
    for name, each in sides.items():
        values[f"{name} seconds of the first step"] = each["seconds"][0]
        values[f"{name} seconds of the steps after it"] = sum(each["seconds"][1:])
        values[f"{name} weights without decay"] = each["without decay"]
        values[f"{name} trained numbers"] = each["weights"]
    keys = [f"{name} seconds of the steps after it" for name in ("kerasft", "trainer")]
    values["time of these steps, kerasft over trainer"] = values[keys[0]] / values[keys[1]]
    whole = [sum(sides[name]["seconds"]) for name in ("kerasft", "trainer")]
    values["time of all steps, kerasft over trainer"] = whole[0] / whole[1]
    texts = min(WRITTEN, len(side.feeds["test"].rows))
    for name in side.form["scores"]:
        for when in ("before", "after"):
            key = f"{name} {when}"
            values[f"kerasft {key}, {texts} greedy texts"] = sides["kerasft"][key]
    return values


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .jsonl files")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--torch-python", required=True, help="interpreter with torch")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-rows", type=int, default=60, help="drawn by seed 0")
    parser.add_argument("--max-length", type=int, default=64, help="token ids in a row")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--no-record", action="store_true", help="print, write no run file")
    return parser.parse_args()


def job_of(args: argparse.Namespace) -> dict[str, Any]:
    """What both sides are told."""
    with (args.data / "train.jsonl").open(encoding="utf-8") as file:
        row = json.loads(file.readline())
    form = next((name for name in DATA if name in row), None)
    if form is None:
        raise SystemExit(f"{args.data.name} has none of the columns {', '.join(DATA)}.")
    return {
        "form": form,
        "data": str(args.data),
        "model": str(args.model),
        "steps": args.steps,
        "seed": args.seed,
        "test_rows": args.test_rows,
        "max_length": args.max_length,
        "batch_size": args.batch_size,
        "learning_rate": args.lr,
        # As a share of the steps the Trainer would round it up.
        "warmup_steps": round(args.steps * FIXED["warmup"]),
        **FIXED,
    }


def main() -> int:
    """Run both sides, one after the other, and record the run."""
    args = parse()
    # Torch's threads wait for each other in loops, so that times of a busy machine say nothing.
    load = f"load of the machine at the start={os.getloadavg()[0]:.1f}"
    job = job_of(args)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        side = Side(job, out)
        sides: dict[str, Callable] = {
            "trainer": lambda _: with_trainer(args.torch_python, side, out),
            "kerasft": lambda _: side.train(),
        }
        found = {name: runs[0] for name, runs in harness.in_turns([args.seed], **sides).items()}
        values = summary(found, side)
    if args.no_record:
        print(json.dumps({"load": load, "values": values, "sides": found}, indent=1))
        return 0
    return harness.finish(record(args, job, values, found, load))


def record(
    args: argparse.Namespace, job: dict, values: dict, found: dict[str, dict], load: str
) -> Path:
    """The run file: 3 % of perplexity, and learning at all."""
    after = values["kerasft perplexity after"]
    bounds = [
        harness.Bound(name, after / values[key], "<=", limit)
        for name, key, limit in (
            ("perplexity after, kerasft over trainer", "trainer perplexity after", 1.03),
            ("kerasft's perplexity, after over before", "kerasft perplexity before", 1.0),
        )
    ]
    raw = {f"{name} {key}": found[name][key] for name in found for key in ("losses", "seconds")}
    used = ("max_length", "batch_size", "learning_rate", "warmup_steps", "weight_decay")
    told = [f"{name}={job[name]}" for name in (*used, "clip_norm")]
    cut = {
        "turns": "chats lose what is behind their first",
        "summary": f"of articles the first {ARTICLE} words are read, and rows taken that fit into",
        "zh": "rows are taken that fit into",
    }[job["form"]]
    return harness.record(
        f"vs-trainer-{args.data.name}-{args.model.name}",
        f"The same fine-tuning of {args.model.name} on {args.data.name} with kerasft and with "
        f"Hugging Face's Trainer ({found['trainer']['class']}), from the same weights on the same "
        f"encoded batches; {cut} {args.max_length} token ids. Perplexity of the learned tokens of "
        f"{values['test rows']} test rows, drawn by seed 0, from both sides' logits by one "
        "function. Greedy texts have no bound.",
        values=values,
        bounds=bounds,
        raw={"settings": [*told, load]} | raw,
        seeds=[args.seed],
        packages=found["trainer"]["packages"],
    )


if __name__ == "__main__":
    sys.exit(main())
