"""How long a training takes to its first step, and how long a step: our AdamW beside Keras' own.

    python benchmarks/first_step.py --model MINILM [--rounds 3]

MINILM is a Hugging Face folder. A classifier of 4 labels is fitted as `kerasft.train` does it on
batches of 16 rows of 64 random ids, by `kerasft.optimizers.adamw` and by `keras.optimizers.AdamW`
with the same decay and clipping, in turns; each fit is a process of its own. The first step is
counted from the call of `fit`, so the graph is made in it.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import _harness as harness

ROWS, LENGTH, STEPS, LIMIT = 16, 64, 12, 5.0
SIDES = ("ours", "keras")


def optimizer_of(side: str, model: Any) -> Any:
    """The same AdamW, by us or by Keras."""
    import keras

    from kerasft.optimizers import WarmupDecay, adamw

    rate = WarmupDecay(5e-5, steps=100, warmup=10)
    if side == "ours":
        return adamw(rate, model)
    made = keras.optimizers.AdamW(rate, weight_decay=0.01, epsilon=1e-8, global_clipnorm=1.0)
    made.exclude_from_weight_decay([v for v in model.trainable_variables if len(v.shape) < 2])
    return made


def batches(model: Any, seed: int) -> Any:
    """Batches of unknown sizes, as those of a training are."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(seed)
    names = [i.name for i in model.inputs]

    def made() -> Iterator[tuple]:
        for _ in range(STEPS):
            x = {name: np.ones((ROWS, LENGTH), np.int32) for name in names}
            x["token_ids"] = random.integers(1000, 20000, (ROWS, LENGTH)).astype(np.int32)
            x |= {name: 0 * x[name] for name in names if name.startswith("segment")}
            yield x, random.integers(0, 4, ROWS).astype(np.int32)

    spec = {name: tf.TensorSpec((None, None), tf.int32) for name in names}
    signature = spec, tf.TensorSpec((None,), tf.int32)
    return tf.data.Dataset.from_generator(made, output_signature=signature).prefetch(2)


def fit(folder: Path, side: str, seed: int) -> dict[str, float]:
    """Fit some steps; seconds, and seconds of the processor, of the first and of a later one."""
    import keras

    import kerasft as kf
    from kerasft._core import memory
    from kerasft._core.seeds import set_seed
    from kerasft.training.fitted import compiled

    set_seed(seed)
    task = kf.tasks.TextClassification(labels=("a", "b", "c", "d"))
    model = kf.build(str(folder), task)
    fitted = compiled(model, task, optimizer_of(side, model))
    memory.keep_freed()  # as a feed of a training does
    rows = batches(model, seed)
    ends = []

    def note(*_: Any, **__: Any) -> None:
        ends.append((time.perf_counter(), time.process_time()))

    watch = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    note()
    fitted.fit(rows, steps_per_epoch=STEPS, callbacks=[watch], shuffle=False, verbose=0)
    first, *later = [(b - a, d - c) for (a, c), (b, d) in zip(ends, ends[1:], strict=False)]
    later = later[1:]  # the second still finds memory that is new
    return {
        "first_seconds": first[0],
        "first_processor_seconds": first[1],
        "step_seconds": median(s for s, _ in later),
        "step_processor_seconds": median(s for _, s in later),
        "nodes": nodes(fitted, rows),
    }


def nodes(fitted: Any, rows: Any) -> int:
    """How many nodes the graph of a step has."""
    import tensorflow as tf

    step = tf.function(fitted.train_step)
    return len(step.get_concrete_function(rows.element_spec).graph.get_operations())


def child(folder: Path, side: str, seed: int) -> dict[str, float]:
    """`fit` in a process of its own."""
    command = [sys.executable, __file__, "--model", str(folder), "--side", side]
    done = subprocess.run(
        [*command, "--seed", str(seed)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    """Fit in turns and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="fit once by it and print what was measured")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.side is not None:
        print(json.dumps(fit(args.model, args.side, args.seed)))
        return 0
    seeds = list(range(args.rounds))
    found = harness.in_turns(
        seeds, **{side: lambda seed, side=side: child(args.model, side, seed) for side in SIDES}
    )
    values = {
        f"{key}, {side}": median(run[key] for run in runs)
        for side, runs in found.items()
        for key in runs[0]
    }
    for key in ("first_seconds", "step_seconds"):
        pairs = zip(found["ours"], found["keras"], strict=True)
        values[f"{key}, ours / keras"] = median(a[key] / b[key] for a, b in pairs)
    name = "step_seconds, ours / keras"
    path = harness.record(
        f"first-step-{args.model.name}",
        f"A classifier on {args.model.name}, {ROWS} rows of {LENGTH} ids a batch, all weights "
        "learn: from the call of `fit` to the end of the first step (its graph is made in it), and "
        "a later step, by kerasft's AdamW and by Keras' own, in turns, a process each. Medians.",
        values=values,
        bounds=[
            harness.Bound("first step, seconds", values["first_seconds, ours"], "<=", LIMIT),
            harness.Bound("a later step, ours / keras", values[name], "<=", 1.05),
        ],
        raw=found,
        seeds=seeds,
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
