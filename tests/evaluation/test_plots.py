"""The plots: what is drawn, in which size, in any script."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.image import imread

from kerasft import metrics
from kerasft._core.errors import InputError
from kerasft.evaluation import _fonts, plots


def pixels(figure, tmp_path):
    path = tmp_path / "plot.png"
    path.write_bytes(plots.png(figure))
    return imread(path)


def drawn(axes):
    return [text.get_text() for text in axes.texts]


def tick_labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def blank_border(image, width=6):
    """Nothing but white at the rim: no text was cut."""
    rim = [image[:width], image[-width:], image[:, :width], image[:, -width:]]
    return all((part[..., :3] == 1).all() for part in rim)


def test_confusion_of_two_classes(tmp_path):
    figure = plots.confusion([[90, 10], [5, 95]], ["ham", "spam"], "Test")
    axes = figure.axes[0]
    assert drawn(axes) == ["90", "10", "5", "95"]
    assert tick_labels(axes.xaxis) == tick_labels(axes.yaxis) == ["ham", "spam"]
    shares = np.asarray(axes.images[0].get_array())
    assert shares.tolist() == [[0.9, 0.1], [0.05, 0.95]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted class", "True class")
    image = pixels(figure, tmp_path)
    assert 400 < image.shape[0] < 700 and 500 < image.shape[1] < 800
    assert blank_border(image)


@pytest.mark.parametrize(
    "classes, low, high", [(10, 700, 1300), (60, 1700, 2600), (120, 2200, 3600)]
)
def test_size_grows_with_the_classes(tmp_path, classes, low, high):
    labels = ["W" * (i % 30 + 1) + str(i) for i in range(classes)]
    matrix = np.arange(classes * classes).reshape(classes, classes)
    figure = plots.confusion(matrix, labels)
    image = pixels(figure, tmp_path)
    assert low < image.shape[0] < high and low < image.shape[1] < high
    assert blank_border(image)
    assert len(drawn(figure.axes[0])) == (classes**2 if classes <= 20 else 0)
    assert len(tick_labels(figure.axes[0].yaxis)) <= 100


def test_class_without_rows_is_blank_not_nan():
    figure = plots.confusion([[0, 0], [1, 3]], ["a", "b"])
    assert np.asarray(figure.axes[0].images[0].get_array()).tolist() == [[0, 0], [0.25, 0.75]]


def test_dollars_and_line_breaks_in_labels(tmp_path):
    figure = plots.confusion([[1, 0], [0, 1]], ["$\\bad{", "two\nlines"], "split $x_")
    assert tick_labels(figure.axes[0].yaxis) == ["$\\bad{", "two lines"]
    assert blank_border(pixels(figure, tmp_path))


def test_labels_that_no_font_has_become_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(_fonts, "_installed", lambda: {"DejaVu Sans": dejavu()})
    figure = plots.confusion([[1, 0], [0, 1]], ["正面", "ok"], "验证 x")
    assert tick_labels(figure.axes[0].yaxis) == ["class 0", "ok"]
    assert "metrics.json" in figure.texts[0].get_text()
    assert figure.axes[0].get_title() == "?? x"
    pixels(figure, tmp_path)  # a warning would fail


def test_font_with_the_characters_is_taken(monkeypatch):
    fonts = {"DejaVu Sans": "latin", "Emoji": "emoji", "Song": "chinese"}
    characters = {"latin": "abc", "emoji": "☃", "chinese": "ab正面"}
    monkeypatch.setattr(_fonts, "_installed", lambda: fonts)
    monkeypatch.setattr(_fonts, "_characters", lambda file: frozenset(characters[file]))
    assert _fonts.choose(["abc"]) == (["DejaVu Sans"], set())
    assert _fonts.choose(["a正", "面"]) == (["DejaVu Sans", "Song"], set())
    assert _fonts.choose(["正x"]) == (["DejaVu Sans", "Song"], {"x"})


def dejavu():
    return font_manager.findfont("DejaVu Sans")


def test_fonts_here_are_read_silently(caplog):
    with caplog.at_level(logging.WARNING):
        families, missing = _fonts.choose(["plain", "\U00012000"])  # cuneiform: in few fonts
    assert families[0] == "DejaVu Sans" and missing <= {"\U00012000"}
    assert not caplog.records


def test_chinese_is_drawn_where_a_font_has_it(tmp_path):
    families, missing = _fonts.choose(["正面", "负面"])
    if missing:
        pytest.skip("no font with Chinese characters is installed")
    figure = plots.confusion([[1, 0], [0, 1]], ["正面", "负面"])
    assert tick_labels(figure.axes[0].yaxis) == ["正面", "负面"]
    assert figure.axes[0].get_yticklabels()[0].get_fontfamily() == families
    pixels(figure, tmp_path)


def test_cut_counts_columns():
    assert _fonts.cut("正面评价", 8) == "正面评价"
    assert _fonts.cut("正面评价", 6) == "正面…"
    assert _fonts.cut("abcdef", 4) == "abc…"


def test_decisions_of_labels(tmp_path):
    figure = plots.decisions([[[80, 5], [3, 12]], [[98, 0], [2, 0]]], ["urgent", "rare"])
    axes = figure.axes[0]
    assert drawn(axes) == ["12", "3", "5", "80", "0", "2", "0", "98"]
    assert tick_labels(axes.xaxis) == ["true pos.", "false neg.", "false pos.", "true neg."]
    shares = np.asarray(axes.images[0].get_array())
    assert shares[0] == pytest.approx([12 / 15, 3 / 15, 5 / 85, 80 / 85])
    assert blank_border(pixels(figure, tmp_path))


def test_decisions_of_many_labels_keep_their_columns():
    figure = plots.decisions(np.ones((150, 2, 2), int), [f"label {i}" for i in range(150)])
    assert len(tick_labels(figure.axes[0].xaxis)) == 4
    assert tick_labels(figure.axes[0].yaxis)[:2] == ["label 0", "label 2"]


def test_learning_curves(tmp_path):
    rows = [
        {"epoch": 1, "loss": 0.7, "val_loss": 0.6, "learning_rate": 1e-3, "val_macro_f1": 0.5},
        {"epoch": 2, "loss": 0.5, "val_loss": 0.4, "learning_rate": 1e-3, "val_macro_f1": None},
        {"epoch": 3, "loss": 0.3, "val_loss": 0.5, "learning_rate": 0.0, "val_macro_f1": 0.8},
    ]
    figure = plots.learning_curves(rows)
    loss, metric = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["loss", "macro_f1"]
    lines = {line.get_label(): line for line in loss.lines}
    assert lines["training"].get_ydata().tolist() == [0.7, 0.5, 0.3]
    assert lines["validation"].get_ydata().tolist() == [0.6, 0.4, 0.5]
    assert set(lines["lowest"].get_xdata()) == {2}
    assert [line.get_label() for line in metric.lines] == ["validation"]
    image = pixels(figure, tmp_path)
    assert image.shape[1] > 2 * image.shape[0] and blank_border(image)


def test_learning_curves_of_one_epoch_without_metric(tmp_path):
    figure = plots.learning_curves([{"epoch": 1, "loss": 0.7, "val_loss": None, "seconds": 3.0}])
    assert len(figure.axes) == 1
    assert blank_border(pixels(figure, tmp_path))


def test_learning_curves_of_a_diverged_run(tmp_path):
    pixels(plots.learning_curves([{"epoch": 1, "loss": float("nan")}]), tmp_path)


def test_learning_curves_take_a_column_that_is_there():
    rows = [{"epoch": 1, "loss": 0.7, "accuracy": 0.5, "recall": 0.4}]
    assert plots.learning_curves(rows, "recall").axes[1].get_title() == "recall"
    with pytest.raises(InputError, match="no column 'f1'.*'recall'"):
        plots.learning_curves(rows, "f1")
    with pytest.raises(InputError, match="at least one epoch"):
        plots.learning_curves([])


def test_calibration(tmp_path):
    bins = metrics.reliability([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0])
    figure = plots.calibration(bins, metrics.reliability([0.8], [0]))
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["after"].get_xdata() == pytest.approx([0.6, 0.9])
    assert lines["after"].get_ydata() == pytest.approx([0.5, 1.0])
    assert lines["before"].get_ydata() == pytest.approx([0.0])
    error = metrics.ece([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0])
    assert f"{error:.3f}" in figure.axes[0].get_title()
    image = pixels(figure, tmp_path)
    assert image.shape[0] > 700 and blank_border(image)


def test_wrong_input():
    with pytest.raises(InputError, match=r"\[3, 3\].*\[2, 2\]"):
        plots.confusion([[1, 0], [0, 1]], ["a", "b", "c"])
    with pytest.raises(InputError, match="needs rows"):
        plots.calibration([])


def test_nothing_global_is_touched():
    import matplotlib

    before = dict(matplotlib.rcParams)
    matplotlib.rcParams["font.size"] = 31
    try:
        figure = plots.confusion([[1, 0], [0, 1]], ["a", "b"])
        assert matplotlib.rcParams["font.size"] == 31
        assert figure.axes[0].texts[0].get_fontsize() == 8
    finally:
        matplotlib.rcParams.update(before)


def test_pyplot_is_not_used():
    code = (
        "import sys; from kerasft.evaluation import plots\n"
        "plots.png(plots.confusion([[1, 0], [0, 1]], ['a', 'b']))\n"
        "plots.png(plots.learning_curves([{'epoch': 1, 'loss': 1.0}]))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def scores(*f1):
    return {f"label {i}": {"f1": value, "support": i} for i, value in enumerate(f1)}


def test_bars_of_classes(tmp_path):
    figure = plots.class_scores(scores(0.5, None, 1.0), scores(0.25, 0.1, 0.0), "Test")
    axes = figure.axes[0]
    assert tick_labels(axes.yaxis) == ["label 0 (0)", "label 1 (1)", "label 2 (2)"]
    before, after = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert before == [0.25, 0.1, 0.0]
    assert after[0] == 0.5 and np.isnan(after[1]) and after[2] == 1.0
    assert blank_border(pixels(figure, tmp_path))
    assert len(plots.class_scores(scores(0.5)).axes[0].containers) == 1


def test_bars_of_many_classes_are_the_lowest():
    figure = plots.class_scores(scores(*np.linspace(1, 0, 50), None), title="Test")
    names = tick_labels(figure.axes[0].yaxis)
    assert len(names) == 40 and names[0].startswith("label 49 ")
    assert "lowest 40 of 51" in figure.axes[0].get_title()


def test_bars_need_a_class():
    with pytest.raises(InputError, match="at least one"):
        plots.class_scores({})
