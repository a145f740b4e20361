"""Make tests/golden/spans.json: entities and scores of random tags, by seqeval.

    pip install seqeval && python benchmarks/make_spans.py

kerasft counts itself: seqeval 1.2.2 is of 2020 and takes tags, not entities. Some rows keep to
their scheme and some do not.
"""

import json
import random
import warnings
from pathlib import Path

from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
LETTERS = {"BIO": "BI", "IOBES": "BIES"}
LABELS = ("PER", "LOC", "MISC-2")


def row(letters: str, length: int, rng: random.Random) -> list[str]:
    """Tags at random; labels often stay, so that some entities are whole."""
    tags, label = [], LABELS[0]
    for _ in range(length):
        label = rng.choice(LABELS) if rng.random() < 0.4 else label
        tags.append("O" if rng.random() < 0.3 else f"{rng.choice(letters)}-{label}")
    return tags


def changed(tags: list[str], letters: str, rng: random.Random) -> list[str]:
    """The tags with about a third drawn anew."""
    other = row(letters, len(tags), rng)
    return [o if rng.random() < 0.3 else t for t, o in zip(tags, other, strict=True)]


def main() -> None:
    """Write tags, entities (the end exclusive) and scores for each scheme."""
    rng, found = random.Random(0), {}
    for scheme, letters in LETTERS.items():
        true = [row(letters, rng.randint(0, 12), rng) for _ in range(30)]
        pred = [changed(tags, letters, rng) for tags in true]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = classification_report(true, pred, output_dict=True)
        scores = {k: {n: float(v) for n, v in s.items()} for k, s in scores.items()}
        spans = [[[a, b, c + 1] for a, b, c in get_entities(tags)] for tags in true]
        pairs = {"true": true, "pred": pred}
        found[scheme] = pairs | {"spans": spans, "scores": scores}
    text = json.dumps(found, separators=(",", ":"))
    (GOLDEN / "spans.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
