"""Images inside tar files, in the layout of webdataset: ``001.png`` with ``001.mask.png``, one sample after another.

Their headers tell where each file lies, so that it is read from its place in the tar when its turn comes: nothing is
unpacked, what is finished is not read again, and processes share samples rather than tars. The tar file system of
``fsspec`` does not suffice: of a damaged tar it lists nothing, not even what comes before the damage, and it keeps each
tar open, with one position that all its files share.
"""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from refine.io.picture import SUFFIXES

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


def samples(tar: Path) -> tuple[dict[str, dict[str, Member]], str]:
    """The samples of a tar: what stands before the first dot of a name is the sample's, what follows says which part.

    Args:
        tar: Path of the tar file.

    Returns:
        By key the parts of each sample, the image as ``""`` and the mask as ``mask`` (others are passed over); and why
        the tar cannot be read to its end, or nothing.
    """
    listing: dict[str, dict[str, Member]] = {}
    try:
        for member in members(tar):
            base, _, part = member.name.partition(".")
            kind, dot, suffix = part.lower().rpartition(".")
            if base and f".{suffix}" in SUFFIXES and (not dot or kind == "mask"):
                listing.setdefault(str(member.path.with_name(base)), {})[kind] = member
    except (OSError, tarfile.TarError) as error:
        return listing, f"cannot be read to its end as a tar that is not compressed ({error})"
    return listing, ""


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


def members(tar: Path) -> Iterator[Member]:
    """The ordinary files in a tar, by its headers alone; no links, folders or sparse files.

    Args:
        tar: Path of the tar file.

    Raises:
        OSError: The tar cannot be read.
        tarfile.TarError: It is no tar, is compressed, or has damaged headers; files before the damage were yielded.
    """
    with tarfile.open(tar, "r:") as listing:
        for info in listing:
            if info.isreg() and not info.sparse:
                yield Member(tar, PurePosixPath(info.name), info.offset_data, info.size)
