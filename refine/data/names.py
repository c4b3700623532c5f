"""Names that read alike and yet differ for a file system: é as one character (NFC), or as e and an accent (NFD)."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


def same_text(name: str) -> str:
    """One form (NFC) of all names that read alike."""
    return unicodedata.normalize("NFC", name)


class ByName(Generic[T]):
    """Things found by name in any Unicode form; those of exactly this form come before the others.

    Args:
        entries: Name and thing, several of which may share a name.
    """

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._exact: dict[str, list[T]] = {}
        self._alike: dict[str, list[T]] = {}
        for name, thing in entries:
            self._exact.setdefault(name, []).append(thing)
            self._alike.setdefault(same_text(name), []).append(thing)

    def __getitem__(self, name: str) -> list[T]:
        """The things of this name, in their order; none where there are none."""
        return self._exact.get(name) or self._alike.get(same_text(name), [])


def on_disk(path: Path) -> Path:
    """The path as the file system spells it; unchanged where it exists, or nothing that reads alike does.

    Args:
        path: Path in any Unicode form.
    """
    if os.path.lexists(path) or path == path.parent or str(path).isascii():
        return path
    parent = on_disk(path.parent)
    try:
        alike = ByName((name, parent / name) for name in sorted(os.listdir(parent)))[path.name]
    except OSError:  # no such folder
        return path
    return alike[0] if alike else path
