"""Cells become values: one rule for each kind."""

import decimal
import math

import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.data import fields


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (" a b ", " a b "),
        (b"caf\xc3\xa9", "café"),
        (np.str_("价格"), "价格"),
        (np.array(b"x", object), "x"),
        (5, "5"),
        (np.int64(5), "5"),
        (1.5, "1.5"),
    ],
)
def test_text(cell, value):
    assert fields.text(cell) == value
    assert type(fields.text(cell)) is str


@pytest.mark.parametrize(
    "cell", [None, "", " \t\n", "\u3000", float("nan"), np.float32("nan"), b""]
)
def test_empty_text_is_refused_or_kept(cell):
    with pytest.raises(ValueError, match="empty"):
        fields.text(cell)
    assert fields.text(cell, keep_empty=True) == ""


@pytest.mark.parametrize("cell", [True, ["a"], {"a": 1}, b"\xff", "\ud800"])
def test_what_is_no_text(cell):
    for keep in (False, True):
        with pytest.raises(ValueError, match="text is expected"):
            fields.text(cell, keep)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (" spam\n", "spam"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (np.float32(3), "3"),
        (np.int8(-2), "-2"),
        (True, "True"),
        (np.bool_(False), "False"),
        (b"ham", "ham"),
        ("正面", "正面"),
        ("1.0", "1.0"),
    ],
)
def test_label(cell, value):
    assert fields.label(cell) == value
    assert type(fields.label(cell)) is str


@pytest.mark.parametrize("cell", [None, "", "  ", float("nan"), 0.5, math.inf, ["a"], "\udc00"])
def test_what_is_no_label(cell):
    with pytest.raises(ValueError, match="label"):
        fields.label(cell)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("b|a| b ", ("a", "b")),
        ("", ()),
        ("|", ()),
        (None, ()),
        ([], ()),
        (["b", "a", "b"], ("a", "b")),
        (np.array([2, 1, 2]), ("1", "2")),
        (np.array([b"x"], object), ("x",)),
        (3, ("3",)),
    ],
)
def test_labels_are_a_sorted_set(cell, value):
    assert fields.labels(cell) == value


def test_labels_with_another_separator():
    assert fields.labels("a, b|c", ",") == ("a", "b|c")


@pytest.mark.parametrize("cell", [["a", None], [""], [0.5]])
def test_a_list_with_what_is_no_label(cell):
    with pytest.raises(ValueError, match="label"):
        fields.labels(cell)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1e-3", 0.001),
        (" 2 ", 2.0),
        (3, 3.0),
        (np.float32(0.5), 0.5),
        (decimal.Decimal("1.5"), 1.5),
    ],
)
def test_number(cell, value):
    assert fields.number(cell) == value
    assert type(fields.number(cell)) is float


@pytest.mark.parametrize(
    "cell", [None, "", "abc", "nan", "inf", "-inf", math.nan, math.inf, True, "1_000", 10**400, [1]]
)
def test_what_is_no_finite_number(cell):
    with pytest.raises(ValueError, match="finite number"):
        fields.number(cell)


def test_unknown_kind():
    with pytest.raises(InputError, match="'label'"):
        fields.converter("lable", "|", False)
