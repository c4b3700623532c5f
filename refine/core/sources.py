"""Source code behind an object, by which results of another code are recognized; torch is not needed for it."""

import ast
import contextlib
import hashlib
import importlib.metadata
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from pathlib import Path

# Folders of code that is told apart by its version: Python's own, installed packages, refine.
_PACKAGES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_PACKAGES.append(Path(__file__).parents[1])


def sources(classes: Iterable[type]) -> dict[str, str]:
    """SHA-256 (hex) of the source of each module that defines some of the classes; its version where it has no source.

    Modules of users that such a module of a user imports, and those that they import, are among them.

    Args:
        classes: Classes whose code matters.
    """
    found: dict[str, str] = {}
    waiting = {kind.__module__ for kind in classes}
    while waiting:
        module = waiting.pop()
        found[module] = _hash(module)
        waiting |= {name for name in (*with_packages(module), *_imported(module)) if users_file(name)} - found.keys()
    return dict(sorted(found.items()))


def users_file(module: str) -> Path | None:
    """File of a module that a user wrote; None for all others: Python's own, installed ones, refine's, compiled ones.

    Args:
        module: Full name of the module, imported or not.
    """
    loaded = sys.modules.get(module)
    name = getattr(loaded, "__file__", None) if loaded else file_found(module)
    file = Path(name or "")
    installed = {"site-packages", "dist-packages"} & set(file.parts) or any(map(file.is_relative_to, _PACKAGES))
    return file if file.suffix == ".py" and not installed else None


def file_found(module: str) -> str | None:
    """File that an import would load now, which may be another than that of a loaded module; nothing is imported.

    Args:
        module: Full name of the module.
    """
    spec, path = None, None
    for name in with_packages(module):
        try:
            spec = PathFinder.find_spec(name, path)
        except (KeyError, ImportError):  # in a folder without __init__.py that is not imported
            return None
        if spec is None or (spec.submodule_search_locations is None and name != module):
            return None
        path = spec.submodule_search_locations
    return spec.origin if spec else None


def _imported(module: str) -> Iterator[str]:
    """Names that may be modules which this module of a user imports, wherever the statement stands in it."""
    if (file := users_file(module)) is None:
        return
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    try:
        statements = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError):  # changed since it was imported
        return
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (name for alias in statement.names for name in with_packages(alias.name))
        if isinstance(statement, ast.ImportFrom):
            with contextlib.suppress(ImportError):  # relative, to above the package
                base = resolve_name("." * statement.level + (statement.module or ""), package)
                yield from (name for alias in statement.names for name in with_packages(f"{base}.{alias.name}"))


def with_packages(module: str) -> Iterator[str]:
    """``a.b.c`` -> ``a``, ``a.b``, ``a.b.c``: whoever imports the last imports all of them.

    Args:
        module: Full name of the module.
    """
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _hash(module: str) -> str:
    try:
        file = users_file(module)
        text = file.read_text("utf-8", "replace") if file else inspect.getsource(sys.modules[module])
        return hashlib.sha256(text.encode()).hexdigest()
    except (KeyError, OSError, TypeError):  # code typed in, or of a compiled module
        package = module.partition(".")[0]
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = str(getattr(sys.modules.get(package), "__version__", "unknown"))
        return f"no source; {package}, version {version}"
