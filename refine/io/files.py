"""Files on disk: atomic writes, SHA-256 hashes, and the lock of an output folder."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows; nobody is kept out there
    fcntl = None  # type: ignore[assignment]

RUN_FOLDER = ".refine"  # in an output folder: all that a run keeps besides its results


def write_atomic(path: str | Path, data: bytes, scratch: Path) -> None:
    """Write a file that is either complete or not there, whatever happens meanwhile.

    Args:
        path: Where the file belongs.
        data: Its contents.
        scratch: An existing folder on the same file system, for the file while it is incomplete.

    Raises:
        OSError: As the file system says; the incomplete file is gone then.
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


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(*paths: Path) -> str:
    """SHA-256 (hex) over the hashes of files, in this order."""
    return hashlib.sha256("\n".join(map(hash_file, paths)).encode()).hexdigest()


def hash_settings(settings: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of plain nested settings, independent of their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


class Busy(ValueError):
    """Another run, of other settings, is at work in the same output folder."""


class Lock:
    """Held from here on until :meth:`release`, or until the process ends, however it ends.

    Args:
        file: Made if it is not there; it holds the settings of whoever has the lock.
        settings: Of this run, as a short text.
        tidy: Called if no other run has the lock, and before one can get it.

    Raises:
        Busy: If a run of other settings has it.
        OSError: If the file cannot be written.
    """

    def __init__(self, file: Path, settings: str, tidy: Callable[[], None]) -> None:
        self._stream = file.open("a+")
        if self._flock("LOCK_EX", "LOCK_NB"):
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
        """Let go."""
        self._stream.close()

    def _flock(self, *flags: str) -> bool:
        """False if another has it."""
        try:
            if fcntl is not None:
                fcntl.flock(self._stream, sum(getattr(fcntl, flag) for flag in flags))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks keeps nobody out
            pass
        return True
