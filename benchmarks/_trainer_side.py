"""Fine-tune with Hugging Face's Trainer: a JSON job on stdin, a JSON answer as the last line.

Run by vs_trainer.py under the interpreter that has torch and transformers.
"""

import json
import os
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import transformers as tr
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import DataLoader

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers")


def read(path: str) -> list[dict[str, str]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def features(rows: list[dict], tokenizer, labels: list[str], max_length: int) -> list[dict]:
    """Token ids, cut to max_length, and the label's number."""
    coded = tokenizer([row["text"] for row in rows], truncation=True, max_length=max_length)
    numbers = [labels.index(row["label"]) for row in rows]
    keys = list(coded)
    return [{k: coded[k][i] for k in keys} | {"labels": n} for i, n in enumerate(numbers)]


def arguments(job: dict[str, Any], folder: str) -> tr.TrainingArguments:
    """The same recipe as kerasft's: linear warm-up and decay, no decay on biases and norms."""
    return tr.TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,  # the batches of all epochs follow one another
        per_device_train_batch_size=job["batch_size"],
        per_device_eval_batch_size=4 * job["batch_size"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=job["warmup"],
        weight_decay=job["weight_decay"],
        max_grad_norm=job["clip_norm"],
        optim="adamw_torch",
        seed=job["seed"],
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


class SameBatches(tr.Trainer):
    """The Trainer on given batches: lists of row numbers, one list a step."""

    def get_train_dataloader(self):
        """Rows in the order of the other side."""
        return DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator
        )


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train once and score on the test rows."""
    tr.set_seed(job["seed"])
    train, test = read(job["train"]), read(job["test"])
    labels = sorted({row["label"] for row in train})
    tokenizer = tr.AutoTokenizer.from_pretrained(job["model"])
    model = tr.AutoModelForSequenceClassification.from_pretrained(
        job["model"], num_labels=len(labels)
    )
    data = [features(rows, tokenizer, labels, job["max_length"]) for rows in (train, test)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = SameBatches(
            model=model,
            args=arguments(job, folder),
            train_dataset=data[0],
            data_collator=tr.DataCollatorWithPadding(tokenizer),
        )
        trainer.batches = job["batches"]
        start = time.perf_counter()
        loss = trainer.train().training_loss
        seconds = time.perf_counter() - start
        answers = trainer.predict(data[1])
    truth, guesses = answers.label_ids, np.argmax(answers.predictions, axis=-1)
    return {
        "accuracy": float(accuracy_score(truth, guesses)),
        "macro_f1": float(f1_score(truth, guesses, average="macro")),
        "fit_seconds": seconds,
        "train_loss": float(loss),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    tr.utils.logging.set_verbosity_error()
    tr.utils.logging.disable_progress_bar()
    print(json.dumps(run(json.load(sys.stdin))))
