"""Request logs of a made-up model of opinions, and the reference that belongs to them."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np

from kerasft.export.profile import Feature, Reference, Shares

LABELS = ("negative", "neutral", "positive")
SHARES = (0.2, 0.5, 0.3)
MOVED = (0.45, 0.3, 0.25)
BEGIN = datetime(2026, 1, 5, 8, tzinfo=UTC)
RULES = """\
- name: negative-jump
  quantity: class_share
  label: negative
  rises_by: 0.15
  least: 50 rows
  for: 2 windows
"""


def features(draw, rows, longer=0.0):
    """Tokens, characters and share of unknown tokens of `rows` texts."""
    tokens = draw.poisson(20 + longer, rows) + 3
    return {
        "text_characters": tokens * 5 + draw.integers(0, 5, rows),
        "text_tokens": tokens,
        "text_unknown": draw.binomial(tokens, 0.02) / tokens,
    }


def reference(labels=LABELS, rows=5000):
    draw = np.random.default_rng(12345)
    found = {name: Feature.of(v) for name, v in features(draw, rows).items()}
    found["confidence"] = Feature.of(draw.beta(8, 2, 2000))
    counts = dict(zip(labels, (int(2000 * s) for s in SHARES), strict=False))
    shares = Shares(2000, counts, "predicted on test")
    return Reference("text-classification", labels, found, shares, None, 100)


def rows(seed, count=1000, jump=None, step=1.0, longer=0.0, model="desk"):
    """Rows of a log, a second apart; from row `jump` on the opinions are those of MOVED."""
    draw = np.random.default_rng(seed)
    told, sure = features(draw, count, longer), draw.beta(8, 2, count)
    calm = count if jump is None else jump
    chosen = [*draw.choice(3, calm, p=SHARES), *draw.choice(3, count - calm, p=MOVED)]
    for i in range(count):
        time = BEGIN + timedelta(seconds=i * step)
        yield {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "model": model,
            "version": 1,
            "inputs": {},
            "features": {name: float(values[i]) for name, values in told.items()},
            "outputs": {
                "label": LABELS[chosen[i]],
                "probabilities": [float(sure[i]), *[(1 - float(sure[i])) / 2] * 2],
            },
        }


def write(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return str(path)
