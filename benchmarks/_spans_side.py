"""Fine-tune a head for tags or for answers with Hugging Face's Trainer: a JSON job on stdin.

Run by vs_trainer_spans.py under the interpreter that has torch and transformers. The batches come
encoded, in an .npz file; the logits of the test rows go back in another.
"""

import json
import sys
import tempfile
import time
from importlib import metadata
from typing import Any

import numpy as np
import torch
import transformers as tr
from _trainer_side import PACKAGES, arguments
from torch.utils.data import DataLoader

CLASSES = {
    "tags": tr.AutoModelForTokenClassification,
    "answers": tr.AutoModelForQuestionAnswering,
}
NAMES = {
    "token_ids": "input_ids",
    "padding_mask": "attention_mask",
    "segment_ids": "token_type_ids",
}
EVALUATED = 32  # rows in a batch of the test


class GivenBatches(tr.Trainer):
    """The Trainer on batches that are made already."""

    def get_train_dataloader(self):
        """The batches as they are."""
        return DataLoader(self.train_dataset, batch_size=None)


def numbered(path: str) -> list[dict[str, np.ndarray]]:
    """The arrays of a file by their number, from names as `3/token_ids`."""
    found: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path) as file:
        for name in file.files:
            number, key = name.split("/")
            found.setdefault(int(number), {})[key] = file[name]
    return [found[number] for number in sorted(found)]


def inputs(features: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """What the model is given, under Transformers' names."""
    return {NAMES[n]: torch.from_numpy(v).long() for n, v in features.items() if n in NAMES}


def learned(batch: dict[str, np.ndarray], problem: str) -> dict[str, torch.Tensor]:
    """A batch with its targets."""
    target = torch.from_numpy(batch["targets"]).long()
    if problem == "answers":
        return inputs(batch) | {"start_positions": target[:, 0], "end_positions": target[:, 1]}
    return inputs(batch) | {"labels": torch.where(target < 0, -100, target)}


def logits(model: torch.nn.Module, features: dict[str, np.ndarray]) -> np.ndarray:
    """The logits of rows, float32 [rows, length, n], 0 on padding; rows of like length together."""
    sizes = features["padding_mask"].sum(axis=1)
    out = None
    for rows in np.array_split(np.argsort(-sizes), -(-len(sizes) // EVALUATED)):
        width = int(sizes[rows].max())
        batch = inputs({n: v[rows, :width] for n, v in features.items()})
        with torch.no_grad():
            found = model(**batch)
        if "start_logits" in found:
            given = torch.stack([found.start_logits, found.end_logits], dim=-1)
        else:
            given = found.logits
        if out is None:
            out = np.zeros((*features["padding_mask"].shape, given.shape[-1]), np.float32)
        out[rows, :width] = (given * batch["attention_mask"][:, :, None]).numpy()
    return out


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Answer the test rows, train once, and answer them again."""
    tr.set_seed(job["seed"])
    torch.set_num_threads(job["cores"])
    model = CLASSES[job["problem"]].from_pretrained(job["folder"])
    train = [learned(batch, job["problem"]) for batch in numbered(job["train"])]
    test = numbered(job["test"])
    found = {f"before/{i}": logits(model.eval(), chunk) for i, chunk in enumerate(test)}
    with tempfile.TemporaryDirectory() as folder:
        trainer = GivenBatches(model=model, args=arguments(job, folder), train_dataset=train)
        start = time.perf_counter()
        loss = trainer.train().training_loss
        seconds = time.perf_counter() - start
    found |= {f"after/{i}": logits(model.eval(), chunk) for i, chunk in enumerate(test)}
    np.savez(job["logits"], **found)
    return {
        "fit_seconds": seconds,
        "train_loss": float(loss),
        "steps": int(trainer.state.global_step),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    tr.utils.logging.set_verbosity_error()
    tr.utils.logging.disable_progress_bar()
    print(json.dumps(run(json.load(sys.stdin))))
