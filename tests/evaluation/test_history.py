"""history.csv."""

import math

import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.evaluation import history


def test_round_trip_keeps_numbers_exactly(tmp_path):
    path = tmp_path / "history.csv"
    rows = [
        {"epoch": 1, "loss": 0.1 + 0.2, "val_loss": 1e-12, "accuracy": None, "note": "a, b\nc"},
        {"epoch": 2, "loss": 0.25, "val_loss": math.inf, "accuracy": 0.5, "note": "验证"},
    ]
    history.write(path, rows)
    assert history.read(path) == rows


def test_columns_stand_in_a_fixed_order(tmp_path):
    path = tmp_path / "history.csv"
    history.write(path, [{"accuracy": 0.5, "loss": 1.0, "epoch": 1}])
    assert path.read_text() == "epoch,loss,val_loss,accuracy\n1,1.0,,0.5\n"


def test_append_continues_and_replaces_what_a_cut_run_left(tmp_path):
    path = tmp_path / "runs" / "history.csv"
    for epoch in (1, 2, 3):
        history.append(path, {"epoch": epoch, "loss": 1.0})
    history.append(path, {"epoch": 2, "loss": 0.5, "val_loss": 0.4, "f1": 0.9})
    assert [(r["epoch"], r["loss"], r["f1"]) for r in history.read(path)] == [
        (1, 1.0, None),
        (2, 0.5, 0.9),
    ]
    assert sorted(p.name for p in path.parent.iterdir()) == ["history.csv"]


def test_numpy_and_nan_values(tmp_path):
    path = tmp_path / "history.csv"
    history.append(path, {"epoch": 1, "loss": np.float32(0.5), "val_loss": float("nan")})
    row = history.read(path)[0]
    assert row["loss"] == 0.5 and math.isnan(row["val_loss"])


def test_no_file_has_no_rows(tmp_path):
    assert history.read(tmp_path / "none.csv") == []


@pytest.mark.parametrize("text", ["epoch,loss\n1,0.5,0.4\n", "loss\n0.5\n"])
def test_damaged_file_is_named_with_its_line(tmp_path, text):
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"history\.csv, line 2"):
        history.read(path)


def test_row_needs_an_epoch(tmp_path):
    with pytest.raises(InputError, match="epoch=None"):
        history.append(tmp_path / "history.csv", {"loss": 1.0})
