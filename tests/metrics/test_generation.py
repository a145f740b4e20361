"""Generated text, by hand and against sacreBLEU and rouge-score called directly."""

import json
import math

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

from kerasft._core.errors import InputError
from kerasft.metrics import generation_scores, perplexity
from kerasft.metrics.generation import chrf, distinct, language_of, tokenize

ENGLISH = (
    ["The cat sat on the mat.", "It's a dog, not a cat!", "Nothing here", ""],
    ["A cat sat on a mat.", "It is a dog and not a cat!", "", "something"],
)
CHINESE = (
    ["我喜欢这本书。", "今天天气很好，我们用 GPU 训练"],
    ["我喜欢那本书。", "天气好，用 GPU 训练模型"],
)


def test_english_equals_the_libraries():
    references, predictions = ENGLISH
    found = generation_scores(references, predictions)
    assert found["settings"]["language"] == "en"
    bleu = sacrebleu.corpus_bleu(predictions, [references])
    assert found["bleu"] == bleu.score and 5 < bleu.score < 95
    assert found["chrf"] == sacrebleu.corpus_chrf(predictions, [references]).score
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    rows = [scorer.score(r, p) for r, p in zip(references, predictions, strict=True)]
    for ours, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        assert found[ours] == pytest.approx(np.mean([row[theirs].fmeasure for row in rows]))
    assert "tok:13a" in found["settings"]["bleu"]
    json.dumps(found, allow_nan=False)


def test_chinese_bleu_equals_sacrebleu_and_rouge_goes_by_characters():
    references, predictions = CHINESE
    found = generation_scores(references, predictions)
    assert found["settings"]["language"] == "zh" and "tok:zh" in found["settings"]["bleu"]
    expected = sacrebleu.corpus_bleu(predictions, [references], tokenize="zh").score
    assert found["bleu"] == expected and expected > 5
    assert generation_scores(*CHINESE, language="other")["bleu"] != expected
    # 5 of 6 characters; then 10 given, 13 expected, 9 shared: 2 * 9 / 23
    given = [tokenize(text, "zh") for text in (references[1], predictions[1])]
    assert [len(tokens) for tokens in given] == [12, 9]
    shared = len(set(given[0]) & set(given[1]))
    assert found["rouge_1"] == pytest.approx((5 / 6 + 2 * shared / 21) / 2)
    assert rouge_scorer.RougeScorer(["rouge1"]).score("我喜欢", "我喜欢")["rouge1"].fmeasure == 0


def test_other_scripts_keep_their_letters():
    russian = ["Кошка сидела на коврике", "Été à Orléans"]
    assert generation_scores(russian, russian)["settings"]["language"] == "other"
    assert generation_scores(russian, russian)["rouge_2"] == 1.0
    assert generation_scores(russian[:1], russian[:1], language="en")["rouge_1"] == 0.0
    english = ENGLISH[0]
    assert [tokenize(t, "other") for t in english] == [tokenize(t, "en") for t in english]


@pytest.mark.parametrize(
    "texts, language",
    [
        (["plain English"], "en"),
        (["12 + 3"], "en"),
        ([""], "en"),
        (["一只猫"], "zh"),
        (["用 GPU 训练"], "zh"),
        (["one 猫 among many English words"], "other"),
        (["naïve " + "word " * 100], "en"),
        (["größer als früher"], "other"),
    ],
)
def test_language(texts, language):
    assert language_of(texts) == language
    assert language_of(texts, "zh") == "zh"


def test_same_texts_are_perfect():
    for texts in (["the cat sat on the mat"], ["我们今天去看电影吧"]):
        found = generation_scores(texts, texts)
        assert found["bleu"] == pytest.approx(100) and found["chrf"] == found["exact_match"] == 100
        assert found["rouge_1"] == found["rouge_2"] == found["rouge_l"] == 1.0
        assert found["length_ratio"] == 1.0


def test_lengths_and_the_rest_by_hand():
    found = generation_scores(["a b", "cd"], [" a b\n", " "])
    assert found["exact_match"] == 50.0
    assert found["share_empty"] == 0.5
    assert found["mean_tokens"] == 1.0
    assert found["mean_characters"] == 3.0
    assert found["length_ratio"] == pytest.approx(6 / 5)
    assert generation_scores([""], ["x"])["length_ratio"] is None


def test_distinct():
    assert distinct([["a", "b"], ["a"]], 1) == pytest.approx(2 / 3)
    assert distinct([["a", "b", "a", "b"]], 2) == pytest.approx(2 / 3)
    assert distinct([["a"], ["b"]], 2) is None
    found = generation_scores(["x"] * 2, ["go on go on", "go on"])
    assert (found["distinct_1"], found["distinct_2"]) == (2 / 6, 2 / 4)


def test_chrf_of_one_text():
    assert chrf("the cat", "the cat") == 100.0
    assert chrf("the cat", "") == 0.0
    expected = sacrebleu.sentence_chrf("a bat", ["the cat"]).score
    assert chrf("the cat", "a bat") == expected and 0 < expected < 100


def test_perplexity():
    assert perplexity(3 * math.log(50), 3) == pytest.approx(50)
    assert perplexity(0.0, 4) == 1.0
    assert perplexity(0.0, 0) is None
    assert perplexity(1e6, 1) is None
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="`total_nll`"):
            perplexity(wrong, 1)


@pytest.mark.parametrize(
    "references, predictions, language, message",
    [
        (["a"], ["a", "b"], "en", "1 and 2 rows"),
        ([], [], "en", "at least 1"),
        (["a", "b"], ["a", None], "en", "None.*at index 1"),
        (["a"], ["a"], "chinese", "`language` must be one of"),
    ],
)
def test_wrong_input(references, predictions, language, message):
    with pytest.raises(InputError, match=message):
        generation_scores(references, predictions, language)
