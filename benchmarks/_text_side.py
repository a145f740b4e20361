"""Fine-tune a language model with Hugging Face's Trainer: a JSON job on stdin, JSON on stdout.

Run by vs_trainer_text.py under the interpreter that has torch and transformers. The batches come
encoded, in .npz files; perplexities go back.
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
from _spans_side import GivenBatches, inputs, numbered
from _text_scores import perplexity
from _trainer_side import PACKAGES, arguments


class Clock(tr.TrainerCallback):
    """When each step ends, from the beginning of the first."""

    def __init__(self):
        self.times: list[float] = []

    def on_train_begin(self, *args, **options):
        """The beginning."""
        self.times.append(time.perf_counter())

    def on_step_end(self, *args, **options):
        """The end of a step, its update included."""
        self.times.append(time.perf_counter())


class Losses(GivenBatches):
    """The Trainer on batches that are made already; it keeps each step's loss."""

    def training_step(self, *args, **options):
        """One step."""
        loss = super().training_step(*args, **options)
        self.found = [*getattr(self, "found", ()), float(loss)]
        return loss


def learned(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A batch as the model takes it: it moves the labels by one place itself."""
    labels = np.full_like(batch["targets"], -1)
    labels[:, 1:] = batch["targets"][:, :-1]
    if (batch["targets"][:, -1] >= 0).any():
        raise SystemExit("A target behind the last token cannot be handed to Transformers.")
    target = torch.from_numpy(labels).long()
    return inputs(batch) | {"labels": torch.where(target < 0, -100, target)}


def logits(model: torch.nn.Module, batch: dict[str, np.ndarray]) -> np.ndarray:
    """The logits of a batch, float32 [rows, length, vocabulary]."""
    with torch.no_grad():
        return model(**inputs(batch)).logits.numpy()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Score the test rows, train once, and score them again."""
    tr.set_seed(job["seed"])
    torch.set_num_threads(job["cores"])
    model = tr.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    train, test = numbered(job["train"]), numbered(job["test"])
    before = perplexity(lambda batch: logits(model.eval(), batch), test)
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        trainer = Losses(
            model=model,
            args=arguments(job, folder),
            train_dataset=[learned(batch) for batch in train],
            callbacks=[clock],
        )
        trainer.train()
    decayed = set(trainer.get_decay_parameter_names(model))
    return {
        "before": before,
        "after": perplexity(lambda batch: logits(model.eval(), batch), test),
        "losses": trainer.found,
        "seconds": np.diff(clock.times).tolist(),
        "without decay": sum(name not in decayed for name, _ in model.named_parameters()),
        "weights": sum(p.numel() for p in model.parameters()),
        "class": type(model).__name__,
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    tr.utils.logging.set_verbosity_error()
    tr.utils.logging.disable_progress_bar()
    print(json.dumps(run(json.load(sys.stdin))))
