import pytest
from half_plus_two import Running, write_version


@pytest.fixture
def folder(tmp_path):
    """A model folder with version 1."""
    write_version(tmp_path / "half", 1)
    return tmp_path / "half"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server that the tests of a file only ask."""
    folder = tmp_path_factory.mktemp("shared") / "half"
    write_version(folder, 1)
    with Running(folder, max_body_bytes=100_000) as running:
        yield running
