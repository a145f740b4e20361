"""Merges over whole numbers give what the `tokenizers` library gives."""

import json
import random

import pytest
from golden_folders import GOLDEN
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from kerasft._core import stack

stack.ensure()
import tensorflow as tf  # noqa: E402  (after the backend is chosen)

from kerasft.backbones.bpe import LONGEST, ByteMerges, byte_letters  # noqa: E402


def model_of(name):
    state = json.loads((GOLDEN / name / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary, merges = state["model"]["vocab"], state["model"]["merges"]
    return vocabulary, [m if isinstance(m, str) else " ".join(m) for m in merges]


def reference(vocabulary, merges, whole):
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=whole))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def random_words(count=400):
    rng = random.Random(3)
    parts = ["the", " movie", " was", "good", "很好", "看", "a", "x", "  ", "\x01", "é", "1"]
    words = ["".join(rng.choices(parts, k=rng.randint(1, 14))) for _ in range(count)]
    return [*words, "", "the" * 80]


@pytest.mark.parametrize("whole", [False, True])
def test_merges_are_those_of_the_tokenizers_library(whole):
    vocabulary, merges = model_of("llama")
    words = random_words()
    expected = [reference(vocabulary, merges, whole).encode(word).ids for word in words]
    found = tf.function(ByteMerges(vocabulary, merges, {}, whole))(tf.constant(words))
    assert found.to_list() == expected


def test_a_word_that_is_a_piece_stays_whole_only_if_asked():
    vocabulary = {letter: i for i, letter in enumerate(byte_letters())}
    vocabulary |= {"ab": 256, "bc": 257, "abc": 258}
    merges = ["b c", "a b"]
    for whole in (False, True):
        found = ByteMerges(vocabulary, [*merges, "ab c"], {}, whole)(tf.constant(["abc"]))
        wanted = [[258]] if whole else [[vocabulary["a"], 257]]
        assert found.to_list() == wanted


def test_a_byte_that_the_vocabulary_lacks_is_left_out():
    vocabulary, merges = model_of("gpt2")
    letter = {b: name for name, b in byte_letters().items()}[1]
    vocabulary = {k: v for k, v in vocabulary.items() if k != letter}
    found = ByteMerges(vocabulary, merges, {})(tf.constant(["o\x01k"]))
    assert found.to_list() == [[vocabulary["o"], vocabulary["k"]]]


def test_an_endless_word_is_cut_and_loses_nothing():
    vocabulary, merges = model_of("gpt2")
    names = {i: piece for piece, i in vocabulary.items()}
    word = "good" * LONGEST
    ids = ByteMerges(vocabulary, merges, {})(tf.constant(["ok", word]))[1].numpy()
    assert "".join(names[i] for i in ids) == word
    assert len(ids) <= len(word) / 2


def test_words_that_stand_for_one_id():
    vocabulary, merges = model_of("gpt2")
    found = ByteMerges(vocabulary, merges, {"\U000f0000": 320})(tf.constant(["\U000f0000", "o"]))
    assert found.to_list() == [[320], [vocabulary["o"]]]
