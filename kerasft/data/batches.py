"""Which rows go together: shuffled, in groups of like length, the same for one seed and epoch."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft._core import memory
from kerasft._core.errors import InputError
from kerasft.data.encoded import FEATURES, STATES, Batch, Encoded, encode_rows
from kerasft.data.packing import PackedPlan
from kerasft.data.source import open_source

# Rows of so many batches are shuffled together before they are sorted by length, so that a batch
# holds texts of like length and the order over an epoch stays a real shuffle.
GROUP = 50


@dataclass(frozen=True)
class Plan:
    """The batches of every epoch, from seed and epoch alone.

    Args:
        lengths: ids in each row, of all its windows, int [rows].
        batch_size: rows in a batch; the last batch of an epoch may be smaller.
        seed: seed of the shuffle.
        shuffle: False keeps the rows in order (evaluation); then nothing is grouped either.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int = 0
    shuffle: bool = True

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, number: int) -> list[np.ndarray]:
        """Row indices of each batch of an epoch, counted from 0."""
        size, rows = self.batch_size, np.arange(len(self.lengths))
        if not self.shuffle:
            return [rows[i : i + size] for i in range(0, len(rows), size)]
        random = np.random.default_rng([self.seed, number])
        rows = random.permutation(rows)
        batches = []
        for start in range(0, len(rows), size * GROUP):
            group = rows[start : start + size * GROUP]
            group = group[np.argsort(-self.lengths[group], kind="stable")]
            batches += [group[i : i + size] for i in range(0, len(group), size)]
        # The one short batch stays last, so that every other step has the full batch size.
        full = [b for b in batches if len(b) == size]
        short = [b for b in batches if len(b) < size]
        return [full[i] for i in random.permutation(len(full))] + short

    def batch(self, rows: Encoded, chosen: np.ndarray, length: int | None) -> Batch:
        """The arrays of some rows, padded to `length` or to the longest of them."""
        weights = rows.weights[chosen] if rows.tokenwise else None
        return Batch(rows.batch(chosen, length), rows.learned(chosen, length), weights)

    def padding(self) -> float:
        """Share of the positions of epoch 0 that are padding."""
        widths = [(len(b), self.lengths[b].max()) for b in self.epoch(0)]
        positions = sum(rows * width for rows, width in widths)
        return 1.0 - float(self.lengths.sum()) / max(int(positions), 1)


@dataclass(frozen=True)
class Feed:
    """Batches as a `tf.data.Dataset`.

    Args:
        rows: the encoded rows.
        plan: which rows go together.
        inputs: names of the features that the model takes.
        length: a fixed width for every batch, or None for the longest row of each.
        draw: (batch, random state) -> batch: what changes from epoch to epoch, such as which
            tokens are masked; it follows from the plan's seed, the epoch and the step.
    """

    rows: Encoded
    plan: Plan | PackedPlan
    inputs: tuple[str, ...]
    length: int | None = None
    draw: Callable[[Batch, np.random.Generator], Batch] | None = None

    def batches(self, epoch: int = 0, step: int = 0) -> Iterator[tuple]:
        """The batches (features, targets[, weights]) of one epoch, from a step on."""
        for place, chosen in enumerate(self.plan.epoch(epoch)[step:], step):
            batch = self.plan.batch(self.rows, chosen, self.length)
            if self.draw is not None:
                batch = self.draw(batch, np.random.default_rng([self.plan.seed, epoch, place]))
            features = {name: batch.features[name] for name in self.inputs}
            if batch.weights is None:
                yield features, batch.targets
            else:
                yield features, batch.targets, batch.weights

    def once(self) -> Any:
        """A dataset of the batches of one epoch."""
        import tensorflow as tf

        made = self.dataset(self.batches)
        return made.apply(tf.data.experimental.assert_cardinality(self.plan.steps)).prefetch(2)

    def endless(self, epoch: int = 0, step: int = 0) -> Any:
        """A dataset that goes from epoch to epoch, from a position on; a resume starts inside."""

        def batches() -> Iterator[tuple]:
            yield from self.batches(epoch, step)
            for later in itertools.count(epoch + 1):
                yield from self.batches(later)

        return self.dataset(batches).prefetch(2)

    def dataset(self, batches: Callable[[], Iterator]) -> Any:
        """A dataset of what a function of batches gives, each time it is iterated."""
        import tensorflow as tf

        width = (self.length,) if self.rows.tokenwise else self.rows.targets.shape[1:]
        signature = [
            {n: self._spec(n) for n in self.inputs},
            tf.TensorSpec((None, *width), self.rows.targets.dtype),
        ]
        if self.rows.tokenwise:
            signature.append(tf.TensorSpec((None,), tf.float32))
        memory.keep_freed()
        return tf.data.Dataset.from_generator(batches, output_signature=tuple(signature))

    def _spec(self, name: str) -> Any:
        import tensorflow as tf

        shape = (None, *self.rows.axes, self.length)
        if name == STATES:
            return tf.TensorSpec((*shape, self.rows.states.shape[1]), self.rows.states.dtype)
        return tf.TensorSpec(shape, tf.int32)


def feed_of(
    task: Any,
    rows: Encoded,
    inputs: tuple[str, ...],
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    length: int | None = None,
    draw: Callable[[Batch, np.random.Generator], Batch] | None = None,
) -> Feed:
    """The batches that a model is fitted on.

    Args:
        task: the task.
        rows: its encoded rows.
        inputs: names of the model's inputs; with `document_ids` among them, rows of
            `task.max_length` ids are packed with several documents each.
        batch_size: rows in a batch.
        seed: seed of the shuffle.
        shuffle: another order in every epoch; False keeps the order.
        length: a fixed width for every batch, or None.
        draw: what changes from epoch to epoch (`draw_of`).
    """
    if "document_ids" in inputs:
        plan = PackedPlan(rows.lengths, task.max_length, batch_size, seed, shuffle)
        return Feed(rows, plan, inputs, task.max_length, draw)
    return Feed(rows, Plan(rows.lengths, batch_size, seed, shuffle), inputs, length, draw)


def draw_of(task: Any, tokenizer: Any) -> Callable | None:
    """What a task draws anew for every batch (see `Feed`), or None."""
    drawn = getattr(task, "drawn", None)
    return drawn and drawn(tokenizer)


def encoder(task: Any, tokenizer: Any, names: tuple[str, ...] | None = None) -> Callable:
    """A task's `encode` as one compiled function from lists of values to arrays.

    Training, prediction and the exported model run this same graph. A tokenizer keeps those that
    were made for it: to trace one takes longer than to encode a thousand texts.

    Args:
        task: the task.
        tokenizer: the backbone's KerasHub tokenizer.
        names: the fields that are given; those of an answer (`task.inputs`) when None.

    Returns:
        A function from field name -> list of values to feature name -> array.
    """
    import tensorflow as tf

    specs = input_specs(task, names)
    # What is read to learn from may have to be written first: a chat, as its template does.
    written = getattr(task, "written", None) if names == task.reads else None

    # vars, since Keras would take an attribute that holds a dict for a part of the layer.
    made = vars(tokenizer).setdefault("_kerasft_encoders", {})
    key = (task, tuple(specs), written is not None)
    if key in made:
        return made[key]

    # Without autograph, which would wrap an error of ours in one of TensorFlow's.
    @tf.function(input_signature=[specs], autograph=False)
    def graph(fields):
        return task.encode(tokenizer, fields)

    def encode(fields: dict[str, list]) -> dict[str, np.ndarray]:
        given = tensors_of(written(tokenizer, fields) if written else fields, specs)
        return {name: value.numpy() for name, value in graph(given).items()}

    made[key] = encode
    return encode


def kinds_of(task: Any) -> dict[str, str]:
    """The kinds of a task's fields, and of what it is asked or given that no row of data has."""
    return task.fields() | dict(getattr(task, "asked", {}))


def input_specs(task: Any, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The tensors of a task's fields: string or int32 [batch], lists of texts ragged."""
    import tensorflow as tf

    kinds = kinds_of(task)
    known = {
        "whole": tf.TensorSpec([None], tf.int32),
        "texts": tf.RaggedTensorSpec([None, None], tf.string),
    }
    text = tf.TensorSpec([None], tf.string)
    return {name: known.get(kinds[name], text) for name in names or task.inputs}


def tensors_of(fields: dict[str, list], specs: dict[str, Any]) -> dict[str, Any]:
    """Lists of values as the tensors that `input_specs` tells."""
    return {name: _tensor(fields[name], spec) for name, spec in specs.items()}


def _tensor(values: list, spec: Any) -> Any:
    import tensorflow as tf

    if isinstance(spec, tf.RaggedTensorSpec):
        flat = tf.constant([text for row in values for text in row], spec.dtype)
        return tf.RaggedTensor.from_row_lengths(flat, [len(row) for row in values])
    return tf.constant(list(values), spec.dtype)


def _evened(draw: Callable | None) -> Callable:
    """Batches whose weights have a mean of 1, as Keras' mean over rows asks for: then every token
    counts once."""

    def evened(batch: Batch, random: np.random.Generator) -> Batch:
        batch = batch if draw is None else draw(batch, random)
        mean = max(float(batch.weights.mean()), 1e-9)
        return batch._replace(weights=batch.weights / np.float32(mean))

    return evened


def batches(
    data: Any,
    task: Any,
    tokenizer: Any,
    batch_size: int = 32,
    *,
    columns: dict[str, str] | None = None,
    separator: str | None = None,
    shuffle: bool = True,
    seed: int = 0,
    pad: int = 0,
    length: int | None = None,
) -> Any:
    """Labelled rows as a dataset for `keras.Model.fit`, in batches of texts of like length.

    Args:
        data: a path or any other source of rows (see `open_source`).
        task: a task with its labels.
        tokenizer: the backbone's KerasHub tokenizer.
        batch_size: rows in a batch.
        columns: field -> column, where the two differ.
        separator: what stands between the labels of a multi-label cell; "|" when None.
        shuffle: another order in every epoch; False keeps the order of the rows.
        seed: seed of the shuffle.
        pad: the id that fills a row up (`kerasft.backbones.template_of(tokenizer).pad`). It
            matters only to a family without a mask (FNet).
        length: the width of every batch, in tokens; the longest row's when None. A family without
            a mask needs `task.max_length`, which is what its exported model is given.

    Raises:
        InputError: for a task whose examples `kerasft.train` alone knows to fit: of several
            sequences, or packed.

    Returns:
        tf.data.Dataset of (features int32 [rows, length] each, targets), one epoch long; those of
        an encoder-decoder's decoder have a length of their own.

    Example:
        >>> model.fit(batches("spam.csv", task, tokenizer, batch_size=32), epochs=3)
    """
    import tensorflow as tf

    sides = task.sides or 1  # None: a text's windows, which the model itself takes together
    if sides != 1 or getattr(task, "packing", False):
        what = "packed rows" if sides == 1 else "examples of several sequences"
        raise InputError(
            f"Keras' own `fit` knows nothing of {what}. Received: task {task.name!r}. Train it "
            "with kerasft.train."
        )
    source = open_source(data, task.fields(), columns, separator)
    rows = encode_rows(source.chunks(), encoder(task, tokenizer, task.reads), task, pad=pad)
    plan = Plan(rows.lengths, batch_size, seed, shuffle)
    names = tuple(name for name in FEATURES if name in rows.names)
    draw = draw_of(task, tokenizer)
    if rows.tokenwise:
        draw = _evened(draw)
    feed = Feed(rows, plan, names, length, draw)
    epochs = itertools.count()
    made = feed.dataset(lambda: feed.batches(next(epochs)))
    return made.apply(tf.data.experimental.assert_cardinality(plan.steps)).prefetch(2)
