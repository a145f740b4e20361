"""Data sets by name, from stand-ins for the two hubs: no test uses a network."""

import sys
import types

import pytest

from kerasft._core.errors import InputError, MissingExtra
from kerasft.data import open_source

ROWS = [{"text": f"row {i}", "label": i % 2, "tags": [0, 2][: i % 3]} for i in range(6)]
FIELDS = {"text": "text", "label": "label", "tags": "labels"}
BIO = ("O", "B-PER", "I-PER")
EXPECTED = {(f"row {i}", ("ham", "spam")[i % 2], ((), ("x",), ("x", "z"))[i % 3]) for i in range(6)}


def rows_of(source) -> list[tuple]:
    return [row for c in source.chunks(4) for row in zip(c["text"], c["label"], c["tags"])]


class FakeData:
    """As much of `datasets.Dataset` as is used."""

    def __init__(self, rows, features):
        self.rows, self.features = rows, features

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)

    def select_columns(self, columns):
        kept = {c: self.features[c] for c in columns}
        return FakeData([{c: row[c] for c in columns} for row in self.rows], kept)


def class_label(*names):
    return types.SimpleNamespace(names=list(names))


@pytest.fixture
def hub(monkeypatch):
    """A module `datasets` that knows one data set and records how it is called."""
    calls = []
    features = {
        "text": types.SimpleNamespace(dtype="string"),
        "label": class_label("ham", "spam"),
        "tags": types.SimpleNamespace(feature=class_label("x", "y", "z")),
        "image": None,
    }

    def load_dataset(path, name=None, split=None):
        calls.append((path, name, split))
        if path == "nowhere":
            raise FileNotFoundError("Dataset 'nowhere' doesn't exist on the Hub.\nmore lines")
        if path == "tagged":
            kinds = {"tokens": None, "tags": types.SimpleNamespace(feature=class_label(*BIO))}
            return FakeData([{"tokens": ["Ann", "Lee", "runs"], "tags": [1, 2, 0]}], kinds)
        return FakeData([row | {"image": object()} for row in ROWS], features)

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_hugging_face(hub):
    source = open_source("hf:mails", FIELDS)
    assert set(rows_of(source)) == EXPECTED
    assert rows_of(source) == rows_of(source)
    assert (source.rows, source.name) == (6, "hf:mails")
    assert hub == [("mails", None, "train")], "the data set is loaded once"


@pytest.mark.parametrize(
    ("spec", "call"),
    [
        ("hf:mails:test", ("mails", None, "test")),
        ("hf:owner/mails:train[:10%]", ("owner/mails", None, "train[:10%]")),
        ("hf:owner/mails/config", ("owner/mails", "config", "train")),
        ("hf:/data/mails", ("/data/mails", None, "train")),
        ("hf:./data/mails:test", ("./data/mails", None, "test")),
    ],
)
def test_names_and_splits(hub, spec, call):
    open_source(spec, FIELDS)
    assert hub == [call]


def test_a_missing_label_is_an_error(hub, monkeypatch):
    monkeypatch.setitem(ROWS[3], "label", -1)
    with pytest.raises(InputError, match="hf:mails, row 4: in column 'label' a label is expected"):
        rows_of(open_source("hf:mails", FIELDS))


def test_tags_that_are_numbers_of_classes(hub):
    fields = {"text": "text", "spans": "spans", "words": "words", "note": "optional text"}
    source = open_source("hf:tagged", fields)
    assert list(source.chunks()) == [
        {
            "text": ["Ann Lee runs"],
            "spans": [((0, 7, "PER"),)],
            "words": [((0, 3), (4, 7), (8, 12))],
            "note": [""],
        }
    ]


def test_errors_of_hugging_face(hub):
    with pytest.raises(InputError, match="'text'"):
        open_source("hf:mails", {"txt": "text"})
    with pytest.raises(InputError) as caught:
        open_source("hf:nowhere", FIELDS)
    expected = (
        "The data set hf:nowhere cannot be loaded: Dataset 'nowhere' doesn't exist on the Hub."
    )
    assert str(caught.value) == expected
    for bad in ("hf:", "hf::train", "tfds:"):
        with pytest.raises(InputError, match="is written"):
            open_source(bad, FIELDS)


def test_the_extra_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"kerasft\[hf\]"):
        open_source("hf:mails", FIELDS)


@pytest.mark.filterwarnings("ignore")
def test_tensorflow_datasets(tmp_path, monkeypatch, capsys):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import constants

    class KerasftMails(tfds.core.GeneratorBasedBuilder):
        """A data set made on the spot."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            names = tfds.features.ClassLabel(names=["x", "y", "z"])
            features = {
                "text": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["ham", "spam"]),
                "tags": tfds.features.Sequence(names),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(ROWS)

    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))
    source = open_source("tfds:kerasft_mails", FIELDS)
    assert set(rows_of(source)) == EXPECTED
    assert rows_of(source) == rows_of(source)
    assert (source.rows, source.name, source.table.steady) == (6, "tfds:kerasft_mails", True)
    assert capsys.readouterr().out == "", "stdout belongs to the answers of a command"
    half = open_source("tfds:kerasft_mails:1.0.0:test[:50%]", FIELDS)
    assert len(rows_of(half)) == 3
    for bad in ("tfds:kerasft_mail", "tfds:kerasft_mails:nope"):
        with pytest.raises(InputError, match=f"The data set {bad} cannot be loaded") as caught:
            open_source(bad, FIELDS)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="it has: 'label', 'tags', 'text'"):
        open_source("tfds:kerasft_mails", {"body": "text"})
