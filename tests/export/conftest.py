"""Pipelines on tiny random weights and their exports, made once."""

import pytest
from small_pipelines import KINDS, pipeline


@pytest.fixture(scope="session")
def kind():
    """A pipeline of a kind, by name."""
    made = {}
    return lambda name: made.setdefault(name, pipeline(**KINDS[name]))


@pytest.fixture(scope="session")
def exported(kind, tmp_path_factory):
    """The export of a kind of pipeline, made once."""
    made = {}

    def export(name):
        if name not in made:
            made[name] = kind(name).export(tmp_path_factory.mktemp("saved_models") / "m")
        return made[name]

    return export
