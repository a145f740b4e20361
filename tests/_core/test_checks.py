"""Argument checks: what passes, and messages in one line that name the nearest right value."""

import math

import pytest

from kerasft._core.checks import in_range, nearest, one_of, whole
from kerasft._core.errors import (
    DivergedError,
    InputError,
    Interrupted,
    KerasftError,
    MissingExtra,
)
from kerasft._core.extras import require


def test_one_of():
    assert one_of("x", "b", ("a", "b")) == "b"
    assert one_of("x", 2, iter([1, 2])) == 2
    with pytest.raises(InputError) as caught:
        one_of("pooling", "meen", ("cls", "mean"))
    assert str(caught.value) == (
        "`pooling` must be one of: cls, mean. Received: pooling='meen'. Did you mean 'mean'?"
    )


def test_nearest_is_silent_where_nothing_is_near():
    assert nearest("spam", ["eggs", "bacon"]) == ""
    assert nearest("lear_rate", ["learning_rate", "epochs"]) == " Did you mean 'learning_rate'?"


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_in_range(value):
    assert in_range("x", value, 0, 1) == value


@pytest.mark.parametrize("value", [-1, 1.01, math.nan, math.inf, -math.inf, True, "1", None])
def test_out_of_range(value):
    with pytest.raises(InputError, match=r"`x` must be at least 0 and at most 1\. Received: x="):
        in_range("x", value, 0, 1)


def test_in_range_above():
    assert in_range("x", 1e-9, 0, above=True) == 1e-9
    with pytest.raises(InputError, match="must be more than 0"):
        in_range("x", 0, 0, above=True)


def test_whole():
    assert whole("x", 3, 1) == 3
    for value in (0, 2.0, "3", True, None):
        with pytest.raises(InputError, match="`x` must be a whole number, at least 1"):
            whole("x", value, 1)


def test_exit_codes():
    codes = {KerasftError: 1, InputError: 2, DivergedError: 1, Interrupted: 75}
    assert {error: error.exit_code for error in codes} == codes
    assert issubclass(InputError, ValueError)
    assert MissingExtra("datasets", "hf").exit_code == 2


def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(MissingExtra, match=r"pip install 'kerasft\[hf\]'"):
        require("no_such_package.inner", "hf")
    assert require("json", "hf").loads("1") == 1


def test_a_package_that_is_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import another_one_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        require("half_there", "hf")
    assert not isinstance(caught.value, MissingExtra)
