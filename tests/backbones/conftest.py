"""Fixtures over the golden Hugging Face folders."""

import shutil
from pathlib import Path

import pytest
from golden_folders import GOLDEN, golden_of


@pytest.fixture(scope="session")
def golden():
    """`golden("bert")` is that golden folder, loaded once."""
    return golden_of


@pytest.fixture
def copy_of(tmp_path):
    """`copy_of("bert")` copies a golden folder, to be changed."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        shutil.copytree(GOLDEN / name, target)
        return target

    return copy
