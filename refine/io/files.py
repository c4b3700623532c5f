"""Files on disk: atomic writes, SHA-256 hashes, the comparison of paths, and the lock of an output folder."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, Protocol

try:
    import fcntl
except ImportError:  # not on Windows; nobody is kept out there
    fcntl = None  # type: ignore[assignment]

RUN_FOLDER = ".refine"  # in an output folder: all that a run keeps besides its results


class File(Protocol):
    """A file to read: a path, or a member of a tar."""

    @property
    def name(self) -> str:
        """Last part of its path."""

    @property
    def stem(self) -> str:
        """Last part of its path, without suffix."""

    def open(self, mode: Literal["rb"], /) -> BufferedReader:
        """Open it to read bytes."""

    def read_bytes(self) -> bytes:
        """All its bytes."""

    def __fspath__(self) -> str: ...


def write_atomic(path: str | Path, data: bytes, scratch: Path) -> None:
    """Write a file that is either complete or not there, whatever happens meanwhile.

    Args:
        path: Final path of the file.
        data: Contents of the file.
        scratch: Existing folder on the same file system, for the file while it is incomplete.

    Raises:
        OSError: The file cannot be written; the incomplete one has been removed.
    """
    temporary = scratch / uuid.uuid4().hex  # not made from the target's name, which may be as long as names can be
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def new_id() -> str:
    """An id that nobody else has: eight letters and digits."""
    return uuid.uuid4().hex[:8]


def kept_id(file: Path, given: str | None, scratch: Path) -> str:
    """Id that outlives the process: the one that is given, else the one in the file, else a new one.

    Args:
        file: Path of the file that keeps the id.
        given: Id that somebody else chose, which is kept from then on.
        scratch: Existing folder on the same file system, as for :func:`write_atomic`.

    Raises:
        OSError: The file cannot be read or written.
    """
    kept = file.read_text(encoding="utf-8") if file.is_file() else ""
    current = given or kept or new_id()
    if current != kept:
        write_atomic(file, current.encode(), scratch)
    return current


def same_path(first: Path, second: Path) -> bool:
    """Whether two paths lead to one place; also where links lead nowhere or in circles."""
    return os.path.realpath(first.expanduser()) == os.path.realpath(second.expanduser())


def hash_file(file: File) -> str:
    """SHA-256 (hex) of a file.

    Raises:
        OSError: The file cannot be read.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_settings(settings: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of plain nested settings, independent of their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


class Busy(ValueError):
    """Another run, with other settings, is at work in the same output folder."""


class Lock:
    """Lock of an output folder: runs with the same settings share it, runs with others are refused.

    It is held until :meth:`release`, or until the process ends, however it ends. Where the file system (or Windows)
    has no such locks, no run is refused. ``filelock`` does not offer this: its ``FileLock`` cannot be shared, and its
    ``ReadWriteLock``, a SQLite database, cannot turn an exclusive lock into a shared one.

    Args:
        file: Path of the lock file, created if missing; it contains the settings of the runs that hold the lock.
        settings: Settings of this run, as a short text.
        tidy: Function called if no other run holds the lock, before another can get it.

    Attributes:
        first: Whether no other run held the lock.

    Raises:
        Busy: A run with other settings holds the lock.
        OSError: The file cannot be written.
    """

    def __init__(self, file: Path, settings: str, tidy: Callable[[], None]) -> None:
        self._stream = file.open("a+")
        self.first = self._flock("LOCK_EX", "LOCK_NB")
        if self.first:
            tidy()
            self._stream.truncate(0)
            self._stream.write(settings)
            self._stream.flush()
        self._flock("LOCK_SH")
        self._stream.seek(0)
        if self._stream.read() != settings:
            self.release()
            raise Busy(f"another run, of other settings, is at work in {file.parent.parent}; wait for its end.")

    def release(self) -> None:
        """Give the lock back."""
        self._stream.close()

    def _flock(self, *flags: str) -> bool:
        """Try to lock the file; False if another run holds it."""
        try:
            if fcntl is not None:
                fcntl.flock(self._stream, sum(getattr(fcntl, flag) for flag in flags))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks keeps nobody out
            pass
        return True
