"""How much a command says on the terminal: ``-q`` warnings and errors alone, ``-v`` all that goes to the log.

It stands in the environment, so that the processes and jobs that a command starts say as much.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

VARIABLE = "REFINE_VERBOSITY"
LEVELS = {"quiet": logging.WARNING, "verbose": logging.DEBUG}
FLAGS = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose"}


def terminal_level() -> int:
    """Level of :mod:`logging` from which on the terminal shows what is said."""
    return LEVELS.get(os.environ.get(VARIABLE, ""), logging.INFO)


def is_quiet() -> bool:
    """Whether the terminal shows warnings and errors alone."""
    return terminal_level() > logging.INFO


def is_verbose() -> bool:
    """Whether the terminal shows everything."""
    return terminal_level() < logging.INFO


def say(text: str) -> None:
    """Tell how far a command is, on standard error; not with ``-q``.

    Args:
        text: One line.
    """
    if not is_quiet():
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def verbosity(word: str | None) -> Iterator[None]:
    """Inside, this is how much is said; warnings are a line each, those of libraries with ``-v`` alone.

    Args:
        word: A value of :data:`FLAGS`; None for what the environment says.
    """
    before, formatwarning = os.environ.get(VARIABLE), warnings.formatwarning
    if word is not None:
        os.environ[VARIABLE] = word
    warnings.formatwarning = _line
    try:
        yield
    finally:
        warnings.formatwarning = formatwarning
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def _line(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> str:
    if is_verbose():
        return f"refine: warning: {message} ({category.__name__}, {filename}, line {lineno})\n"
    ours = category is UserWarning or category.__module__.partition(".")[0] == "refine"
    return f"refine: warning: {message}\n" if ours else ""
