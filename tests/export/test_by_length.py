"""The served graph runs rows of like length together, and answers each as the pipeline does."""

import numpy as np
import pytest
import tensorflow as tf
from asking import expected, fields_of

from kerasft.data import input_specs, tensors_of
from kerasft.pipeline import forward

TEXTS = ["good", "the film was good " * 4, "", "bad!", "free prize " * 9, "call now", "a" * 50]
KINDS = ["one text", "entities"]
MORE = [
    "answers",
    "relations",
    "embeddings",
    "asked labels",
    "a pair",
    "decoder of byte pairs",
    "mean of a sentencepiece encoder",
    "both ends",
]
MORE += ["labels by likelihood", "several labels"]


@pytest.fixture
def passes(monkeypatch):
    """Tiny models, whose passes cost nothing, run each length by itself; the passes are counted."""
    made, plain = [], forward.in_groups

    def counted(run, *given, **options):
        def one(part):
            tf.py_function(lambda ids: made.append(tuple(ids.shape)), [part["token_ids"]], [])
            return run(part)

        return plain(one, *given, **options)

    monkeypatch.setattr(forward, "_STARTED", 0)
    monkeypatch.setattr(forward, "in_groups", counted)
    return made


def answered(pipe, fields):
    specs = input_specs(pipe.task)
    ask = tf.function(pipe.answers, input_signature=[specs], autograph=False)
    return {n: v.numpy() for n, v in ask(tensors_of(fields, specs)).items()}


@pytest.mark.parametrize("name", [*KINDS, *(pytest.param(n, marks=pytest.mark.slow) for n in MORE)])
def test_groups_are_answered_as_the_pipeline_answers(kind, passes, name):
    pipe = kind(name)
    fields = fields_of(pipe.task, TEXTS)
    want, got = expected(pipe, fields), answered(pipe, fields)
    assert len(passes) > 1 or hasattr(pipe.task, "answer")
    assert set(got) == set(want)
    for key, value in want.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got[key], value, atol=1e-5)
        else:
            np.testing.assert_array_equal(got[key], value)


def test_a_row_runs_at_its_own_length(kind, passes):
    """A short text beside a long one is as wide as alone: fails if rows are padded together."""
    pipe = kind("one text")
    answered(pipe, {"text": ["good", "the film was good " * 4, "bad"]})
    wide = pipe.encode({"text": ["the film was good " * 4]})["token_ids"].shape[1]
    assert sorted(passes) == [(1, wide), (2, 3)]


def test_a_pass_is_worth_more_padding_of_narrow_models(kind, passes, monkeypatch):
    monkeypatch.setattr(forward, "_STARTED", 4_000_000)
    pipe = kind("one text")
    assert forward.spare(pipe) == 4_000_000 // 16**2
    answered(pipe, {"text": ["good", "the film was good " * 4, "bad"]})
    assert len(passes) == 1


@pytest.mark.parametrize("name", ["windows", "fixed length"])
def test_rows_whose_padding_counts_stay_together(kind, passes, name):
    pipe = kind(name)
    fields = fields_of(pipe.task, TEXTS)
    np.testing.assert_allclose(
        answered(pipe, fields)["logits"], expected(pipe, fields)["logits"], atol=1e-5
    )
    assert passes == []
