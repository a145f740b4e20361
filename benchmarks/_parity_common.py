"""What both sides of the parity check share, in numpy alone: texts, head, adapter, samples."""

import json
import shutil
from pathlib import Path

import numpy as np
from _golden_texts import TARGETS, TEXTS
from safetensors.numpy import load_file, save_file

MAX_LENGTH = 64
RATE = 0.01
SEED = 7
RANK, ALPHA = 8, 16
LABELS = ["bad", "good", "ugly"]
SAMPLES = 16
__all__ = ["TARGETS", "TEXTS"]


def folder_with_head(model: Path, out: Path) -> Path:
    """A copy of a BERT folder as BertForSequenceClassification with a drawn head of 3 labels."""
    out.mkdir(parents=True)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["BertForSequenceClassification"]
    config["id2label"] = {str(i): name for i, name in enumerate(LABELS)}
    config["label2id"] = {name: i for i, name in enumerate(LABELS)}
    (out / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    for path in model.iterdir():
        if path.is_file() and path.suffix in {".txt", ".json"} and path.name != "config.json":
            shutil.copyfile(path, out / path.name)
    weights = {
        f"bert.{name.removeprefix('bert.')}": value
        for name, value in load_file(model / "model.safetensors").items()
        if not name.endswith("position_ids")
    }
    random = np.random.default_rng(SEED)
    shape = (len(LABELS), config["hidden_size"])
    weights["classifier.weight"] = random.normal(0, 0.3, shape).astype("float32")
    weights["classifier.bias"] = random.normal(0, 0.3, len(LABELS)).astype("float32")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


def adapter(blocks: int, width: int) -> dict[str, np.ndarray]:
    """A [rank, width] and B [width, rank] for query and value of each block, by PEFT's names."""
    random = np.random.default_rng(SEED + 1)
    found = {}
    for block in range(blocks):
        for role in ("query", "value"):
            path = f"base_model.model.bert.encoder.layer.{block}.attention.self.{role}"
            for part, shape in (("lora_A", (RANK, width)), ("lora_B", (width, RANK))):
                found[f"{path}.{part}.weight"] = random.normal(0, 0.05, shape).astype("float32")
    return found


def samples(weights: dict[str, np.ndarray]) -> np.ndarray:
    """Evenly spread values of each weight, by name: float32 [weights, SAMPLES]."""
    rows = []
    for name in sorted(weights):
        flat = weights[name].reshape(-1)
        rows.append(flat[np.linspace(0, flat.size - 1, SAMPLES).astype(int)])
    return np.stack(rows).astype("float32")
