"""Two rules of the house that the import linter (pyproject.toml) cannot hold."""

from pathlib import Path

import refine

PACKAGE = Path(refine.__file__).parent


def test_only_the_refiner_differentiates():
    callers = [file.name for file in PACKAGE.rglob("*.py") if ".backward(" in file.read_text()]
    assert callers == ["refiner.py"]


def test_packages_alone_stand_beside_the_public_interface():
    files = {file.name for file in PACKAGE.glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "api.py", "factory.py"}
