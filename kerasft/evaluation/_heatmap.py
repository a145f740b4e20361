"""Tables of counts as coloured cells."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kerasft.evaluation import _fonts
from kerasft.evaluation._style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COUNTED = 20  # up to so many classes the cells hold their counts
_LABELLED = 100  # above, only every so many-th class is named
_NAMELESS = "class N: number N, from 0, of `labels` in metrics.json (no font here has its name)"


def heatmap(counts, shares, rows, columns, title, axis_names, bar_name) -> "Figure":
    """Draw the shares as colours, placed in inches so that any number of cells is legible."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    families, missing = _fonts.choose([*rows, *columns, title])
    nameless = missing & set("".join(rows))
    rows, columns = _fonts.drawable(rows, missing), _fonts.drawable(columns, missing)
    size = _Size(rows, columns)
    title = "".join("?" if c in missing else c for c in title)
    title = textwrap.fill(title, max(24, int(size.inner[0] * 13)))
    size.top += 0.2 * title.count("\n")
    with style(families):
        figure = Figure(figsize=(size.width, size.height))
        ax = figure.add_axes(size.cells())
        norm = PowerNorm(0.5, 0, 1)  # so that a confusion of some hundredths can be seen
        image = ax.imshow(shares, cmap="Blues", norm=norm, aspect="auto")
        _ticks(ax, size)
        ax.set(xlabel=axis_names[0], ylabel=axis_names[1])
        ax.set_title(title, pad=10)
        if nameless:
            figure.text(0.5, 0, _NAMELESS, ha="center", va="bottom", fontsize=6)
        bar = figure.colorbar(image, cax=figure.add_axes(size.bar()), label=bar_name)
        bar.outline.set_visible(False)
        if len(rows) <= _COUNTED:
            _write_counts(ax, counts, shares)
        return figure


class _Size:
    """Where everything goes in a heatmap, in inches."""

    def __init__(self, rows: Sequence[str], columns: Sequence[str]):
        self.rows, self.columns = rows, columns
        many = max(len(rows), len(columns))
        self.font = 9 if many <= _COUNTED else 7
        self.cell = (
            np.clip(4 / many, 0.5, 1.2) if many <= _COUNTED else np.clip(18 / many, 0.06, 0.2)
        )
        names = [max(map(_fonts.cell_len, n)) * self.font * 0.62 / 72 for n in (rows, columns)]
        across = self.cell if len(rows) == len(columns) else max(self.cell, 0.9)
        flat = names[1] < across * 0.95
        self.rotation = 0 if flat else 45 if many <= _COUNTED else 90
        high = 0.15 if flat else names[1] * (0.72 if self.rotation == 45 else 1)
        self.left = max(names[0] + 0.5, names[1] * 0.72 - across / 2 if self.rotation == 45 else 0)
        self.bottom, self.right, self.top = high + 0.55, 1.0, 0.45
        self.inner = (across * len(columns), max(self.cell * len(rows), 1.0))

    @property
    def width(self) -> float:
        return self.left + self.inner[0] + self.right

    @property
    def height(self) -> float:
        return self.bottom + self.inner[1] + self.top

    def cells(self) -> list[float]:
        """The axes of the cells, in shares of the figure."""
        return self._share(self.left, self.bottom, *self.inner)

    def bar(self) -> list[float]:
        """The axes of the colour bar, in shares of the figure."""
        return self._share(self.left + self.inner[0] + 0.15, self.bottom, 0.16, self.inner[1])

    def _share(self, left: float, bottom: float, width: float, height: float) -> list[float]:
        return [left / self.width, bottom / self.height, width / self.width, height / self.height]


def _ticks(ax, size: _Size) -> None:
    slant = {"rotation": size.rotation}
    if size.rotation == 45:
        slant |= {"ha": "right", "rotation_mode": "anchor"}
    for put, names, more in ((ax.set_xticks, size.columns, slant), (ax.set_yticks, size.rows, {})):
        step = -(-len(names) // _LABELLED)
        put(range(0, len(names), step), names[::step], fontsize=size.font, **more)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _write_counts(ax, counts: np.ndarray, shares: np.ndarray) -> None:
    font = 8 if counts.max() < 100_000 else 6
    for (i, j), count in np.ndenumerate(counts):
        colour = "white" if shares[i, j] > 0.35 else "#222222"
        ax.text(j, i, f"{count}", ha="center", va="center", color=colour, fontsize=font)
