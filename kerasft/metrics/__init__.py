"""Level 1: scores of predictions, pure functions on NumPy arrays that return JSON types."""

from kerasft.metrics.calibration import ece, reliability
from kerasft.metrics.classification import choose_thresholds, multiclass, multilabel, text_report
from kerasft.metrics.regression import mae, mse, pearson, r2, scores, spearman
from kerasft.metrics.values import plain

__all__ = [
    "choose_thresholds",
    "ece",
    "mae",
    "mse",
    "multiclass",
    "multilabel",
    "pearson",
    "plain",
    "r2",
    "reliability",
    "scores",
    "spearman",
    "text_report",
]
