"""Rules of the house that the import linter (pyproject.toml) cannot hold."""

import ast
from pathlib import Path

import pytest

import refine

PACKAGE = Path(refine.__file__).parent


def test_only_the_updates_differentiate():
    callers = [file.name for file in PACKAGE.rglob("*.py") if ".backward(" in file.read_text()]
    assert callers == ["updates.py"]


def test_packages_alone_stand_beside_the_public_interface():
    files = {file.name for file in PACKAGE.glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "api.py", "factory.py"}


@pytest.mark.parametrize("folder", ["refine", "scripts"])
def test_no_file_is_over_300_lines_and_no_function_over_45(folder):
    long = []
    for file in (PACKAGE.parent / folder).rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        long += [file.name] if len(text.splitlines()) > 300 else []
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        long += [f"{file.name}: {node.name}" for node in functions if node.end_lineno - node.lineno + 1 > 45]
    assert long == []
