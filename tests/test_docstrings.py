"""Each ``Args:`` line says what the argument is: it begins with a noun or a type, not in the middle of a sentence."""

import ast
import re
from pathlib import Path

import pytest

import refine

PACKAGE = Path(refine.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# Such a description leans on a sentence that is not there: "Of the job.", "Whose they are.", "As read.", "To check."
FRAGMENT = re.compile(r"(of|whose|as|to|for|likewise|any|that|which|and|at|by|in|on|where|with|see)\b", re.IGNORECASE)


def weak_lines(file):
    """Descriptions of arguments that are no description."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            continue
        section = ""
        for line in (ast.get_docstring(node) or "").splitlines():
            if heading := re.fullmatch(r"(\w+):", line):
                section = heading[1]
            elif section in ("Args", "Attributes") and (entry := re.fullmatch(r"    (\*{0,2}\w+): (.*)", line)):
                text = entry[2]
                if FRAGMENT.match(text) or len(text.rstrip(".").split()) < 2:
                    yield f"{file.relative_to(PACKAGE)} {node.name}: {entry[1]}: {text}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_arguments_are_described(file):
    assert list(weak_lines(file)) == []
