"""The profile of a model's data: of every kind of task, and beside the export."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.cli.failures import INPUT
from kerasft.cli.main import run
from kerasft.export.deploy.card import read_run
from kerasft.export.describe import describe
from kerasft.export.profile import NAME, Feature, Reference, reference_of, unknown_id
from kerasft.export.signatures import tokenized
from kerasft.metrics.drift import binned
from kerasft.serving.tfrecord import records
from kerasft.testing import tiny
from kerasft.testing._rig import sample


class Rows:
    """A source of some fields, cut into chunks."""

    def __init__(self, fields):
        self.fields = fields

    def chunks(self, size):
        rows = len(next(iter(self.fields.values())))
        for start in range(0, rows, min(size, 4)):
            yield {n: v[start : start + 4] for n, v in self.fields.items()}


LABELS = ("bad", "good", "so so")  # of the pipelines of texts
ONE_OF_EACH = (
    "a pair",
    "a score, lora",
    "windows",
    "entities",
    "answers",
    "embeddings",
    "relations",
    "chats",
    "translations",
    "masks",
    "asked labels",
    "embeddings of histories",
)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_kind_has_a_profile(kind, name):
    pipe = kind(name)
    rows = Rows(sample(pipe.task, 7))
    found = reference_of(pipe, rows, rows, "validation")
    assert Reference.of_json(found.to_json(), "it") == found
    assert found.task == pipe.task.name
    for name, feature in found.features.items():
        assert feature.rows == 7, name
    if found.classes:
        assert found.classes.rows == 7 and set(found.classes.counts) == set(pipe.task.labels)


def test_a_profile_by_hand(kind):
    pipe = kind("one text")
    texts = ["good film", "good", "\U00012000 film", "", "bad bad bad bad bad"]
    labels = ["good", "good", "bad", "so so", "bad"]
    rows = Rows({"text": texts, "label": labels})
    found = reference_of(pipe, rows, rows, "test")
    pieces = tokenized(pipe.tokenizer, np.array([t.encode() for t in texts], object))
    tokens = (np.asarray(pieces["start"]) >= 0).sum(1)
    assert found.features["text_tokens"].sample == tuple(sorted(tokens.tolist()))
    assert found.features["text_characters"].mean == np.mean([len(t) for t in texts])
    missed = np.asarray(pieces["token_ids"]) == pipe.tokenizer.token_to_id("[UNK]")
    shares = missed.sum(1) / np.maximum(tokens, 1)
    assert found.features["text_unknown"].sample == pytest.approx(sorted(shares))
    assert shares.max() > 0
    assert found.label_shares.counts == {"bad": 2, "good": 2, "so so": 1}
    answers = pipe.predict(texts)
    said = [a["label"] for a in answers]
    assert found.classes.counts == {label: said.count(label) for label in LABELS}
    sure = sorted(max(a["probabilities"]) for a in answers)
    assert found.features["confidence"].sample == pytest.approx(sure, abs=1e-6)
    assert (found.expected, found.classes.of) == (found.classes, "predicted on test")
    assert reference_of(pipe, rows).expected == found.label_shares


def test_several_labels_may_be_counted_more_than_once(kind):
    pipe = kind("several labels")
    rows = Rows(sample(pipe.task, 7))
    found = reference_of(pipe, rows, rows)
    said = [label for a in pipe.predict(rows.fields["text"]) for label in a["labels"]]
    assert found.classes.counts == {label: said.count(label) for label in LABELS}
    assert sum(found.label_shares.counts.values()) == sum(map(len, rows.fields["labels"]))


@pytest.mark.parametrize(
    ("family", "has"), [("bert", True), ("gpt2", False), ("deberta_v3", True), ("llama", True)]
)
def test_the_unknown_id(family, has):
    tokenizer = tiny.tokenizer(family)
    found = unknown_id(tokenizer)
    assert (found is not None) is has
    if family == "bert":
        assert found == tokenizer.token_to_id("[UNK]")


def test_a_feature_keeps_a_bounded_sample():
    values = np.random.default_rng(0).normal(size=5000)
    found = Feature.of(values)
    assert len(found.sample) == 1000 and set(found.sample) <= set(values.tolist())
    assert found.counts == tuple(binned(values, found.edges)) == (500,) * 10
    assert math.isclose(found.mean, values.mean())


def test_no_rows_are_refused(kind):
    with pytest.raises(InputError, match="needs rows"):
        reference_of(kind("one text"), Rows({"text": [], "label": []}))


def test_the_export_takes_the_reference_of_the_run(kind, tmp_path, monkeypatch):
    rows = Rows(sample(kind("one text").task, 7))
    found = reference_of(kind("one text"), rows, rows)
    found.save(tmp_path / NAME)
    assert Reference.of_json(read_run(tmp_path)["reference"], "run") == found
    monkeypatch.setattr("kerasft.export.describe.read_signatures", lambda _: {})
    pipe = kind("one text")
    told = describe(pipe, "desk", "", [], run=tmp_path).run["reference"]
    assert Reference.of_json(told, "run") == found


def test_the_command_profiles_a_run(kind, tmp_path, capsys):
    kind("one text").save(tmp_path / "run")
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\ngood,good\na film,bad\n")
    words = ["reference", str(tmp_path / "run"), str(tmp_path / "train.csv")]
    words += ["--held-out", str(tmp_path / "test.csv"), "--out", str(tmp_path / "r.json")]
    assert run(words) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'r.json'}\n"
    found = Reference.load(tmp_path / "r.json")
    assert found.label_shares.counts == {"bad": 1, "good": 1, "so so": 0}
    assert found.classes.rows == 2
    assert run([*words[:2], str(tmp_path / "none.csv")]) == INPUT
    assert capsys.readouterr().err.count("\n") == 1


def test_tensorflow_writes_records_as_the_monitor_reads_them(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "r")) as writer:
        writer.write(b"one")
        writer.write(b"")
    assert list(records(str(tmp_path / "r"))) == [b"one", b""]
