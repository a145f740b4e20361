"""Scores of generated text: against references, by itself, and by its likelihood."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft._core.checks import in_range, one_of
from kerasft._core.errors import InputError
from kerasft.metrics.values import plain

LANGUAGES = ("auto", "en", "zh", "other")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_PIECES = re.compile(_HAN.pattern + r"|(?:(?!" + _HAN.pattern + r")[^\W_])+")
_WORDS = re.compile(r"[^\W_]+")


def generation_scores(
    references: Sequence[str], predictions: Sequence[str], language: str = "auto"
) -> dict[str, Any]:
    """Score generated texts against one reference each.

    BLEU and chrF are sacreBLEU's over all rows together, ROUGE rouge-score's F1, the mean over
    the rows. Tokens of the lengths and of distinct-n are those of ROUGE.

    Args:
        references: The right texts, a string a row.
        predictions: The generated ones, of the same number.
        language: "en": ROUGE cuts words as rouge-score does, which drops all but a-z and 0-9.
            "zh": BLEU cuts by sacreBLEU's `zh`, ROUGE by characters (words outside Chinese).
            "other": ROUGE keeps the letters of every script. "auto" looks at the letters of the
            references: "zh" if 3 of 10 are Chinese characters, else "en" if 99 of 100 are ASCII,
            else "other".

    Returns:
        JSON types only: `bleu`, `chrf`, `exact_match` (percent, as sacreBLEU prints); `rouge_1`,
        `rouge_2`, `rouge_l` (0 to 1, as rouge-score prints); `distinct_1`, `distinct_2` (share
        of different ones among all n-grams of the predictions; None without any);
        `mean_tokens`, `mean_characters` of a prediction, `length_ratio` (characters of all
        predictions / of all references; None if these are empty), `share_empty` (predictions of
        white space alone); `settings`: the language taken, sacreBLEU's signatures.

    Raises:
        InputError: If the lengths differ, there is no row, or one is not a string.

    Example:
        >>> generation_scores(["the cat sat"], ["the cat"])["rouge_1"]
        0.8

    Reference:
        Post, A Call for Clarity in Reporting BLEU Scores, 2018, https://arxiv.org/abs/1804.08771;
        Popović, chrF, 2015, https://aclanthology.org/W15-3049; Lin, ROUGE, 2004,
        https://aclanthology.org/W04-1013; Li et al., 2016, https://arxiv.org/abs/1510.03055
    """
    from sacrebleu.metrics import BLEU, CHRF

    texts(references, predictions)
    language = language_of(references, language)
    bleu, chrf = BLEU(tokenize="zh" if language == "zh" else "13a", force=True), CHRF()
    given = list(predictions)
    pairs = [[text.strip() for text in rows] for rows in (references, given)]
    tokens = [tokenize(text, language) for text in given]
    return plain(
        {
            "bleu": bleu.corpus_score(given, [list(references)]).score,
            "chrf": chrf.corpus_score(given, [list(references)]).score,
            **{n: row.mean() for n, row in rouge_rows(references, given, language).items()},
            "exact_match": 100 * np.mean([r == p for r, p in zip(*pairs, strict=True)]),
            "distinct_1": distinct(tokens, 1),
            "distinct_2": distinct(tokens, 2),
            **_lengths(references, given, tokens),
            "settings": {
                "language": language,
                "bleu": str(bleu.get_signature()),
                "chrf": str(chrf.get_signature()),
            },
        }
    )


def chrf(reference: str, prediction: str) -> float:
    """Return sacreBLEU's chrF of one text, in percent; it needs no words, so no language.

    Args:
        reference: The right text.
        prediction: The generated one.

    Example:
        >>> chrf("the cat", "the cat")
        100.0
    """
    from sacrebleu.metrics import CHRF

    return CHRF().sentence_score(prediction, [reference]).score


def distinct(tokens: Sequence[Sequence[str]], n: int) -> float | None:
    """Share of different n-grams among all; None if there is no n-gram.

    Args:
        tokens: The tokens of each text.
        n: The length of the n-grams.

    Returns:
        A number above 0, up to 1 where nothing is said twice.

    Example:
        >>> distinct([["a", "b", "a", "b"]], 2)
        0.6666666666666666
    """
    found = Counter(tuple(row[i : i + n]) for row in tokens for i in range(len(row) - n + 1))
    return len(found) / found.total() if found else None


def perplexity(total_nll: float, tokens: int) -> float | None:
    """exp(total_nll / tokens); None without tokens, or if it is too large for a float.

    Args:
        total_nll: Summed negative log-likelihood of the tokens, in nats.
        tokens: How many tokens.

    Returns:
        1 for a model that was sure and right, the vocabulary's size for one that guesses.

    Raises:
        InputError: If the sum is below 0 or not a number.

    Example:
        >>> round(perplexity(2 * math.log(7), 2), 9)
        7.0
    """
    in_range("total_nll", float(total_nll), 0)
    if not tokens or total_nll / tokens > 709:
        return None
    return math.exp(total_nll / tokens)


def language_of(references: Sequence[str], language: str = "auto") -> str:
    """Return `language`, or for "auto" what the letters of the references say.

    Args:
        references: Texts.
        language: One of `LANGUAGES`.

    Example:
        >>> language_of(["GPU 很快"])
        'zh'
    """
    if one_of("language", language, LANGUAGES) != "auto":
        return language
    letters = [c for text in references for c in text if c.isalpha()]
    if not letters:
        return "en"
    if sum(bool(_HAN.match(c)) for c in letters) >= 0.3 * len(letters):
        return "zh"
    return "en" if sum(c.isascii() for c in letters) >= 0.99 * len(letters) else "other"


def tokenize(text: str, language: str) -> list[str]:
    """Cut a text into ROUGE's tokens.

    Args:
        text: Any text.
        language: "en" (as rouge-score), "zh" (Chinese characters and words) or "other" (words).

    Example:
        >>> tokenize("用GPU 跑", "zh")
        ['用', 'gpu', '跑']
    """
    if language == "en":
        return re.findall(r"[a-z0-9]+", text.lower())
    return (_PIECES if language == "zh" else _WORDS).findall(text.lower())


def texts(references: Sequence[str], predictions: Sequence[str]) -> None:
    """Check references and predictions.

    Raises:
        InputError: If the lengths differ, there is no row, or one is not a string.
    """
    if len(references) != len(predictions) or not len(references):
        raise InputError(
            "References and predictions must be of one length, at least 1. "
            f"Received: {len(references)} and {len(predictions)} rows."
        )
    for row, pair in enumerate(zip(references, predictions, strict=True)):
        if not all(isinstance(text, str) for text in pair):
            raise InputError(
                f"References and predictions must be strings. Received: {pair!r} at index {row}."
            )


class _Tokens:
    """What rouge-score asks for as a tokenizer."""

    def __init__(self, language: str):
        self._language = language

    def tokenize(self, text: str) -> list[str]:
        return tokenize(text, self._language)


def rouge_rows(
    references: Sequence[str], predictions: Sequence[str], language: str
) -> dict[str, np.ndarray]:
    """Return `rouge_1`, `rouge_2` and `rouge_l` (F1, 0 to 1) of each row, shape [n].

    Args:
        references: The right texts, a string a row.
        predictions: The generated ones, of the same number.
        language: "en", "zh" or "other", as of `language_of`.

    Example:
        >>> rouge_rows(["the cat sat"], ["the cat"], "en")["rouge_1"]
        array([0.8])
    """
    from rouge_score import rouge_scorer

    names = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}
    own = None if language == "en" else _Tokens(language)
    scorer = rouge_scorer.RougeScorer(list(names), tokenizer=own)
    rows = [scorer.score(r, p) for r, p in zip(references, predictions, strict=True)]
    return {ours: np.array([row[n].fmeasure for row in rows]) for n, ours in names.items()}


def _lengths(references: Sequence[str], predictions: Sequence[str], tokens: list) -> dict:
    expected, given = sum(map(len, references)), sum(map(len, predictions))
    return {
        "mean_tokens": np.mean([len(row) for row in tokens]),
        "mean_characters": given / len(predictions),
        "length_ratio": given / expected if expected else None,
        "share_empty": np.mean([not text.strip() for text in predictions]),
    }
