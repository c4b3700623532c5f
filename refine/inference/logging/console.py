"""Where what is said goes: everything to a file, to the terminal what a user needs."""

import contextlib
import copy
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refine.config.verbosity import is_verbose, terminal_level
from refine.io.mask import MaskWarning

log = logging.getLogger("refine")
_LIGHTNING = ("lightning.pytorch", "lightning.fabric")
SHOWN = 3  # warnings of one kind, such as about each mask of a folder, that the terminal shows; the file has all


class Terminal(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is ``sys.stderr`` at the moment: while the progress bar is drawn, to lines above it.

    Of warnings of one kind it writes the first few.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts = Counter[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        if kind := getattr(record, "kind", None):
            self._counts[kind] += 1
            if self._counts[kind] > SHOWN and not is_verbose():
                return
            if self._counts[kind] == SHOWN and not is_verbose():
                record = copy.copy(record)  # the file's stays as it is
                record.msg = f"{record.msg} (further ones of this kind: in the log alone)"
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


def _log_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    # Our own warnings are for the user; those of libraries (deprecations and the like) for the log.
    level = logging.WARNING if category in (UserWarning, MaskWarning) else logging.DEBUG
    log.log(level, "%s", message, extra={"kind": getattr(message, "kind", None)})


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Inside, everything that is said goes to a file, and to the terminal what a user needs, or wants to see.

    Args:
        path: Log file, to which is added.
    """
    file = LogFile(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal = Terminal()
    terminal.setLevel(terminal_level())
    lightning = [logging.getLogger(name) for name in _LIGHTNING]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in (log, *lightning)]
    log.handlers, log.propagate = [file, terminal], False
    log.setLevel(logging.DEBUG)
    for logger in lightning:
        logger.handlers, logger.propagate = [file, terminal] if is_verbose() else [file], False
    show = warnings.showwarning
    warnings.showwarning = _log_warning
    try:
        yield
    finally:
        warnings.showwarning = show
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        file.close()
