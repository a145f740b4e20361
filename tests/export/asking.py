"""What exported tasks are asked, and what their pipelines answer."""

import functools

import numpy as np
import tensorflow as tf

from kerasft.data import input_specs, kinds_of, tensors_of

load = functools.cache(tf.saved_model.load)  # a folder is loaded once: that takes seconds


def fields_of(task, texts):
    """A list of values for every input of a task, another order of the texts for each."""
    kinds, rows = kinds_of(task), len(texts)
    made = {
        "text": texts,
        "whole": [i % 5 for i in range(rows)],
        "texts": [("good", "so so", "bad")[: 2 + i % 2] for i in range(rows)],
    }
    return {n: made[kinds[n]][i:] + made[kinds[n]][:i] for i, n in enumerate(task.inputs)}


def served_form(fields):
    """The values as a client sends them: lists of one length, padded with ""."""

    def whole(values):
        if not isinstance(values[0], tuple):
            return values
        most = max(map(len, values))
        return [[*row, *[""] * (most - len(row))] for row in values]

    return {name: whole(values) for name, values in fields.items()}


def expected(pipe, fields):
    """The pipeline's answers as arrays."""
    if hasattr(pipe.task, "answer"):
        found = pipe.asked(tensors_of(fields, input_specs(pipe.task)))
    else:
        features = pipe.encode(fields)
        found = pipe.task.decode(pipe.outputs(features), features)
    return {name: np.asarray(value) for name, value in found.items()}
