"""Where what is said goes: everything to a file, to the terminal what a user needs."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("refine")


class Terminal(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is ``sys.stderr`` at the moment: while the progress bar is drawn, to lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        self.stream = sys.stderr
        super().emit(record)


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Inside, everything that is said goes to a file, and to the terminal what a user needs.

    Args:
        path: Of the file, to which is added.
    """
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal = Terminal()
    terminal.setLevel(logging.INFO)
    quiet = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in (log, *quiet)]
    log.handlers, log.propagate = [file, terminal], False
    log.setLevel(logging.DEBUG)
    for logger in quiet:
        logger.handlers, logger.propagate = [file], False
    show = warnings.showwarning
    # Our own warnings are for the user; those of libraries (deprecations and the like) for the log.
    levels = {UserWarning: logging.WARNING}
    warnings.showwarning = lambda text, kind, *_, **__: log.log(levels.get(kind, logging.DEBUG), "%s", text)
    try:
        yield
    finally:
        warnings.showwarning = show
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        file.close()
