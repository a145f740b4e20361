"""Many adapters in one SavedModel: time, size and answers beside one adapter alone.

    python benchmarks/many_adapters.py --model MINILM [--decoder SMOLLM2] [--adapters 64]

Each adapter is LoRA of rank 8 on query and value with random numbers in A and B, and a head of its
own. A batch in which every row names another adapter is timed against the SavedModel of one
adapter alone, in turns; its answers are compared with those of the adapters' own pipelines.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

LENGTH, ROWS, ROUNDS, NEW = 32, 32, 15, 16
LORA = {"name": "lora", "rank": 8, "targets": ["query", "value"]}
WORDS = ["the", "market", "fell", "after", "a", "strong", "report", "on", "rates", "and", "oil"]
SLOWER, APART, LARGER = 1.5, 1e-5, 1.02


def randomize(pipe: Any, seed: int) -> None:
    """Another adapter and head for a pipeline."""
    from kerasft.methods import adapter_weights, set_adapter_weights

    random = np.random.default_rng(seed)
    own = adapter_weights(pipe.backbone)
    drawn = {n: random.normal(0, 0.02, v.shape).astype(v.dtype) for n, v in own.items()}
    set_adapter_weights(pipe.backbone, drawn, "random numbers")
    for variable in pipe.head_variables:
        variable.assign(random.normal(0, 0.05, variable.shape))


def texts_of(rows: int, tokens: int) -> list[str]:
    """Texts of about so many tokens each."""
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, tokens)) for _ in range(rows)]


def size_of(folder: str) -> int:
    """Bytes of the weights of a SavedModel."""
    return sum(f.stat().st_size for f in (Path(folder) / "variables").iterdir())


def measured(model: Path, task: Any, count: int, rows: int, rounds: int) -> dict[str, Any]:
    """Export `count` adapters together and one alone; compare and time both."""
    import tensorflow as tf

    import kerasft as kf
    from kerasft.methods import adapt

    def made(method: Any) -> Any:
        backbone, tokenizer = kf.backbones.load(str(model))
        return kf.Pipeline(task.build(adapt(backbone, method)), tokenizer, task)

    field = task.inputs[0]
    with tempfile.TemporaryDirectory() as place:
        many, one = kf.AdapterSet(made("full")), made(LORA)
        texts = texts_of(rows, LENGTH - 4)
        names = [f"customer-{i}" for i in range(count)]
        asked = [names[i * 7 % count] for i in range(rows)]
        alone, added = {}, 0
        for seed, name in enumerate(names, 1):
            randomize(one, seed)
            path = os.path.join(place, f"{name}.safetensors")
            one.save_adapter(path)
            added += os.path.getsize(path)
            many.attach(name, path)
            for row in (r for r in range(rows) if asked[r] == name):
                alone[row] = one.predict([texts[row]])[0]
        single = one.export(os.path.join(place, "one"))
        together = many.export(os.path.join(place, "many"))
        served = {
            n: tf.saved_model.load(f).signatures["serving_default"]
            for n, f in (("one", single), ("many", together))
        }
        text, adapter = tf.constant(texts), tf.constant(asked)
        calls = {
            "one": lambda _: harness.timed(lambda: served["one"](**{field: text}))[1],
            "many": lambda _: harness.timed(
                lambda: served["many"](**{field: text, "adapter": adapter})
            )[1],
            "one_row": lambda _: harness.timed(lambda: served["one"](**{field: text[:1]}))[1],
            "many_row": lambda _: harness.timed(
                lambda: served["many"](**{field: text[:1], "adapter": adapter[:1]})
            )[1],
        }
        harness.in_turns(range(2), **calls)
        seconds = harness.in_turns(range(rounds), **calls)
        got = served["many"](**{field: text, "adapter": adapter})
        worst, same = 0.0, 0
        for row, answer in alone.items():
            for name, value in answer.items():
                have = got[name][row].numpy()
                if name in ("probabilities", "logits"):
                    want = np.asarray(value, np.float32)
                    worst = max(
                        worst, float(np.abs(have - want).max() / max(1, np.abs(want).max()))
                    )
                elif isinstance(value, str):
                    same += have.decode() == value
        return {
            "seconds": seconds,
            "apart": worst,
            "texts": same,
            "base": size_of(single),
            "size": size_of(together),
            "added": added,
        }


def main() -> int:
    """Measure the encoder, and the decoder where one is given."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of an encoder")
    parser.add_argument("--decoder", type=Path, help="folder of a decoder")
    parser.add_argument("--adapters", type=int, default=64)
    args = parser.parse_args()
    from kerasft.tasks import CausalLM, TextClassification

    jobs = {"encoder": (args.model, TextClassification(labels=("a", "b", "c"), max_length=LENGTH))}
    if args.decoder:
        jobs["decoder"] = (args.decoder, CausalLM(max_length=LENGTH, max_new_tokens=NEW))
    values: dict[str, Any] = {}
    bounds, raw = [], {}
    for kind, (model, task) in jobs.items():
        rows, rounds = (ROWS, ROUNDS) if kind == "encoder" else (8, 5)
        found = raw[kind] = measured(model, task, args.adapters, rows, rounds)
        middle = {name: float(np.median(v)) for name, v in found["seconds"].items()}
        values |= {
            f"{kind}: time, {rows} rows of {rows} adapters": middle["many"] / middle["one"],
            f"{kind}: time, one row": middle["many_row"] / middle["one_row"],
            f"{kind}: milliseconds of one adapter, {rows} rows and one row": [
                1000 * middle["one"],
                1000 * middle["one_row"],
            ],
            f"{kind}: equal texts of {rows}": found["texts"],
            f"{kind}: MiB with one adapter, with {args.adapters}": [
                found["base"] / 2**20,
                found["size"] / 2**20,
            ],
        }
        whole = found["base"] + found["added"]
        bounds += [
            harness.Bound(
                f"{kind}: time beside one adapter", middle["many"] / middle["one"], "<=", SLOWER
            ),
            harness.Bound(
                f"{kind}: size beside base and adapters", found["size"] / whole, "<=", LARGER
            ),
        ]
        if kind == "encoder":
            bounds.append(harness.Bound("encoder: answers apart", found["apart"], "<=", APART))
        bounds.append(
            harness.Bound(f"{kind}: rows with another text", rows - found["texts"], "<=", 0)
        )
    return harness.finish(
        harness.record(
            "many-adapters",
            f"{args.adapters} LoRA adapters of rank 8 in one SavedModel, every row of a batch with "
            f"another one, beside the SavedModel of one adapter; texts of {LENGTH} tokens, medians "
            f"of calls in turns. The decoder writes {NEW} tokens, greedily.",
            values=values,
            bounds=bounds,
            raw=raw,
            seeds=[0],
        )
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
