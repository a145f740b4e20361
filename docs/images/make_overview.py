"""Draw docs/images/overview.png, the picture of the README.

python docs/images/make_overview.py
"""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

HERE = Path(__file__).parent
INK, GREY = "#1d2b3a", "#5c6b7a"
SERVED, MOVES, SCORED = "#e3effa", "#fdebd3", "#e6f4e6"
HEIGHT = 1.15

# x, y, width, title, line below, fill
BOXES = {
    "text": (0.2, 3.1, 1.75, "text", "CSV, JSONL, Parquet,\ntfds:, hf:, memory", "white"),
    "encode": (2.65, 3.1, 1.75, "encode", "tokenizer in the\nTensorFlow graph", SERVED),
    "backbone": (5.1, 3.1, 2.1, "backbone [method]", "full | freeze | lora", MOVES),
    "head": (7.9, 3.1, 1.75, "head", "cls, mean, max\nor last token", MOVES),
    "decode": (
        10.35,
        3.1,
        1.75,
        "decode",
        "label, labels or score,\nprobabilities, logits",
        SERVED,
    ),
    "loss": (7.9, 0.55, 1.75, "loss", "+ objectives", "white"),
    "report": (10.35, 0.55, 1.75, "report", "before and after,\nplots, worst rows", SCORED),
    "labels": (5.1, 0.55, 2.1, "labels", "of the same rows", "white"),
    "saved": (12.95, 3.1, 1.85, "SavedModel", "strings in, labels out:\nTF Serving", SERVED),
}
ARROWS = [
    ("text", "encode"),
    ("encode", "backbone"),
    ("backbone", "head"),
    ("head", "decode"),
    ("head", "loss"),
    ("labels", "loss"),
    ("head", "report"),
    ("decode", "saved"),
]


def box(axes, x, y, width, title, below, fill):
    """A box with a title and a line or two below it."""
    style = "round,pad=0.02,rounding_size=0.12"
    axes.add_patch(FancyBboxPatch((x, y), width, HEIGHT, boxstyle=style, fc=fill, ec=INK, lw=1.3))
    middle = x + width / 2
    axes.text(
        middle, y + 0.86, title, ha="center", va="center", size=12.5, weight="bold", color=INK
    )
    axes.text(middle, y + 0.38, below, ha="center", va="center", size=9.2, color=GREY)


def arrow(axes, start, end):
    """From the side of one box to the side of another."""
    x, y, width = BOXES[start][:3]
    to_x, to_y, to_width = BOXES[end][:3]
    if y == to_y:
        places = (x + width + 0.03, y + HEIGHT / 2), (to_x - 0.05, to_y + HEIGHT / 2)
    else:
        places = (x + width / 2, y - 0.03), (to_x + to_width / 2, to_y + HEIGHT + 0.06)
    axes.add_patch(FancyArrowPatch(*places, arrowstyle="-|>", mutation_scale=15, color=INK, lw=1.3))


def main():
    """Draw and write the file."""
    figure = Figure(figsize=(15, 5.1), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set_xlim(0, 15)
    axes.set_ylim(0.2, 5.3)
    axes.axis("off")
    frame = FancyBboxPatch(
        (2.4, 2.8),
        9.95,
        2.15,
        boxstyle="round,pad=0.02,rounding_size=0.15",
        fc="none",
        ec="#3b78b5",
    )
    frame.set(linestyle="--", linewidth=1.3)
    axes.add_patch(frame)
    said = "all of this is TensorFlow graph code, and it is what the SavedModel holds"
    axes.text(7.4, 4.68, said, ha="center", va="center", size=11.5, color="#3b78b5")
    axes.text(0.2, 1.35, "training is keras.Model.compile and fit", size=10.5, color=GREY)
    axes.text(
        0.2, 1.0, "orange: weights; the method says which of them move", size=10.5, color=GREY
    )
    for values in BOXES.values():
        box(axes, *values)
    for start, end in ARROWS:
        arrow(axes, start, end)
    figure.savefig(HERE / "overview.png", facecolor="white")


if __name__ == "__main__":
    main()
