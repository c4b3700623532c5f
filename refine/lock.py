"""One output folder, many runs: those of the same settings may work there at the same time, others may not."""

from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows; nobody is kept out there
    fcntl = None  # type: ignore[assignment]


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
