"""Where what is said goes: everything to a file, to the terminal what a user needs."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("refine")
_LIGHTNING = ("lightning.pytorch", "lightning.fabric")


class Terminal(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is ``sys.stderr`` at the moment: while the progress bar is drawn, to lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        self.stream = sys.stderr
        super().emit(record)


class LogFile(logging.FileHandler):
    """What it cannot write, on a full disk, is lost; the terminal hears what matters."""

    def handleError(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`; its own would print a traceback for every line."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, Lightning's own words (which devices there are, which tips) go nowhere; there is no log yet."""
    loggers = [logging.getLogger(name) for name in _LIGHTNING]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Inside, everything that is said goes to a file, and to the terminal what a user needs.

    Args:
        path: Log file, to which is added.
    """
    file = LogFile(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal = Terminal()
    terminal.setLevel(logging.INFO)
    lightning = [logging.getLogger(name) for name in _LIGHTNING]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in (log, *lightning)]
    log.handlers, log.propagate = [file, terminal], False
    log.setLevel(logging.DEBUG)
    for logger in lightning:
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
