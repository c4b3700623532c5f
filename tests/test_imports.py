"""Imports point only upward in the house's list of rooms."""

import ast
from pathlib import Path

import refine

PACKAGE = Path(refine.__file__).parent
# A file may import what stands before it. Folders count as one room, in which order is free.
ORDER = (
    "types decode exif images encode pickles weights fetch pyramid objective heap rules forwards frozen "
    "precision adapters iterates schedule footprint layers refiner devices masks config api metrics "
    "distances memory evaluation lock records tars jobs evalset summary roll shares ranks series pictures data module "
    "log callbacks arms plan study plots cases page report commands sweep __main__ "
).split()


def imports(file):
    """Rooms of the package a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "refine":
            parts = node.module.split(".")[1:]
            yield from ([parts[0]] if parts else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("refine."))


def test_imports_point_upward():
    wrong, seen = [], set()
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in ORDER, f"{room} has no place in the order of the house"
        seen.add(room)
        own = {"__version__"}  # a name, not a room
        wrong += [
            f"{file.name} imports {other}"
            for other in set(imports(file)) - own
            if other != room and ORDER.index(other) >= ORDER.index(room)
        ]
    assert not wrong
    assert {"types", "pyramid", "objective", "refiner", "adapters", "api", "commands"} <= seen


def test_only_the_refiner_differentiates():
    callers = [file.name for file in PACKAGE.rglob("*.py") if ".backward(" in file.read_text()]
    assert callers == ["refiner.py"]


def test_only_some_rooms_know_lightning():
    callbacks = {file.name for file in (PACKAGE / "callbacks").glob("*.py")}
    knowing = {
        f.name
        for f in PACKAGE.rglob("*.py")
        if "import lightning" in f.read_text() or "from lightning" in f.read_text()
    }
    assert knowing <= {"data.py", "module.py", "predict.py", "ranks.py", *callbacks}
    assert "module.py" in knowing
