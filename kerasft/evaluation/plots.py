"""Plots as matplotlib figures of their own: nothing global is touched, no window is opened."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft._core.errors import InputError
from kerasft.evaluation import _fonts
from kerasft.evaluation._heatmap import heatmap
from kerasft.evaluation._style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AFTER, _BEFORE, _PALE = "#1f5fa8", "#8a8a8a", "#bcd2ea"
_NOT_A_METRIC = {"epoch", "loss", "val_loss", "learning_rate", "lr", "seconds", "step", "steps"}


def png(figure: "Figure") -> bytes:
    """Return the figure as PNG, 150 dots an inch.

    Args:
        figure: A figure of this module, or any other of matplotlib.

    Returns:
        The content of a .png file.
    """
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # text in a script that no font here has
        figure.savefig(  # "tight": as large as its labels need, nothing is cut
            file, format="png", dpi=150, facecolor="white", bbox_inches="tight", pad_inches=0.12
        )
    return file.getvalue()


def confusion(matrix: Any, labels: Sequence[str], title: str = "Confusion matrix") -> "Figure":
    """Draw true classes against predicted ones, coloured by the share of the row.

    Args:
        matrix: Counts, rows are true classes and columns predicted ones, shape [c, c].
        labels: The names of the c classes, in any script.
        title: Above the plot.

    Returns:
        A figure; up to 20 classes it holds the counts.

    Raises:
        InputError: If the shape does not fit the labels.

    Example:
        >>> figure = confusion([[90, 10], [5, 95]], ["ham", "spam"])
    """
    counts = _counts(matrix, (len(labels), len(labels)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return heatmap(
        counts,
        shares,
        labels,
        labels,
        title,
        ("Predicted class", "True class"),
        "Share of the true class",
    )


def decisions(confusions: Any, labels: Sequence[str], title: str = "Decisions") -> "Figure":
    """Draw for each label of a multi-label task what became of the rows with and without it.

    Args:
        confusions: For each label [[tn, fp], [fn, tp]], shape [c, 2, 2].
        labels: The names of the c labels.
        title: Above the plot.

    Returns:
        A figure with one row a label.

    Raises:
        InputError: If the shape does not fit the labels.

    Example:
        >>> figure = decisions([[[80, 5], [3, 12]]], ["urgent"])
    """
    table = _counts(confusions, (len(labels), 2, 2))
    shares = table / np.maximum(table.sum(axis=2, keepdims=True), 1)
    order = [(1, 1), (1, 0), (0, 1), (0, 0)]
    counts, shares = (np.stack([t[:, i, j] for i, j in order], axis=1) for t in (table, shares))
    columns = ["true pos.", "false neg.", "false pos.", "true neg."]
    return heatmap(
        counts, shares, labels, columns, title, ("", "Label"), "Share of rows with / without it"
    )


def learning_curves(history: Sequence[Mapping[str, Any]], metric: str | None = None) -> "Figure":
    """Draw training and validation loss, and beside them the metric, over the epochs.

    Args:
        history: One row an epoch with `epoch`, `loss`, `val_loss` and the metric's columns.
        metric: A column, its `val_` included when `val_` + metric is there too; if None, the
            first column of the history that is neither a loss nor a setting.

    Returns:
        A figure with one panel, or two where the history has a metric.

    Raises:
        InputError: If the history is empty or lacks the metric.

    Example:
        >>> figure = learning_curves([{"epoch": 1, "loss": 0.7, "val_loss": 0.6}])
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not history:
        raise InputError("Learning curves need at least one epoch. Received: an empty history.")
    metric = metric or _metric(history)
    columns = ["loss", metric] if metric else ["loss"]
    if metric and not _values(history, metric):
        raise InputError(f"The history has no column {metric!r}. Received: {list(history[0])!r}.")
    with style():
        figure = Figure(figsize=(4.6 * len(columns), 3.6), layout="constrained")
        for ax, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns):
            for label, values in _values(history, column).items():
                colour = _AFTER if label == "validation" else _BEFORE
                epochs = [row["epoch"] for row in history]
                ax.plot(epochs, values, "o-", markersize=3.5, color=colour, label=label)
                if (column, label) == ("loss", "validation"):
                    _mark(ax, epochs[int(np.nanargmin(values))])
            ax.set(xlabel="Epoch", title=column)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if ax.lines:
                ax.legend()
        return figure


def calibration(
    after: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]] | None = None,
    title: str = "Calibration",
) -> "Figure":
    """Draw how often the model was right at each confidence, and how many rows had it.

    Args:
        after: Bins as `metrics.reliability` returns them.
        before: The bins of the model before fine-tuning, drawn in grey.
        title: Above the plot; the calibration error is added.

    Returns:
        A figure of two panels; on the diagonal confidence is right, below it is too high.

    Raises:
        InputError: If no bin holds a row.

    Example:
        >>> figure = calibration(kerasft.metrics.reliability([0.9, 0.8], [1, 0]))
    """
    from matplotlib.figure import Figure

    if not any(b["count"] for b in after):
        raise InputError("A calibration plot needs rows. Received: bins without any.")
    with style():
        figure = Figure(figsize=(5, 5.6), layout="constrained")
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], "--", color="#b0b0b0", linewidth=1, label="calibrated")
        for bins, colour, name in ((before, _BEFORE, "before"), (after, _AFTER, "after")):
            _reliability(top, bins, colour, name)
        top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Share of right answers")
        top.set_title(f"{title} (error {_error(after):.3f})")
        top.legend(loc="upper left")
        lows, counts = [b["low"] for b in after], [b["count"] for b in after]
        below.bar(lows, counts, width=1 / len(after), align="edge", color=_PALE, edgecolor="white")
        below.set(xlabel="Confidence", ylabel="Rows")
        return figure


def class_scores(
    after: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Mapping[str, Any]] | None = None,
    title: str = "F1",
) -> "Figure":
    """Draw the F1 of each class as a bar, the first class at the top.

    Args:
        after: `per_class` of `kerasft.metrics`: label to `f1` (None: no bar) and `support`.
        before: The same of the model before fine-tuning, drawn in grey.
        title: Above the plot.

    Returns:
        A figure with one row a class, of up to 40 classes; of more, those with the lowest F1.

    Raises:
        InputError: If there is no class.

    Example:
        >>> figure = class_scores({"PER": {"f1": 0.9, "support": 12}})
    """
    from matplotlib.figure import Figure

    if not after:
        raise InputError("A plot of classes needs at least one. Received: none.")
    labels = _lowest(after, 40)
    title += f", the lowest {len(labels)} of {len(after)}" if len(labels) < len(after) else ""
    families, missing = _fonts.choose([*labels, title])
    names = _fonts.drawable(labels, missing)
    with style(families):
        figure = Figure(figsize=(5.5, 1.1 + 0.3 * len(labels)), layout="constrained")
        ax = figure.subplots()
        sides = [(before, _BEFORE, "before"), (after, _AFTER, "after")]
        sides = [side for side in sides if side[0]]
        for i, (scores, colour, name) in enumerate(sides):
            places = np.arange(len(labels)) + 0.8 * (i + 0.5) / len(sides) - 0.4
            widths = [_or_nan(scores.get(label, {}).get("f1")) for label in labels]
            ax.barh(places, widths, height=0.8 / len(sides), color=colour, label=name)
        rows = [f"{n} ({after[label]['support']})" for n, label in zip(names, labels)]
        ax.set_yticks(range(len(labels)), rows)
        ax.set(xlim=(0, 1), xlabel="F1", title="".join("?" if c in missing else c for c in title))
        ax.invert_yaxis()
        if len(sides) > 1:
            ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def _counts(matrix: Any, shape: tuple[int, ...]) -> np.ndarray:
    counts = np.asarray(matrix)
    if counts.shape != shape or not shape[0]:
        raise InputError(
            f"The counts must be of shape {list(shape)}, as many as labels. "
            f"Received: shape {list(counts.shape)}."
        )
    return counts


def _metric(history: Sequence[Mapping[str, Any]]) -> str | None:
    """The first column that is neither a loss nor a setting; one with a `val_` twin goes first."""
    names = dict.fromkeys(name for row in history for name in row)
    bare = [n.removeprefix("val_") for n in sorted(names, key=lambda n: n[:4] != "val_")]
    known = [n for n in bare if n not in _NOT_A_METRIC and _values(history, n)]
    return known[0] if known else None


def _values(history: Sequence[Mapping[str, Any]], column: str) -> dict[str, np.ndarray]:
    """The column in training and in validation, NaN where a row has no number; empty ones not."""
    found = {"training": column, "validation": f"val_{column}"}
    found = {k: np.array([_or_nan(row.get(c)) for row in history]) for k, c in found.items()}
    return {k: values for k, values in found.items() if not np.isnan(values).all()}


def _mark(ax, epoch: int) -> None:
    ax.axvline(epoch, color="#b0b0b0", linewidth=1, linestyle=":", zorder=0, label="lowest")


def _reliability(ax, bins, colour: str, name: str) -> None:
    filled = [b for b in bins or () if b["count"]]
    if filled:
        x, y = [b["confidence"] for b in filled], [b["accuracy"] for b in filled]
        ax.plot(x, y, marker="o", markersize=4, color=colour, label=name)


def _error(bins: Sequence[Mapping[str, Any]]) -> float:
    filled = [b for b in bins if b["count"]]
    gaps = sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in filled)
    return gaps / sum(b["count"] for b in filled)


def _or_nan(value: Any) -> float:
    return value if isinstance(value, (int, float)) and np.isfinite(value) else np.nan


def _lowest(classes: Mapping[str, Mapping[str, Any]], most: int) -> list[str]:
    """All labels in their order, or those with the lowest F1, the undefined ones last."""
    if len(classes) <= most:
        return list(classes)
    f1 = {label: scores["f1"] for label, scores in classes.items()}
    return sorted(classes, key=lambda label: (f1[label] is None, f1[label] or 0))[:most]
