"""Words are cut as the `tokenizers` library cuts them, which the models were trained with."""

import random

import pytest
from tokenizers import Regex, normalizers, pre_tokenizers

from kerasft._core import stack
from kerasft._core.errors import InputError
from kerasft.backbones.words import (
    DIGITS_SPLIT,
    GPT2_SPLIT,
    LLAMA3_SPLIT,
    QWEN_SPLIT,
    Splitting,
    bert_words,
    bpe_words,
    check_pattern,
    sign,
)

stack.ensure()
import tensorflow as tf  # noqa: E402  (after the backend is chosen)

SIGNS = list("abcABC é'12３٣ \t\n\r,.!？，。中文한글　६-_<|>🙂ßſ") + [
    "'s",
    "'LL",
    " ",
    "  ",
    "\n\n",
]
SIGNS += ["\xa0", "\u2009", "\x85", "\x0b", "don't"]
ODD = list("ÅİΣΑᾳﬁＡ｡ﾞがガ[]") + ["\u200b", "\xad", "\ufffd", "\x00", "\u0301", "\u2028", "\ue000"]
EDGES = ["", " ", "   ", " a", "a ", "\n", "  \n  x", "x\n\n", "\r\n\r\n1"]


def random_texts(signs, count=1500):
    rng = random.Random(7)
    return ["".join(rng.choices(signs, k=rng.randint(0, 25))) for _ in range(count)] + EDGES


def listed(words):
    return [[word.decode() for word in row] for row in words.to_list()]


@pytest.mark.parametrize(
    "patterns", [(GPT2_SPLIT,), (LLAMA3_SPLIT,), (QWEN_SPLIT,), (DIGITS_SPLIT, GPT2_SPLIT)]
)
def test_byte_level_words(patterns):
    texts = random_texts(SIGNS)
    steps = [pre_tokenizers.Split(Regex(p), behavior="isolated") for p in patterns]
    reference = pre_tokenizers.Sequence(steps)
    wanted = [[word for word, _ in reference.pre_tokenize_str(text)] for text in texts]
    found = tf.function(lambda x: bpe_words(x, Splitting(patterns)))(tf.constant(texts))
    assert listed(found) == wanted


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("strip_accents", [False, True])
def test_words_of_bert(lowercase, strip_accents):
    texts = random_texts(SIGNS + ODD)
    normalizer = normalizers.BertNormalizer(True, True, strip_accents, lowercase)
    split = pre_tokenizers.BertPreTokenizer()
    plain = [normalizer.normalize_str(text) for text in texts]
    wanted = [[word for word, _ in split.pre_tokenize_str(text)] for text in plain]
    found = bert_words(tf.constant(texts), lowercase, strip_accents, split_on_cjk=True)
    assert listed(found) == wanted


def test_a_normal_form_is_made_first():
    found = bpe_words(tf.constant(["cafe\u0301"]), Splitting(form="NFC"))
    assert listed(found) == [["café"]]


def test_special_tokens_are_words_of_their_own():
    found = bpe_words(tf.constant(["a  <|x|> b<|x|>"]), Splitting(), ("<|x|>",))
    assert listed(found) == [["a", "  ", sign(0), " b", sign(0)]]


@pytest.mark.parametrize("pattern", [r"a(?=b)", r"\p{L}++", "("])
def test_a_pattern_that_tensorflow_cannot_run_is_refused(pattern):
    with pytest.raises(InputError, match="cannot split"):
        check_pattern(pattern, "tokenizer.json")
