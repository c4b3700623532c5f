"""What the tests of the data share."""

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder
