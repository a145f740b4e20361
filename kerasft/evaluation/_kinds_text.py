"""Kinds whose answers are texts, or how likely texts are."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from kerasft import metrics
from kerasft._core.checks import one_of
from kerasft._core.errors import InputError
from kerasft.evaluation import _joins
from kerasft.metrics import generation, squad, values


@dataclasses.dataclass(frozen=True)
class Answers:
    """Some right strings a row, or none; the answer is a string and how sure it is."""

    main: ClassVar[str] = "f1"
    labels: tuple[str, ...] = ()
    thresholds: Any = None
    version: str = "2.0"
    language: str = "en"
    join = staticmethod(_joins.lists)

    def __post_init__(self):
        metrics.answer_scores([[""]], [""], version=self.version, language=self.language)

    def check(self, y_true, outputs):
        """Lists to keep of one chunk: golds, and pairs (answer, score)."""
        for i, pair in enumerate(outputs):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InputError(
                    f"Each answer must be a pair (string, score). Received: {pair!r} at index {i}."
                )
        texts, scores = [text for text, _ in outputs], [score for _, score in outputs]
        golds = squad.gold_rows(y_true, texts)
        scores = values.numbers("scores", scores).tolist()
        return golds, list(zip(texts, scores, strict=True))

    def wrong(self, y_true, outputs):
        """1 - F1, shape [b]."""
        return np.array([self._error(*row) for row in zip(y_true, outputs, strict=True)])

    def describe(self, y_true, outputs):
        """What a wrong row's answer was."""
        text, score = outputs
        return {
            "expected": " / ".join(dict.fromkeys(y_true)),
            "predicted": text,
            "error": self._error(y_true, outputs),
            "score": score,
        }

    def measure(self, y_true, outputs):
        """Metrics; no text. The thresholds are of the score: below them "" is answered."""
        answers = [text for text, _ in outputs]
        no_answer = [-score for _, score in outputs]
        found = metrics.answer_scores(
            y_true, answers, no_answer, version=self.version, language=self.language
        )
        return {k: -v if k.endswith("_threshold") else v for k, v in found.items()}, ""

    def drawn(self, y_true, outputs):
        """counts -> F1 in percent."""
        return _joins.mean(100 * (1 - self.wrong(y_true, outputs)))

    def _error(self, gold, output) -> float:
        options = {"version": self.version, "language": self.language}
        return 1 - squad.answer_f1(gold, output[0], **options)


@dataclasses.dataclass(frozen=True)
class Generation:
    """One reference text a row."""

    main: ClassVar[str] = "rouge_l"
    labels: tuple[str, ...] = ()
    thresholds: Any = None
    language: str = "auto"
    join = staticmethod(_joins.lists)

    def __post_init__(self):
        one_of("language", self.language, generation.LANGUAGES)

    def check(self, y_true, outputs):
        """Texts to keep of one chunk."""
        generation.texts(y_true, outputs)
        return list(y_true), list(outputs)

    def wrong(self, y_true, outputs):
        """1 - chrF, shape [b]."""
        return np.array([_unlike(*row) for row in zip(y_true, outputs, strict=True)])

    def describe(self, y_true, outputs):
        """What a wrong row's text was."""
        return {"expected": y_true, "predicted": outputs, "error": _unlike(y_true, outputs)}

    def measure(self, y_true, outputs):
        """Metrics; no text."""
        return metrics.generation_scores(y_true, outputs, self.language), ""

    def drawn(self, y_true, outputs):
        """counts -> ROUGE-L, which, unlike BLEU and chrF, is a mean over rows."""
        language = generation.language_of(y_true, self.language)
        return _joins.mean(generation.rouge_rows(y_true, outputs, language)["rouge_l"])


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """How likely the texts are: tokens and their summed negative log-likelihood."""

    main: ClassVar[str] = "nll"
    labels: tuple[str, ...] = ()
    thresholds: Any = None
    join = staticmethod(_joins.arrays)

    def check(self, y_true, outputs):
        """Arrays to keep of one chunk."""
        tokens, nll = values.numbers("y_true", y_true), values.numbers("outputs", outputs)
        wrong = (tokens < 0) | (tokens != np.floor(tokens)) if len(tokens) == len(nll) else True
        if np.any(wrong) or (nll < 0).any():
            raise InputError(
                "Each row needs its number of tokens and a summed negative log-likelihood of at "
                f"least 0. Received: {len(tokens)} numbers from {tokens.min():g} on and "
                f"{len(nll)} from {nll.min():g} on."
            )
        return tokens.astype(np.int64), nll

    def wrong(self, y_true, outputs):
        """The mean negative log-likelihood of a token, shape [b]."""
        return outputs / np.maximum(y_true, 1)

    def describe(self, y_true, outputs):
        """What an unlikely row was."""
        return {"tokens": int(y_true), "error": float(outputs / max(y_true, 1))}

    def measure(self, y_true, outputs):
        """Perplexity, the nats of a token, how many tokens; no text."""
        nll, tokens = float(outputs.sum()), int(y_true.sum())
        found = {
            "perplexity": metrics.perplexity(nll, tokens),
            "nll": nll / tokens if tokens else None,
            "tokens": tokens,
        }
        return metrics.plain(found), ""

    def drawn(self, y_true, outputs):
        """counts -> nats of a token."""
        return _joins.mean(outputs, y_true)


def _unlike(reference: str, prediction: str) -> float:
    return 1 - generation.chrf(reference, prediction) / 100
