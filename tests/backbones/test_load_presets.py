"""Presets: the embedded one, KerasHub's folders, and what is refused."""

import json
import sys
from types import SimpleNamespace

import keras_hub
import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.backbones import (
    FAMILIES,
    load,
    load_tokenizer,
    presets,
    save_tokenizer,
    template_of,
)
from kerasft.backbones._surgery import apply_fixes
from kerasft.backbones.load import EMBEDDED
from kerasft.testing import tiny


def answers(backbone):
    out = backbone(tiny.features(backbone))
    return np.asarray(out["sequence_output"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A KerasHub preset folder with a tiny BERT."""
    path = tmp_path_factory.mktemp("preset") / "tiny"
    tiny.backbone("bert").save_to_preset(str(path))
    tiny.tokenizer("bert").save_to_preset(str(path))
    return path


def copy_with(folder, tmp_path, name, **changes):
    """A copy of a preset folder in which a JSON file is changed."""
    for source in folder.rglob("*"):
        if source.is_file():
            target = tmp_path / source.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    path = tmp_path / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return tmp_path


def test_the_embedded_preset():
    backbone, tokenizer = load("bert_tiny")
    assert (backbone.num_layers, backbone.hidden_dim) == (2, 128)
    assert 4_300_000 < backbone.count_params() < 4_500_000
    # Uncased, with accents taken off: "café" is a word that it knows.
    ids = tokenizer(["café CAFÉ cafe"])[0]
    assert len(set(ids)) == 1
    assert tokenizer.id_to_token(ids[0]) == "cafe"
    again, _ = load("bert_tiny", dropout=0.3, dtype="mixed_bfloat16")
    assert (again.dropout, again.dtype_policy.name) == (0.3, "mixed_bfloat16")


def test_presets_are_listed():
    found = presets()
    assert list(found)[: len(EMBEDDED)] == list(EMBEDDED)
    assert found["bert_tiny"].startswith("[embedded] ")
    assert found["bert_base_en_uncased"].startswith("[bert] ")
    assert len(found) > 60


def test_a_keras_hub_folder(folder):
    backbone, tokenizer = load(str(folder))
    assert (answers(backbone) == answers(tiny.backbone("bert"))).all()
    texts = list(tiny.ODD_TEXTS)
    expected = tiny.tokenizer("bert")(texts)
    assert [list(row) for row in tokenizer(texts)] == [list(row) for row in expected]


# KerasHub leaves closing the SentencePiece file it reads to Python.
UNCLOSED = pytest.mark.filterwarnings("ignore:unclosed file .*vocabulary.spm:ResourceWarning")


@UNCLOSED
def test_hugging_face_names_are_fetched(folder, monkeypatch):
    """By a stand-in for the hub: there is no network in the tests."""
    asked = []
    hub = SimpleNamespace(snapshot_download=lambda name: asked.append(name) or str(folder))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    backbone, _ = load("hf://someone/tiny", dropout=0.2)
    assert asked == ["someone/tiny"] and backbone.dropout == 0.2
    hub.snapshot_download = lambda name: 1 / 0
    with pytest.raises(InputError, match="'hf://someone/tiny' could not be fetched.*network"):
        load("hf://someone/tiny")


def test_kaggle_and_keras_hub_names_go_to_keras_hub(folder, monkeypatch):
    asked, read = [], keras_hub.models.Backbone.from_preset

    def fetch(kind, made):
        def from_preset(name, **options):
            asked.append((kind, name))
            return made(str(folder), **options)

        return from_preset

    both = {"Backbone": keras_hub.models, "Tokenizer": keras_hub.tokenizers}
    for kind, owner in both.items():
        made = getattr(owner, kind).from_preset
        monkeypatch.setattr(getattr(owner, kind), "from_preset", fetch(kind, made))
    for name in ("kaggle://keras/bert/keras/tiny", "bert_base_en_uncased"):
        backbone, _ = load(name)
        np.testing.assert_array_equal(answers(backbone), answers(read(str(folder))))
        assert asked[-2:] == [("Backbone", name), ("Tokenizer", name)]


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_a_keras_hub_folder_of_every_family(tmp_path, name):
    """The same hidden states and token ids as before the folder, and the same template."""
    backbone, tokenizer = tiny.backbone(name), tiny.tokenizer(name)
    backbone.save_to_preset(str(tmp_path))
    tokenizer.save_to_preset(str(tmp_path))
    again, other = load(str(tmp_path))
    x = tiny.features(backbone)
    np.testing.assert_array_equal(_hidden(again, x), _hidden(backbone, x))
    texts = list(tiny.ODD_TEXTS)
    ids = [list(row) for row in tokenizer(texts)]
    assert [list(row) for row in other(texts)] == ids
    assert len({tuple(row) for row in ids}) > 4
    assert template_of(other) == template_of(tokenizer)


def _hidden(backbone, x):
    out = backbone(x)
    known = ("sequence_output", "decoder_sequence_output")
    return np.asarray(next(out[n] for n in known if n in out) if isinstance(out, dict) else out)


def uncased(folder, more=(), **options):
    """A preset folder of BERT with KerasHub's own uncased tokenizer, which keeps accents."""
    vocabulary = [*tiny.wordpiece_vocabulary(), "cafe", *more]
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary, lowercase=True, **options)
    tiny.backbone("bert", vocabulary_size=len(vocabulary)).save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
    return tokenizer


CAFES = ["café", "CAFÉ", "cafe\u0301", "Café", "cafe"]


def test_trap_uncased_tokenizers_of_keras_hub_keep_accents(tmp_path):
    """Their vocabularies have none, so that a word with an accent would be unknown."""
    tokenizer = uncased(tmp_path)
    assert tokenizer.token_to_id("[UNK]") in tokenizer(["café"])[0]
    _, mended = load(str(tmp_path))
    (same,) = {tuple(mended([text])[0]) for text in CAFES}
    assert [mended.id_to_token(i) for i in same] == ["cafe"]
    save_tokenizer(mended, str(tmp_path / "saved"))
    assert tuple(load_tokenizer(str(tmp_path / "saved"))(["CAFÉ"])[0]) == same


def test_a_vocabulary_with_accents_keeps_them(tmp_path):
    uncased(tmp_path, more=["café"])
    _, tokenizer = load(str(tmp_path))
    words = [[tokenizer.id_to_token(i) for i in tokenizer([text])[0]] for text in CAFES]
    assert words[0] == words[1] == ["café"] and words[4] == ["cafe"]


def test_a_cased_tokenizer_is_left_alone(tmp_path):
    uncased(tmp_path / "uncased")
    copy = copy_with(tmp_path / "uncased", tmp_path / "cased", "config.json")
    record = json.loads((copy / "tokenizer.json").read_text())
    record["config"]["lowercase"] = False
    (copy / "tokenizer.json").write_text(json.dumps(record))
    _, tokenizer = load(str(copy))
    assert tokenizer.token_to_id("[UNK]") in tokenizer(["café"])[0]
    assert not tokenizer.strip_accents


def test_trap_save_to_preset_forgets_the_activation(tmp_path):
    """So a run keeps a description of its own."""
    backbone = tiny.backbone("bert")
    apply_fixes(backbone, {"activation": "relu"})
    backbone.save_to_preset(str(tmp_path))
    again = keras_hub.models.Backbone.from_preset(str(tmp_path))
    assert np.abs(answers(again) - answers(backbone)).max() > 1e-3


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("bert_tinny", "no preset 'bert_tinny'.* Did you mean 'bert_tiny'"),
        ("no/such/folder", "neither a folder nor a known name"),
        ("t5_tiny", "There is no preset 't5_tiny'"),
    ],
)
def test_a_preset_that_is_not_there(preset, message):
    with pytest.raises(InputError, match=message):
        load(preset)


def test_a_folder_without_a_config(tmp_path):
    with pytest.raises(InputError, match=r"A preset folder holds a config\.json"):
        load(str(tmp_path))


def test_a_folder_without_its_tokenizer(folder, tmp_path):
    copy = copy_with(folder, tmp_path, "config.json")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"holds tokenizer\.json"):
        load(str(copy))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_foreign_code_is_never_run(folder, tmp_path, name):
    copy = copy_with(folder, tmp_path, name, module="os", class_name="system")
    with pytest.raises(InputError, match="names code outside Keras and KerasHub"):
        load(str(copy))


@UNCLOSED
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_a_folder_that_lacks_a_file(tmp_path, family):
    """One line that names the folder, whichever file of it is missing."""
    tiny.backbone(family, num_layers=1).save_to_preset(str(tmp_path))
    tiny.tokenizer(family).save_to_preset(str(tmp_path))
    needed = [p for p in tmp_path.rglob("*.*") if p.name != "metadata.json"]
    assert len(needed) >= 4
    for path in needed:
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(InputError) as caught:
            load(str(tmp_path))
        path.write_bytes(content)
        text = str(caught.value)
        assert str(tmp_path) in text and "\n" not in text and len(text) < 700, path.name


def test_a_damaged_folder_is_one_line(folder, tmp_path):
    copy = copy_with(folder, tmp_path, "config.json")
    (copy / "model.weights.h5").write_bytes(b"broken")
    with pytest.raises(InputError, match="could not be loaded") as caught:
        load(str(copy))
    assert "\n" not in str(caught.value)


def test_a_foreign_family_is_refused(tmp_path):
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 8}
    bloom = keras_hub.models.BloomBackbone(vocabulary_size=10, **sizes)
    bloom.save_to_preset(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="Received: BloomBackbone"):
        load(str(tmp_path))
