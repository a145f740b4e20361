"""The report: JSON, files, print."""

import io
import json

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.evaluation import Collector, Report

HISTORY = [
    {"epoch": 1, "loss": 0.7, "val_loss": 0.6, "accuracy": 0.6, "val_accuracy": 0.7},
    {"epoch": 2, "loss": 0.4, "val_loss": 0.5, "accuracy": 0.8, "val_accuracy": 0.8},
]
MULTICLASS = [
    "accuracy",
    "macro_f1",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "weighted_precision",
    "weighted_recall",
    "mcc",
    "roc_auc",
    "ece",
    "log_loss",
]


def multiclass(labels=("ham", "spam"), rows=60, seed=0, **more):
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, len(labels), rows)
    p = np.exp(rng.normal(size=(rows, len(labels))) + 2 * seed * np.eye(len(labels))[y_true])
    collector = Collector("text-classification", "multiclass", labels)
    texts = [f"mail {i} [bold]\x1b[31mwin\n" + "a prize " * 60 for i in range(rows)]
    collector.add({"text": texts}, y_true, p / p.sum(axis=1, keepdims=True))
    return collector.report(**more)


def complete(labels=("ham", "spam"), rows=60):
    before = multiclass(labels, rows).after
    return multiclass(labels, rows, 1, before=before, history=HISTORY, fit_seconds=12.5)


def multilabel(labels=("a", "b", "c")):
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, (50, len(labels)))
    collector = Collector("text-classification", "multilabel", labels)
    collector.add({"text": ["x"] * 50}, y_true, rng.random(y_true.shape))
    return collector.report(before=collector.report().after)


def regression():
    collector = Collector("text-classification", "regression")
    collector.add({"text": ["x", "y"], "text_pair": ["u", "v"]}, [1.0, 2.0], [1.5, 2.5])
    return collector.report()


def printed(report, width=80):
    file = io.StringIO()
    report.print(Console(file=file, width=width))
    return file.getvalue()


def test_metrics_json_has_its_keys_at_the_top():
    found = complete().to_json()
    more = [
        "fit_seconds",
        "before",
        "after",
        "per_class",
        "task",
        "kind",
        "labels",
        "split",
        "rows",
        "extra",
    ]
    assert list(found) == MULTICLASS + more
    assert list(found["before"]) == list(found["after"]) == MULTICLASS
    assert all(found[name] == found["after"][name] for name in MULTICLASS)
    assert found["before"]["accuracy"] != found["after"]["accuracy"]
    assert (found["fit_seconds"], found["rows"], found["labels"]) == (
        12.5,
        60,
        ["ham", "spam"],
    )


def test_metrics_json_of_numbers_and_of_labels():
    found = regression().to_json()
    assert list(found)[:5] == ["pearson", "spearman", "mse", "mae", "r2"]
    assert found["before"] is None and found["fit_seconds"] is None
    found = multilabel().to_json()
    assert {"accuracy", "macro_f1", "micro_f1", "roc_auc", "hamming_loss"} <= set(found)


@pytest.mark.parametrize("make", [complete, multilabel, regression])
def test_report_goes_through_json_and_back(make):
    report = make()
    assert Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


def test_numpy_and_nan_become_json():
    report = Report("t", "regression", {"mse": np.float32(np.nan), "mae": np.float64(1)})
    assert report.to_json()["mse"] is None
    assert type(report.after["mae"]) is float


def test_report_is_frozen():
    with pytest.raises(AttributeError):
        regression().rows = 3


def test_save_writes_all_and_load_reads(tmp_path):
    report = complete()
    names = report.save(tmp_path / "new" / "report")
    folder = tmp_path / "new" / "report"
    assert sorted(names) == sorted(p.name for p in folder.iterdir())
    assert sorted(names) == [
        "calibration.png",
        "confusion.png",
        "learning_curves.png",
        "metrics.json",
        "report.json",
        "report.txt",
        "worst.jsonl",
    ]
    assert json.loads((folder / "metrics.json").read_text()) == report.to_json()
    worst = [json.loads(line) for line in (folder / "worst.jsonl").read_text().splitlines()]
    assert worst == list(report.worst) and worst
    text = (folder / "report.txt").read_text()
    assert report.text.rstrip() in text
    assert all(f"row {example['row']}," in text for example in worst)
    assert Report.load(folder) == report


def test_save_leaves_out_what_there_is_not(tmp_path):
    assert regression().save(tmp_path) == [
        "report.txt",
        "worst.jsonl",
        "report.json",
        "metrics.json",
    ]
    assert "confusion.png" in multilabel().save(tmp_path / "labels")


def test_save_through_gfile():
    report = complete()
    report.save("ram://evaluation/report")
    assert Report.load("ram://evaluation/report") == report
    assert files.read_bytes("ram://evaluation/report/confusion.png").startswith(b"\x89PNG")


def test_load_of_something_else(tmp_path):
    with pytest.raises(InputError, match="no file"):
        Report.load(tmp_path)
    files.write_json(tmp_path / "report.json", {"task": "t", "kind": "k", "after": {}, "evil": 1})
    with pytest.raises(InputError, match="Received: after, evil"):
        Report.load(tmp_path)


@pytest.mark.parametrize("make", [complete, multilabel, regression])
def test_print_fits_80_columns_and_drops_no_number(make):
    report = make()
    text = printed(report)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    for metrics in filter(None, (report.after, report.before)):
        numbers = [v for v in metrics.values() if isinstance(v, float)]
        numbers += [c["f1"] for c in metrics.get("per_class", {}).values()]
        assert numbers and all(f"{v:.4f}" in text for v in numbers)


def test_print_with_long_labels_keeps_the_numbers():
    labels = tuple(f"a very long label, number {i}" for i in range(3))
    for report in (complete(labels), multilabel(labels)):
        text = printed(report)
        assert max(cell_len(line) for line in text.splitlines()) <= 80
        rows = [line.split() for line in text.splitlines() if line.startswith(" a very")]
        for row, scores in zip(rows, report.after["per_class"].values(), strict=True):
            expected = [f"{scores[name]:.4f}" for name in ("precision", "recall", "f1")]
            assert row[row.index(expected[0]) :][:3] == expected
            assert str(scores["support"]) in row


def test_print_shows_before_beside_after():
    report = complete()
    row = next(line for line in printed(report).splitlines() if line.startswith(" accuracy"))
    before, after = report.before["accuracy"], report.after["accuracy"]
    assert row.split() == [
        "accuracy",
        f"{before:.4f}",
        f"{after:.4f}",
        f"{after - before:+.4f}",
    ]


def test_print_without_before_has_one_column():
    lines = printed(multiclass()).splitlines()
    assert next(line for line in lines if line.startswith(" accuracy")).split()[2:] == []


def test_print_of_many_classes_shows_the_hardest():
    report = complete(tuple(f"class{i}" for i in range(30)), rows=900)
    text = printed(report)
    by_f1 = sorted(report.after["per_class"].items(), key=lambda item: item[1]["f1"])
    assert all(f" {label} " in text for label, _ in by_f1[:20])
    assert not any(f" {label}  " in text for label, _ in by_f1[20:])
    assert "20 of 30 classes" in text


def test_print_shows_texts_as_they_are_but_no_control_characters():
    text = printed(complete())
    assert "[bold]" in text and "\x1b" not in text


def test_print_to_an_output_without_chinese():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    complete(("正面", "负面")).print(Console(file=file, width=80))
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "accuracy" in text and "??" in text


def test_print_goes_to_standard_output(capsys):
    regression().print()
    out = capsys.readouterr().out
    assert "pearson" in out and "\x1b" not in out


def test_class_that_never_occurs_is_printed_as_undefined():
    collector = Collector("t", "multiclass", ["a", "b", "c"])
    collector.add({}, [0, 1], [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    row = next(li for li in printed(collector.report()).splitlines() if li.startswith(" c "))
    assert row.split() == ["c", "-", "-", "-", "0"]
