"""Images inside tar files, in the layout of webdataset: ``001.png`` with ``001.mask.png``, one sample after another.

Their headers tell where each file lies, so that it is read from its place in the tar when its turn comes: nothing is
unpacked, what is finished is not read again, and processes share samples rather than tars.
"""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from refine.io.picture import SUFFIXES

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Member(type(Path())):  # type: ignore[misc]
    """A file inside a tar, to be read like any other; as a path it is that of the tar with its name behind it.

    Attributes:
        tar: Where it is.
        start: Of its bytes in the tar.
        length: In bytes.
    """

    tar: Path | None = None  # as in paths that were derived from one, and are ordinary
    start = 0
    length = 0

    def open(self, mode: str = "r", *rest: Any, **further: Any) -> Any:
        """Open it to read bytes."""
        if self.tar is None or mode != "rb":
            return super().open(mode, *rest, **further)
        return io.BufferedReader(_Window(self.tar, self.start, self.length))

    def read_bytes(self) -> bytes:
        """All of it.

        Raises:
            OSError: If the tar ends before it does.
        """
        with self.open("rb") as stream:
            data: bytes = stream.read()
        if self.tar is not None and len(data) < self.length:
            raise OSError(f"{self.tar} is cut short")
        return data

    def exists(self, **options: Any) -> bool:
        """It does: its tar lists it."""
        return self.tar is not None or super().exists(**options)

    def is_file(self, **options: Any) -> bool:
        """Is it a file, as tars hold them."""
        return self.tar is not None or super().is_file(**options)


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

    Returns:
        By key the parts of each sample, the image as ``""`` and the mask as ``mask`` (others are passed over); and why
        the tar cannot be read to its end, or nothing.
    """
    found: dict[str, dict[str, Member]] = {}
    try:
        for member in members(tar):
            base, _, part = member.name.partition(".")
            kind, dot, suffix = part.lower().rpartition(".")
            if f".{suffix}" in SUFFIXES and (not dot or kind == "mask"):
                found.setdefault(PurePosixPath(member.relative_to(tar)).with_name(base).as_posix(), {})[kind] = member
    except (OSError, tarfile.TarError) as error:
        return found, f"cannot be read to its end as a tar that is not compressed ({error})"
    return found, ""


def expand(pattern: str) -> list[Path]:
    """The files of ``shards-{000..009}.tar``; where there is no such range, the one file."""
    match = _RANGE.search(pattern)
    if match is None or os.path.lexists(pattern):
        return [Path(pattern).expanduser()]
    first, last = match[1], match[2]
    numbers = (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))
    return [file for number in numbers for file in expand(pattern[: match.start()] + number + pattern[match.end() :])]


def members(tar: Path) -> Iterator[Member]:
    """The ordinary files in a tar, by its headers alone.

    Raises:
        OSError: If it cannot be read.
        tarfile.TarError: If it is no tar, is compressed, or its headers are damaged; those before came out.
    """
    with tarfile.open(tar, "r:") as listing:
        for info in listing:
            if info.isreg() and not info.sparse:
                member = Member(tar, info.name)
                member.tar, member.start, member.length = tar, info.offset_data, info.size
                yield member
