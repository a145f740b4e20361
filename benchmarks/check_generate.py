"""Check that kerasft continues prompts with the very tokens that Transformers does.

    python benchmarks/check_generate.py --model smollm2 --torch-python PYTHON

MODEL is a Hugging Face folder of a decoder. Both take all prompts in one batch of unlike lengths,
which Transformers pads on the left and kerasft on the right.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    "To bake bread you need flour, water,",
    "def add(a, b):",
    "Water boils at one hundred degrees because",
]
TOKENS = 32
SEARCHES = {"greedy": 1, "beam 3": 3}


def generate(model: Path, end: int) -> dict[str, Any]:
    """The part that needs kerasft: ids of the prompts and of what follows, and the seconds."""
    import tensorflow as tf

    from kerasft.backbones import load
    from kerasft.generation import beam_search, step_model
    from kerasft.preprocessing import Template, pack

    backbone, tokenizer = load(model)
    ids = tokenizer(PROMPTS)  # lists, outside a graph
    packed = pack([ids], Template(pad=end), max_length=64)
    cached, found = step_model(backbone), {"prompts": ids}
    for name, beams in SEARCHES.items():
        more = {"max_new_tokens": TOKENS, "end_ids": (end,), "beams": beams}
        compiled = tf.function(
            lambda ids, mask, more=more: beam_search(cached, ids, mask, **more), autograph=False
        )
        call = compiled.get_concrete_function(packed["token_ids"], packed["padding_mask"])
        args = packed["token_ids"], packed["padding_mask"]
        out = {key: value.numpy() for key, value in call(*args).items()}
        _, seconds = harness.timed(lambda call=call, args=args: call(*args)["token_ids"].numpy())
        new = [row[:n].tolist() for row, n in zip(out["token_ids"], out["lengths"])]
        found[name] = {"ids": new, "seconds": seconds}
    return found


def same(ours: list[list[int]], theirs: list[list[int]]) -> int:
    """How many rows are the same, token for token."""
    return sum(one == other for one, other in zip(ours, theirs))


def main() -> int:
    """Compare both searches and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--torch-python", required=True, help="interpreter with torch")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    job = {"model": str(args.model), "prompts": PROMPTS, "tokens": TOKENS, "searches": SEARCHES}
    theirs = harness.other_python(args.torch_python, "_generate_side.py", job)
    ours = generate(args.model, theirs["end"])
    count = len(PROMPTS)
    bounds = [
        harness.Bound("prompts of equal ids", same(ours["prompts"], theirs["prompts"]), ">=", count)
    ]
    values: dict[str, float] = {"prompts": count, "most tokens": TOKENS}
    for name in SEARCHES:
        equal = same(ours[name]["ids"], theirs[name]["ids"])
        bounds.append(harness.Bound(f"{name}: equal continuations", equal, ">=", count))
        for side, found in (("kerasft", ours), ("transformers", theirs)):
            made = int(np.sum([len(ids) for ids in found[name]["ids"]]))
            values[f"{name}: {side}, tokens a second"] = made / found[name]["seconds"]
    path = harness.record(
        f"generate-{args.model.name}",
        "Continuations of English prompts by kerasft against Transformers, token for token, in "
        "float32; tokens a second of one batch of all prompts, tracing left out.",
        values=values,
        bounds=bounds,
        raw={"kerasft": ours, "transformers": theirs},
        packages=theirs["packages"],
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
