"""Modules of users' own backbones: where they are looked for, and why one cannot be imported."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module

FOLDERS: dict[str, None] = {}  # of users' YAML files, the latest last; their modules may lie beside them


def look_in(*folders: str) -> None:
    """Look in these folders first, before those of earlier configurations."""
    for folder in folders:
        FOLDERS.pop(folder, None)
        FOLDERS[folder] = None


@contextlib.contextmanager
def modules_of_users() -> Iterator[None]:
    """Let modules be found beside users' YAML files and in the working folder, after installed packages."""
    added = [folder for folder in (*reversed(FOLDERS), os.getcwd()) if folder not in sys.path]
    sys.path.extend(added)
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def import_fault(target: str) -> str:
    """Why a ``_target_`` cannot be imported, with file and line; empty if its module is not the reason.

    Args:
        target: Full name of a class or function, such as ``blur.Blur``.
    """
    module, _, name = target.rpartition(".")
    try:
        with modules_of_users():
            loaded = import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            return f"there is no module '{error.name}'; put its file beside the YAML or into the working folder."
        frame = traceback.extract_tb(error.__traceback__)[-1]
        file, line = (
            (error.filename, error.lineno) if isinstance(error, SyntaxError) else (frame.filename, frame.lineno)
        )
        if isinstance(error, ImportError):
            return f"{file}, line {line}: {error}; install what it imports, or correct the import."
        return f"{file}, line {line}: {type(error).__name__} while importing: {error}; correct the file."
    if not hasattr(loaded, name):
        return f"{loaded.__file__} holds no '{name}'; correct _target_ or the name of the class."
    return ""
