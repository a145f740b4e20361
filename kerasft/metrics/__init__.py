"""Level 1: scores of predictions, pure functions on NumPy arrays that return JSON types."""

from kerasft.metrics.calibration import ece, reliability
from kerasft.metrics.classification import choose_thresholds, multiclass, multilabel, text_report
from kerasft.metrics.drift import ks, mmd2, psi, share_difference, wilson
from kerasft.metrics.generation import generation_scores, perplexity
from kerasft.metrics.ranking import ranking_scores
from kerasft.metrics.regression import mae, mse, pearson, r2, scores, spearman
from kerasft.metrics.spans import entity_scores, token_accuracy
from kerasft.metrics.squad import answer_scores
from kerasft.metrics.values import plain

__all__ = [
    "answer_scores",
    "choose_thresholds",
    "ece",
    "entity_scores",
    "generation_scores",
    "ks",
    "mae",
    "mmd2",
    "mse",
    "multiclass",
    "multilabel",
    "pearson",
    "perplexity",
    "plain",
    "psi",
    "r2",
    "ranking_scores",
    "reliability",
    "scores",
    "share_difference",
    "spearman",
    "text_report",
    "token_accuracy",
    "wilson",
]
