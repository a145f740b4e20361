"""The embedded mails with the embedded BERT-Tiny and with a larger model, on one split.

    python benchmarks/spam_models.py --model minilm

MODEL is a Hugging Face folder. Both are fine-tuned with the method `full`; the larger one has to
be better on the same test mails.
"""

import argparse
import sys
from pathlib import Path

import _harness as harness


def scores_of(recipe) -> dict:
    """Scores of one training on the test mails, and the split's digest."""
    import kerasft as kf
    from kerasft.training.prepare import prepare_data

    split = prepare_data(recipe).split.sha256
    found = kf.train(recipe, verbose=2).report.to_json()
    return {key: found[key] for key in ("accuracy", "macro_f1", "fit_seconds")} | {"split": split}


def main() -> int:
    """Train both and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the larger model")
    parser.add_argument("--lr", type=float, default=5e-5, help="its learning rate")
    args = parser.parse_args()
    from kerasft.training.quickstart import recipe

    larger = recipe().replace(
        f"preset={args.model}",
        f"training.epochs={args.epochs}",
        f"training.learning_rate={args.lr}",
    )
    runs = {"bert_tiny": scores_of(recipe()), args.model.name: scores_of(larger)}
    tiny, large = runs.values()
    if tiny.pop("split") != large.pop("split"):
        raise SystemExit("The two runs were not on one split.")
    values = {f"{name} {key}": value for name, run in runs.items() for key, value in run.items()}
    path = harness.record(
        f"spam-{args.model.name}",
        f"The embedded mails with bert_tiny and with {args.model.name}, method full, one split.",
        values=values,
        bounds=[
            harness.Bound("macro_f1 of bert_tiny", tiny["macro_f1"], ">=", 0.95),
            harness.Bound(
                f"macro_f1 of {args.model.name}, more than bert_tiny's",
                large["macro_f1"] - tiny["macro_f1"],
                ">=",
                1e-9,
            ),
        ],
        seeds=[recipe().seed],
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
