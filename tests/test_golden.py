"""The golden folders are whole and small, and their two ways of storing BERT hold one model."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parent / "golden"
FAMILIES = sorted(path.parent.name for path in GOLDEN.glob("*/texts.json"))
ENCODERS = {"bert", "bert_tanh", "roberta", "xlm-roberta", "distilbert", "albert"}
ENCODERS |= {"deberta-v2", "electra"}
DECODERS = {"gpt2", "llama", "smollm2", "qwen2", "qwen3", "gemma", "gemma2"}
DECODERS |= {"mistral"}
# Folders with another head than a classifier's: the end of the class's name, logits a token.
HEADS = {"bert_tags": ("ForTokenClassification", 5)}
HEADS["roberta_answers"] = ("ForQuestionAnswering", 2)


def test_every_family_is_there_and_all_stay_small():
    assert set(FAMILIES) == ENCODERS | DECODERS | set(HEADS) | {"bert_h5"}
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 3_000_000


@pytest.mark.parametrize("family", sorted(ENCODERS | DECODERS))
def test_a_folder_is_whole(family):
    folder = GOLDEN / family
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    expected = np.load(folder / "expected.npz")
    assert config["id2label"] == {"0": "bad", "1": "good", "2": "ugly"}
    assert config["architectures"][0].endswith("ForSequenceClassification")
    assert load_file(folder / "model.safetensors")
    for prefix, rows in (("", texts["texts"]), ("pair_", texts["pairs"])):
        if not rows:
            assert family in DECODERS
            continue
        ids, mask = expected[f"{prefix}input_ids"], expected[f"{prefix}attention_mask"]
        assert ids.shape == mask.shape == expected[f"{prefix}last_hidden_state"].shape[:2]
        assert expected[f"{prefix}logits"].shape == (len(rows), 3)
        assert (np.diff(mask, axis=1) <= 0).all(), "padding is on the right"
        assert (ids < config["vocab_size"]).all()
        assert mask.sum(1).max() <= texts["max_length"]
    assert expected["logits"].std(axis=0).min() > 0.03, "answers that hardly differ show nothing"


@pytest.mark.parametrize("name", HEADS)
def test_a_folder_with_another_head_is_whole(name):
    folder, (ending, count) = GOLDEN / name, HEADS[name]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    expected = np.load(folder / "expected.npz")
    assert config["architectures"][0].endswith(ending)
    for prefix in ("", "pair_"):
        mask = expected[f"{prefix}attention_mask"]
        assert expected[f"{prefix}logits"].shape == (*mask.shape, count)
        assert (np.diff(mask, axis=1) <= 0).all(), "padding is on the right"
    assert expected["logits"][expected["attention_mask"] == 1].std(axis=0).min() > 0.1


def test_tf_model_h5_holds_the_weights_of_bert():
    root = "tf_bert_for_sequence_classification"
    weights = load_file(GOLDEN / "bert" / "model.safetensors")
    with h5py.File(GOLDEN / "bert_h5" / "tf_model.h5") as file:
        assert list(file.attrs["layer_names"]) == ["bert", "dropout_37", "classifier"]
        names = [
            n for layer in file.attrs["layer_names"] for n in file[layer].attrs["weight_names"]
        ]
        kernel = f"{root}/bert/encoder/layer_._1/intermediate/dense/kernel:0"
        found = np.array(file["bert"][kernel])
        words = np.array(file["bert"][f"{root}/bert/embeddings/word_embeddings/weight:0"])
    assert len(names) == len(weights)
    np.testing.assert_array_equal(
        found, weights["bert.encoder.layer.1.intermediate.dense.weight"].T
    )
    np.testing.assert_array_equal(words, weights["bert.embeddings.word_embeddings.weight"])
