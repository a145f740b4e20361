"""The signature `tokenize`: ids and places of a text's pieces, in every SavedModel."""

import numpy as np
import pytest
import tensorflow as tf
from asking import load

from kerasft import InputError
from kerasft._core.errors import KerasftError
from kerasft.backbones import pieces, template_of
from kerasft.export import compare, signatures
from kerasft.testing import tiny

TEXTS = [*tiny.ODD_TEXTS, "", "the film", "  the film was good"]


def served(folder, texts):
    tokenize = load(folder).signatures["tokenize"]
    return {name: value.numpy() for name, value in tokenize(text=tf.constant(texts)).items()}


@pytest.mark.parametrize(
    "name",
    [
        "one text",
        "decoder of byte pairs",
        pytest.param("mean of a sentencepiece encoder", marks=pytest.mark.slow),
    ],
)
def test_pieces_and_their_places_are_served(kind, exported, name):
    tokenizer = kind(name).tokenizer
    got, meant = served(exported(name), TEXTS), pieces(tokenizer, tf.constant(TEXTS))
    assert set(got) == {"token_ids", "start", "end"}
    assert all(value.dtype == np.int32 for value in got.values())
    lengths = meant.ids.row_lengths().numpy()
    ids = tokenizer(TEXTS)
    for row, length in enumerate(lengths):
        assert got["token_ids"][row, :length].tolist() == list(ids[row])
        assert (got["token_ids"][row, length:] == template_of(tokenizer).pad).all()
        for place, values in (("start", meant.start), ("end", meant.end)):
            assert got[place][row, :length].tolist() == values[row].numpy().tolist()
            assert (got[place][row, length:] == -1).all()


def test_no_special_ids_and_code_points(exported):
    got = served(exported("one text"), ["the film", "  the film", "很 film"])
    assert got["token_ids"].tolist() == [[4, 5], [4, 5], [got["token_ids"][2, 0], 5]]
    assert got["start"].tolist() == [[0, 4], [2, 6], [0, 2]]
    assert got["end"].tolist() == [[3, 8], [5, 10], [1, 6]]


def test_of_no_texts_and_of_blank_ones(exported):
    assert served(exported("one text"), [""])["token_ids"].shape == (1, 0)


def test_a_tokenizer_without_pieces_has_no_such_signature(kind, monkeypatch):
    def none(*_):
        raise InputError("not in the graph")

    assert "tokenize" in signatures.signatures_of(kind("one text"))
    monkeypatch.setattr(signatures, "pieces", none)
    assert set(signatures.signatures_of(kind("one text"))) == {
        "serving_default",
        "token_ids",
        "classify",
    }


def test_other_pieces_are_found(kind, exported):
    """`compare` fails where the tokenizer is not the one that was exported."""
    from kerasft.pipeline import Pipeline

    pipe = kind("one text")
    tokenizer = tiny.tokenizer("bert")
    tokenize = load(exported("one text")).signatures["tokenize"]
    assert compare._tokens_off(tokenizer, tokenize) == 0.0
    assert compare._tokens_off(tiny.tokenizer("distil_bert"), tokenize) == np.inf
    with pytest.raises(KerasftError, match="does not answer"):
        other = Pipeline(pipe.model, tiny.tokenizer("distil_bert"), pipe.task)
        compare.compare(other, load(exported("one text")).signatures)
