"""Files inside tar files.

Their headers tell where each file lies, so that it is read from its place in the tar when its turn comes: nothing is
unpacked, what is finished is not read again, and processes share files rather than tars. The tar file system of
``fsspec`` does not suffice: of a damaged tar it lists nothing, not even what comes before the damage, and it keeps each
tar open, with one position that all its files share.
"""

import io
import os
import posixpath
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

REPLACED = "replaced by a later file of its name in the tar"
SPARSE = "sparse file in a tar"
SPECIAL = "neither file nor link in a tar"
DANGLING = "link to no file in the tar"
MAX_LINKS = 40  # one after another, as in Linux
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Member:
    """A file inside a tar, read from its place there.

    Attributes:
        tar: Path of the tar file.
        path: Path inside the tar, with ``/``.
        start: Offset of its first byte in the tar, bytes.
        length: Size of the file, bytes.
    """

    tar: Path
    path: PurePosixPath
    start: int
    length: int

    def __str__(self) -> str:
        """Path of the tar with the path inside it behind."""
        return str(self.tar / self.path)

    def __fspath__(self) -> str:
        """Path of the tar with the path inside it behind, to compare and to show; it cannot be opened."""
        return str(self)

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.path.name

    @property
    def stem(self) -> str:
        """Last part of its path, without suffix."""
        return self.path.stem

    def open(self, mode: Literal["rb"], /) -> io.BufferedReader:
        """Open it to read bytes."""
        return io.BufferedReader(_Window(self.tar, self.start, self.length))

    def read_bytes(self) -> bytes:
        """All its bytes.

        Raises:
            OSError: The tar ends before the file does.
        """
        with self.open("rb") as stream:
            data = stream.read()
        if len(data) < self.length:
            raise OSError(f"{self.tar} is cut short")
        return data


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: Path, start: int, length: int) -> None:
        self._stream = file.open("rb", buffering=0)
        self._start, self._length, self._at = start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._length - self._at)]
        self._stream.seek(self._start + self._at)
        count = self._stream.readinto(view)
        self._at += count
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def expand(pattern: str) -> list[Path]:
    """The paths that a pattern stands for.

    Args:
        pattern: Path with ranges of numbers in braces, as in ``shards-{000..009}.tar``; one without is the path itself.
    """
    match = _RANGE.search(pattern)
    if match is None or os.path.lexists(pattern):
        return [Path(pattern).expanduser()]
    first, last = match[1], match[2]
    numbers = (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))
    return [file for number in numbers for file in expand(pattern[: match.start()] + number + pattern[match.end() :])]


@dataclass(frozen=True)
class Contents:
    """What a tar holds, by its headers alone.

    Attributes:
        members: The files, and links to files of the same tar, under their own names.
        others: Path and reason of what cannot be read as a file; folders are not told.
        damage: Why the tar cannot be read to its end, or nothing.
    """

    members: list[Member]
    others: list[tuple[PurePosixPath, str]]
    damage: str = ""


def contents(tar: Path) -> Contents:
    """The files in a tar, and links resolved inside it; of several of one name the last counts, as in unpacking.

    Args:
        tar: Path of the tar file.
    """
    files: dict[str, tarfile.TarInfo] = {}
    others: list[tuple[PurePosixPath, str]] = []
    damage = ""
    try:
        with tarfile.open(tar, "r:") as listing:
            for info in listing:
                if not info.isdir():
                    others += [(PurePosixPath(info.name), REPLACED)] if _path(info.name) in files else []
                    files[_path(info.name)] = info
    except (OSError, tarfile.TarError) as error:
        damage = f"cannot be read to its end as a tar that is not compressed ({error})"
    members = []
    for info in files.values():
        target = _target(info, files)
        if isinstance(target, str):
            others.append((PurePosixPath(info.name), target))
        else:
            members.append(Member(tar, PurePosixPath(info.name), target.offset_data, target.size))
    return Contents(members, others, damage)


def _target(info: tarfile.TarInfo, files: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | str:
    """The file that an entry is or, by however many links, leads to; or why there is none."""
    for _ in range(MAX_LINKS):
        if info.isreg():
            return SPARSE if info.sparse else info
        if not (info.islnk() or info.issym()):
            return SPECIAL
        folder = posixpath.dirname(info.name) if info.issym() else ""  # a hard link is told from the top
        target = files.get(_path(posixpath.join(folder, info.linkname)))
        if target is None:
            return DANGLING
        info = target
    return DANGLING


def _path(name: str) -> str:
    return posixpath.normpath(name)
