"""Ids to text: what KerasHub's tokenizers say, as valid UTF-8 and in the graph."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES
from kerasft.generation import detokenizer
from kerasft.generation.text import Text
from kerasft.testing import tiny

DECODERS = [family.name for family in FAMILIES if family.kind == "decoder"]


@pytest.mark.contract("detokenizers", of=len(DECODERS))
@pytest.mark.parametrize("name", DECODERS)
def test_it_is_the_tokenizers(name):
    tokenizer = tiny.tokenizer(name)
    size = tokenizer.vocabulary_size()
    random = np.random.default_rng(0)
    texts = tokenizer([*tiny.ODD_TEXTS, "the film was good"])
    noise = [random.integers(0, size, n).tolist() for n in (1, 5, 40)]
    ids = tf.ragged.constant([*texts, *noise, []], dtype=tf.int32)
    theirs = tf.function(tokenizer.detokenize, autograph=False)
    expected = [t.decode(errors="replace") for t in theirs(ids).numpy()]
    own = detokenizer(tokenizer)
    compiled = tf.function(own, autograph=False)
    for call in (own, compiled):
        found = [t.decode() for t in call(ids).numpy()]
        # How many signs stand for broken bytes is nobody's rule.
        assert [f.replace("\ufffd", "") for f in found] == [
            e.replace("\ufffd", "") for e in expected
        ]
    assert "the film was good" in found[len(texts) - 1]
    odd = tf.ragged.constant([[size, size + 7, -1]], dtype=tf.int32)
    assert own(odd).numpy().tolist() == [b""]
    last = ids[len(texts) - 1 : len(texts)]
    assert detokenizer(tokenizer, drop=last.to_list()[0])(last)[0] == b""


def test_whole_characters():
    tokenizer = tiny.tokenizer("gpt2")
    own, ids = detokenizer(tokenizer), tokenizer(["看"])[0]
    assert len(ids) == 3
    found = own(tf.ragged.constant([ids, ids[:2], ids[1:]], dtype=tf.int32)).numpy()
    assert found[0].decode() == "看" and set(found[1].decode() + found[2].decode()) == {"\ufffd"}


def test_other_tokenizers_are_refused():
    with pytest.raises(InputError, match="Received: BertTokenizer"):
        detokenizer(tiny.tokenizer("bert"))


@pytest.mark.parametrize(
    ("text", "stop", "settled"),
    [
        ("abc", (), "abc"),
        ("abc\ufffd\ufffd", (), "abc"),
        ("a\ufffdc", (), "a\ufffdc"),
        ("ab", ("bcd",), "a"),
        ("abc", ("bcd", "cx"), "a"),
        ("aXX", ("XXY",), "a"),
        ("abd", ("bcd",), "abd"),
        ("b\ufffd", ("bc",), ""),
    ],
)
def test_what_is_settled(text, stop, settled):
    assert Text(str, stop).settled(text) == settled
