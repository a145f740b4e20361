"""Level 5: reports and plots of how good a model is."""

from kerasft.evaluation import history, plots
from kerasft.evaluation.collector import Collector
from kerasft.evaluation.comparison import Comparison, compare
from kerasft.evaluation.report import Report

__all__ = ["Collector", "Comparison", "Report", "compare", "history", "plots"]
