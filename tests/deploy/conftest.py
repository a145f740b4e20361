"""For the tests of what lies beside an export."""

import pytest
from version_folders import put_version


@pytest.fixture
def exported(tmp_path):
    """saved_models/spam with the versions 1 to 4."""
    folder = tmp_path / "saved_models" / "spam"
    for number in (1, 2, 3, 4):
        put_version(folder, number)
    return folder
