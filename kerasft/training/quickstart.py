"""`quickstart`: the whole way, on the embedded preset and the embedded mails, with no network."""

import os
import time
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.data import embedded
from kerasft.training.recipe import Recipe

QUESTIONS = (
    "Congratulations! You have been selected to receive a FREE cash prize. Click here now!!!",
    "Hi Tom, the patch works for me on 2.4.18, please apply it to the next release. Thanks, Anna",
)


def recipe() -> Recipe:
    """The recipe of the quickstart: BERT-Tiny on 5,893 mails, 80/10/10, two epochs.

    The first 96 tokens of a mail and two epochs are enough for a macro-F1 above 0.96, and keep
    the whole way to some 160 seconds of processor time.
    """
    return Recipe(
        preset="bert_tiny",
        data={"train": embedded("spam"), "validation": 0.1, "test": 0.1, "max_length": 96},
        training={"epochs": 2, "batch_size": 32, "learning_rate": 1e-3},
    )


def quickstart(out: str | os.PathLike = "quickstart", verbose: Any = "auto") -> Any:
    """Fine-tune the embedded BERT-Tiny to tell spam from ham, and serve it from strings.

    Writes `out/run` (model, report) and `out/saved_models/spam/1` (SavedModel), asks the
    SavedModel two questions, and prints what to do next.

    Args:
        out: a new folder.
        verbose: Keras' progress: "auto", 0, 1 or 2.

    Returns:
        The `Pipeline`.

    Raises:
        InputError: if `out` is there and not empty.

    Example:
        >>> quickstart("my-first-run")
    """
    from kerasft.training.train import train

    out, started = os.fspath(out), time.monotonic()
    if files.names(out):
        raise InputError(f"{out} exists and is not empty. Give a new folder with --out.")
    print("Fine-tuning BERT-Tiny (4.4 M weights) on 5,893 e-mails: spam or ham?\n", flush=True)
    run = files.join(out, "run")
    pipe = train(recipe(), out=run, verbose=verbose)
    pipe.report.print()
    version = pipe.export(files.join(out, "saved_models", "spam"), run=run)
    _ask(version)
    print(_next(out, run, version, time.monotonic() - started))
    return pipe


def _ask(version: str) -> None:
    """Ask the SavedModel itself, as TF Serving would."""
    import tensorflow as tf

    serve = tf.saved_model.load(version).signatures["serving_default"]
    answers = serve(text=tf.constant(QUESTIONS))
    print("The SavedModel, asked two strings:")
    for text, label, row in zip(
        QUESTIONS, answers["label"].numpy(), answers["probabilities"].numpy(), strict=True
    ):
        print(f"  {label.decode():5} {row.max():.3f}  {text}")


def _next(out: str, run: str, version: str, seconds: float) -> str:
    mine = files.join(out, "my-run")
    return f"""
Done in {seconds:.0f} s. Look at:
  {run}/report.txt, confusion.png, learning_curves.png
  {version}   the SavedModel: strings in, labels out; TF Serving loads it as it is

Next, with your own CSV (columns text,label):
  1. cp {run}/recipe.yaml recipe.yaml
  2. kerasft doctor recipe.yaml data.train=my.csv
  3. kerasft train recipe.yaml data.train=my.csv --out {mine}
  4. kerasft export {mine} saved_models/my-model"""
