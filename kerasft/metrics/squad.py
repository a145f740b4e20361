"""Scores of answers that are strings, counted as the official scripts of SQuAD count them."""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerasft._core.checks import one_of
from kerasft._core.errors import InputError
from kerasft.metrics.values import numbers, plain

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# The list of CMRC's script, which goes by characters: its "……" never was one, so … stays.
_CHINESE = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
_HAN = re.compile(r"[\u4e00-\u9fa5]")
_PIECES = re.compile(r"[\u4e00-\u9fa5]|[^\W\u4e00-\u9fa5]+(?:[.,'][^\W\u4e00-\u9fa5]+)*|[^\w\s]")

Score = Callable[[str, str], float]


def answer_scores(
    gold: Any, answers: Any, no_answer: Any = None, *, version: str = "2.0", language: str = "en"
) -> dict[str, Any]:
    """Exact match and F1 of answers, in percent as SQuAD's scripts print them.

    F1 = 2 p r / (p + r) over the words that answer and gold share; the best of the golds counts.
    Words are compared in lower case, without punctuation and the articles a, an, the.

    Args:
        gold: The right answers, a list of strings a row; [] or [""] where there is none.
        answers: The predicted ones, a string a row; "" says that there is none.
        no_answer: How sure the model is of each row that there is no answer, shape [n], the more
            the surer; with it the best thresholds are found where a row has no answer.
        version: "2.0" or "1.1". 1.1 differs where nothing is left of a text: its F1 is 0 even if
            both are empty, and golds of articles alone stay golds.
        language: "en", or "zh" as CMRC 2018 counts: F1 is that of the longest common run of
            characters (words outside Chinese), exact match ignores Chinese punctuation. Words
            outside Chinese are cut by a pattern here, by NLTK there.

    Returns:
        JSON types only: `exact_match`, `f1` (0 to 100). Where a row has no answer also
        `has_answer_exact_match`, `has_answer_f1`, `no_answer_accuracy` of either part, and, with
        `no_answer`, `best_exact_match`, `best_exact_match_threshold`, `best_f1`,
        `best_f1_threshold`: the scores if "" is answered where `no_answer` is above the
        threshold. `has_answer_...` is None where no row has an answer.

    Raises:
        InputError: If lengths differ, a row is not strings, or a number is not finite.

    Example:
        >>> answer_scores([["The Thames", "Thames"]], ["the Thames river"])["f1"]
        66.66666666666666

    Reference:
        Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, 2018,
        https://arxiv.org/abs/1806.03822; Cui et al., CMRC 2018, https://arxiv.org/abs/1810.07366
    """
    rows = gold_rows(gold, answers)
    one_of("version", version, ("1.1", "2.0"))
    one_of("language", language, ("en", "zh"))
    has_answer = np.array([any(texts) for texts in rows])
    exact, f1 = (
        np.array([_best(score, texts, a, version, language) for texts, a in zip(rows, answers)])
        for score in _SCORES[language]
    )
    found = {"exact_match": 100 * exact.mean(), "f1": 100 * f1.mean()}
    if has_answer.all():
        return plain(found)
    for name, values in (("exact_match", exact), ("f1", f1)):
        found[f"has_answer_{name}"] = _percent(values[has_answer])
    found["no_answer_accuracy"] = _percent(exact[~has_answer])
    if no_answer is not None:
        no_answer = numbers("no_answer", no_answer)
        if len(no_answer) != len(rows):
            raise InputError(
                "`no_answer` must hold one number a row. "
                f"Received: {len(no_answer)} numbers for {len(rows)} rows."
            )
        said = np.array([bool(a) for a in answers])
        for name, values in (("exact_match", exact), ("f1", f1)):
            best, threshold = _best_threshold(values, no_answer, has_answer, said)
            found |= {f"best_{name}": best, f"best_{name}_threshold": threshold}
    return plain(found)


def answer_f1(gold: Sequence[str], answer: str, *, version="2.0", language: str = "en") -> float:
    """Return the F1 of one answer against the best of its golds, from 0 to 1.

    Args:
        gold: The right answers; [] or [""] if there is none.
        answer: The predicted one; "" says that there is none.
        version: As in `answer_scores`.
        language: As in `answer_scores`.

    Example:
        >>> answer_f1(["Thames"], "a Thames")
        1.0
    """
    return float(_best(_SCORES[language][1], list(gold) or [""], answer, version, language))


def gold_rows(gold: Any, answers: Any) -> list[list[str]]:
    """Check golds and answers of some rows; a row without a gold becomes [""].

    Raises:
        InputError: If lengths differ, or a row is not strings.
    """
    if len(gold) != len(answers) or not len(gold):
        raise InputError(
            "Golds and answers must be of one length, at least 1. "
            f"Received: {len(gold)} and {len(answers)} rows."
        )
    for row, (texts, answer) in enumerate(zip(gold, answers, strict=True)):
        several = not isinstance(texts, str) and all(isinstance(t, str) for t in texts)
        if not several or not isinstance(answer, str):
            raise InputError(
                "Each row needs a list of strings as golds and one string as answer. "
                f"Received: {texts!r} and {answer!r} at index {row}."
            )
    return [list(texts) or [""] for texts in gold]


def _best(score: Score, gold: list[str], answer: str, version: str, language: str) -> float:
    if version == "2.0" and language == "en":
        gold = [text for text in gold if _normal(text)] or [""]
        if score is _f1 and not (_normal(gold[0]) and _normal(answer)):
            return float(any(_normal(text) == _normal(answer) for text in gold))
    return max(score(text, answer) for text in gold)


def _exact(gold: str, answer: str) -> float:
    return float(_normal(gold) == _normal(answer))


def _f1(gold: str, answer: str) -> float:
    gold, answer = _normal(gold).split(), _normal(answer).split()
    return _harmonic(sum((Counter(gold) & Counter(answer)).values()), len(gold), len(answer))


def _normal(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _exact_chinese(gold: str, answer: str) -> float:
    return float(_bare(gold) == _bare(answer))


def _f1_chinese(gold: str, answer: str) -> float:
    gold, answer = _PIECES.findall(_bare(gold)), _PIECES.findall(_bare(answer))
    if not gold or not answer:  # CMRC has no such rows; "no answer" is then as in SQuAD 2.0
        return float(gold == answer)
    return _harmonic(_common_run(gold, answer), len(gold), len(answer))


def _bare(text: str) -> str:
    return "".join(c for c in text.lower().strip() if c not in _CHINESE)


def _common_run(a: list[str], b: list[str]) -> int:
    """Length of the longest run of pieces that both hold."""
    longest, before = 0, [0] * (len(b) + 1)
    for piece in a:
        row = [0] * (len(b) + 1)
        for j, other in enumerate(b):
            if piece == other:
                row[j + 1] = before[j] + 1
        longest, before = max(longest, *row), row
    return longest


def _harmonic(same: int, gold: int, answer: int) -> float:
    if not same:
        return 0.0
    precision, recall = 1.0 * same / answer, 1.0 * same / gold
    return 2 * precision * recall / (precision + recall)


def _best_threshold(
    scores: np.ndarray, no_answer: np.ndarray, has_answer: np.ndarray, said: np.ndarray
) -> tuple[float, float]:
    """`find_best_thresh` of the official script: it walks from the surest answer downwards.

    It starts from saying "" everywhere, with the threshold 0. Numbers that are not probabilities
    may lie at or below 0: then the start is just below the lowest.
    """
    start = min(0.0, math.nextafter(no_answer.min(), -math.inf)) if no_answer.min() <= 0 else 0.0
    gain = np.where(has_answer, scores, -1.0 * said)
    order = np.argsort(no_answer, kind="stable")
    total = np.cumsum(np.concatenate([[(~has_answer).sum()], gain[order]]))
    best = int(total.argmax())
    threshold = start if best == 0 else no_answer[order[best - 1]]
    return 100 * total[best] / len(scores), float(threshold)


def _percent(values: np.ndarray) -> float | None:
    return 100 * values.mean() if len(values) else None


_SCORES: dict[str, tuple[Score, Score]] = {
    "en": (_exact, _f1),
    "zh": (_exact_chinese, _f1_chinese),
}
