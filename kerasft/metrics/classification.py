"""Scores of predicted classes, and thresholds for labels that do not exclude each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft._core.checks import one_of
from kerasft._core.errors import InputError
from kerasft.metrics import calibration
from kerasft.metrics.values import (
    class_ids,
    distributions,
    indicators,
    label_thresholds,
    plain,
    unit_table,
)

_AVERAGED = ("precision", "recall", "f1")


def multiclass(
    y_true: Any, probabilities: Any, labels: Sequence[str], none: str = ""
) -> dict[str, Any]:
    """Score answers of which exactly one is right; the answer is the most probable class.

    Macro and weighted means are scikit-learn's own: over the classes that occur among the right
    or the predicted ones. `roc_auc` is the mean of one class against the rest over the classes
    that have rows on both sides (two classes: the usual area).

    Args:
        y_true: The right classes, numbers of places in `labels`, shape [n].
        probabilities: The output of a softmax, shape [n, c].
        labels: The names of the c classes, c at least 2.
        none: The class of rows that are of none of the others, left out of all macro and weighted
            means (None where no other class occurs); "" for no such class.

    Returns:
        JSON types only: `accuracy`, `macro_f1`, `weighted_f1`, `macro_precision`,
        `macro_recall`, `weighted_precision`, `weighted_recall`, `mcc`, `roc_auc`, `ece`,
        `log_loss` (nats), `per_class` (label to `precision`, `recall`, `f1`, `support`),
        `confusion` (rows: right class, columns: predicted) and `reliability` (bins of the
        confidence). None stands for what is undefined: `mcc` and `roc_auc` when only one class
        occurs, the scores of a class that occurs neither as right nor as predicted.

    Raises:
        InputError: If a shape does not fit, or rows of probabilities are not such.

    Example:
        >>> multiclass([0, 1], [[0.9, 0.1], [0.6, 0.4]], ["ham", "spam"])["accuracy"]
        0.5
    """
    from sklearn import metrics as sk

    labels = _names(labels, least=2)
    out = labels.index(one_of("none", none, labels)) if none else -1
    y_true = class_ids(y_true, len(labels))
    probabilities = distributions("probabilities", probabilities, len(y_true), len(labels))
    y_pred, every = probabilities.argmax(axis=1), np.arange(len(labels))
    confidence, right = probabilities.max(axis=1).clip(0, 1), y_true == y_pred
    single = (y_true == y_true[0]).all()
    found = {
        "accuracy": right.mean(),
        **_averages(y_true, y_pred, ("macro", "weighted"), out),
        "mcc": None if single else sk.matthews_corrcoef(y_true, y_pred),
        "roc_auc": _roc_auc(y_true[:, None] == every, probabilities),
        "ece": calibration.ece(confidence, right),
        "log_loss": sk.log_loss(y_true, probabilities, labels=every),
        "per_class": _per_class(y_true, y_pred, labels),
        "confusion": sk.confusion_matrix(y_true, y_pred, labels=every),
        "reliability": calibration.reliability(confidence, right),
    }
    return plain(found)


def multilabel(
    y_true: Any, probabilities: Any, labels: Sequence[str], thresholds: Any = None
) -> dict[str, Any]:
    """Score answers of which any number is right; a label is given from its threshold upwards.

    Means over labels are scikit-learn's own (every label counts; 0 where a score is 0/0).

    Args:
        y_true: 1 where a row has the label, else 0, shape [n, c].
        probabilities: The output of a sigmoid, shape [n, c].
        labels: The names of the c labels.
        thresholds: The least probability at which each label is given, shape [c]; 0.5 if None.

    Returns:
        JSON types only: `accuracy` (share of rows with all labels right), `macro_f1`,
        `micro_f1`, `weighted_f1` and the same for precision and recall, `roc_auc` (mean over
        the labels that have rows on both sides), `hamming_loss` (share of wrong decisions),
        `ece` (over all decisions), `per_class` (label to `precision`, `recall`, `f1`,
        `support`, `threshold`), `confusion` (for each label [[tn, fp], [fn, tp]]) and
        `reliability`. None stands for what is undefined.

    Raises:
        InputError: If a shape does not fit or a value is out of range.

    Example:
        >>> multilabel([[1, 0]], [[0.4, 0.3]], ["a", "b"], thresholds=[0.4, 0.5])["accuracy"]
        1.0
    """
    from sklearn import metrics as sk

    labels = _names(labels)
    y_true = indicators(y_true, len(labels))
    probabilities = unit_table("probabilities", probabilities, len(y_true), len(labels))
    thresholds = label_thresholds(thresholds, len(labels))
    y_pred = (probabilities >= thresholds.astype(probabilities.dtype)).astype(np.int64)
    per_class = _per_class(y_true, y_pred, labels)
    for label, threshold in zip(labels, thresholds, strict=True):
        per_class[label]["threshold"] = threshold
    found = {
        "accuracy": (y_true == y_pred).all(axis=1).mean(),
        **_averages(y_true, y_pred, ("macro", "micro", "weighted")),
        "roc_auc": _roc_auc(y_true == 1, probabilities),
        "hamming_loss": (y_true != y_pred).mean(),
        "ece": calibration.ece(probabilities.ravel(), y_true.ravel()),
        "per_class": per_class,
        "confusion": sk.multilabel_confusion_matrix(**_counted(y_true, y_pred)),
        "reliability": calibration.reliability(probabilities.ravel(), y_true.ravel()),
    }
    return plain(found)


def choose_thresholds(y_true: Any, probabilities: Any) -> np.ndarray:
    """Choose for each label the threshold with the highest F1, over all possible cuts.

    F1 of giving the label to the k most probable rows = 2 tp_k / (k + positives)

    A cut lies between two neighbouring probabilities: at 0.5 if 0.5 is between them, else
    half-way. Among cuts of equal F1 the threshold nearest to 0.5 is taken. A label is given
    where probability >= threshold, in the dtype of `probabilities`.

    Args:
        y_true: 1 where a row has the label, else 0, shape [n, c]; rows of the validation set.
        probabilities: The output of a sigmoid, shape [n, c].

    Returns:
        The thresholds as float64, shape [c]; 0.5 for a label that no row has.

    Raises:
        InputError: If a shape does not fit or a value is out of range.

    Example:
        >>> choose_thresholds([[1], [1], [0]], [[0.9], [0.4], [0.2]])
        array([0.3])

    Reference:
        Lipton et al., Thresholding Classifiers to Maximize F1 Score, 2014,
        https://arxiv.org/abs/1402.1892
    """
    shape = np.shape(y_true)
    y_true = indicators(y_true, shape[1] if len(shape) == 2 else 1)
    probabilities = unit_table("probabilities", probabilities, *y_true.shape)
    order = np.argsort(-probabilities, axis=0, kind="stable")
    high = np.take_along_axis(probabilities, order, axis=0)
    low = np.vstack([high[1:], np.zeros_like(high[:1])])
    hits = np.take_along_axis(y_true, order, axis=0).cumsum(axis=0)
    taken = np.arange(1, len(high) + 1)[:, None]
    f1 = 2 * hits / (taken + hits[-1])
    f1[:-1][high[:-1] == low[:-1]] = -1  # no cut goes between equal probabilities
    cuts = _between(low, high)
    nearest = np.where(f1 == f1.max(axis=0), np.abs(cuts - 0.5), np.inf).argmin(axis=0)
    best = np.take_along_axis(cuts, nearest[None], axis=0)[0].astype(np.float64)
    return np.where(hits[-1] > 0, best, 0.5)


def text_report(y_true: Any, y_pred: Any, labels: Sequence[str]) -> str:
    """Return scikit-learn's `classification_report` as text, with four digits.

    Args:
        y_true: The right classes, shape [n], or zeros and ones, shape [n, c].
        y_pred: The predicted ones, of the same shape.
        labels: The names of the c classes.

    Returns:
        The report, several lines; a class that occurs on neither side has no line.

    Raises:
        InputError: If a shape does not fit or a value is out of range.

    Example:
        >>> print(text_report([0, 1], [0, 1], ["ham", "spam"]).splitlines()[2].strip())
        ham     1.0000    1.0000    1.0000         1
    """
    from sklearn.metrics import classification_report

    labels, check = _names(labels), indicators if np.ndim(y_true) == 2 else class_ids
    y_true, y_pred = check(y_true, len(labels)), check(y_pred, len(labels))
    if len(y_true) != len(y_pred):
        raise InputError(
            "`y_true` and `y_pred` must be of one length. "
            f"Received: {len(y_true)} and {len(y_pred)} rows."
        )
    names = labels if y_true.ndim == 2 else [labels[i] for i in _present(y_true, y_pred)]
    return classification_report(
        **_counted(y_true, y_pred), target_names=names, digits=4, zero_division=0
    )


def _counted(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, Any]:
    """What scikit-learn shall count; it reads a table of one column as two classes, 0 and 1."""
    if y_true.ndim == 1:
        return {"y_true": y_true, "y_pred": y_pred, "labels": _present(y_true, y_pred)}
    if y_true.shape[1] == 1:
        return {"y_true": y_true.ravel(), "y_pred": y_pred.ravel(), "labels": [1]}
    return {"y_true": y_true, "y_pred": y_pred, "labels": list(range(y_true.shape[1]))}


def _averages(y_true: np.ndarray, y_pred: np.ndarray, kinds: Sequence[str], out: int = -1) -> dict:
    """`macro_f1` and so on without the class `out`, F1 first because people look for it."""
    from sklearn.metrics import precision_recall_fscore_support

    found, counted = {}, _counted(y_true, y_pred)
    counted["labels"] = [label for label in counted["labels"] if y_true.ndim > 1 or label != out]
    for kind in kinds:
        values = (None,) * 3
        if counted["labels"]:
            values = precision_recall_fscore_support(**counted, average=kind, zero_division=0)
        found |= {f"{kind}_{n}": v for n, v in zip(_AVERAGED, values, strict=False)}
    return dict(sorted(found.items(), key=lambda item: not item[0].endswith("f1")))


def _per_class(y_true: np.ndarray, y_pred: np.ndarray, labels: Sequence[str]) -> dict[str, dict]:
    from sklearn.metrics import precision_recall_fscore_support

    counted = _counted(y_true, y_pred)
    *values, support = precision_recall_fscore_support(**counted, average=None, zero_division=0)
    undefined = dict.fromkeys(_AVERAGED) | {"support": 0}
    found = {label: dict(undefined) for label in labels}
    places = counted["labels"] if y_true.ndim == 1 else range(len(labels))
    for i, place in enumerate(places):
        found[labels[place]] |= {n: v[i] for n, v in zip(_AVERAGED, values, strict=True)}
        found[labels[place]]["support"] = support[i]
    return found


def _roc_auc(positive: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Mean area over the columns that have both positive and negative rows."""
    from sklearn.metrics import roc_auc_score

    both = positive.any(axis=0) & ~positive.all(axis=0)
    if not both.any():
        return None
    return roc_auc_score(positive[:, both], probabilities[:, both], average="macro")


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A number t with low < t <= high in their own dtype: 0.5 where it fits, else the middle."""
    middle = low + (high - low) / 2
    middle = np.where(middle > low, middle, high)
    return np.where((low < 0.5) & (high >= 0.5), high.dtype.type(0.5), middle)


def _present(y_true: np.ndarray, y_pred: np.ndarray) -> list[int]:
    return np.union1d(y_true, y_pred).tolist()


def _names(labels: Sequence[str], least: int = 1) -> list[str]:
    names = [str(label) for label in labels]
    if len(names) < least or len(set(names)) < len(names):
        raise InputError(
            f"`labels` must be at least {least} different names. Received: labels={names!r}."
        )
    return names
