"""Modules of users' own backbones: where they are looked for, and why one cannot be imported."""

import contextlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from importlib.util import cache_from_source
from pathlib import Path

from hydra.utils import get_object

from refine.core.sources import file_found, users_file, with_packages

FOLDERS: dict[str, None] = {}  # of users' YAML files, the latest last; their modules may lie beside them
_LOADED: dict[str, tuple[Path, bytes]] = {}  # modules of users that were imported here: file, and what it held


def look_in(*folders: str) -> None:
    """Look in these folders first, before those of earlier configurations."""
    for folder in folders:
        FOLDERS.pop(folder, None)
        FOLDERS[folder] = None


@contextlib.contextmanager
def modules_of_users() -> Iterator[None]:
    """Let modules be found beside users' YAML files and in the working folder, after installed packages.

    A module that was imported here before is imported again if it has changed, or if another one of its name comes
    first now: what runs is what lies on disk, also for a second run in one process.
    """
    added = [folder for folder in (*reversed(FOLDERS), os.getcwd()) if folder not in sys.path]
    sys.path.extend(added)
    _forget_outdated()
    before = set(sys.modules)
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            if file := users_file(name):
                with contextlib.suppress(OSError):
                    _LOADED[name] = file, file.read_bytes()
        for folder in added:
            sys.path.remove(folder)


def _forget_outdated() -> None:
    """Forget all modules of users if one is outdated: those that import it hold on to what it was."""
    invalidate_caches()
    if not any(_is_outdated(name, *loaded) for name, loaded in _LOADED.items()):
        return
    for name, (file, _) in _LOADED.items():
        for package in with_packages(name):  # also one that is a folder without __init__.py
            sys.modules.pop(package, None)
        with contextlib.suppress(OSError):  # Python takes a change within the same second for none
            Path(cache_from_source(str(file))).unlink()
    _LOADED.clear()


def _is_outdated(name: str, file: Path, content: bytes) -> bool:
    found = file_found(name)
    try:
        return (found is not None and not os.path.samefile(found, file)) or file.read_bytes() != content
    except OSError:  # it is gone
        return True


def arguments_taken(target: str) -> set[str] | None:
    """Names of the arguments of a ``_target_``; None if it takes any, or cannot be imported.

    Args:
        target: Full name of a class or function, such as ``blur.Blur``.
    """
    try:
        with modules_of_users():
            parameters = inspect.signature(get_object(target)).parameters.values()
    except Exception:  # whatever it is will be told when it is built
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {p.name for p in parameters}


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
