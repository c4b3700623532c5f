"""Signals to a run: SIGTERM ends it as Ctrl-C does, and a second one leaves it the time to conclude."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

STOPPED = (130, 143)  # exit statuses after Ctrl-C and SIGTERM


def exit_on_sigterm() -> None:
    """From now on, SIGTERM raises ``SystemExit(143)`` in the main thread, which alone may say so."""
    if _is_main():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM raises ``SystemExit(143)``; afterwards the handlers are those of before."""
    with _restored():
        exit_on_sigterm()
        yield


@contextlib.contextmanager
def unstoppable() -> Iterator[None]:
    """Inside, neither Ctrl-C nor SIGTERM: an agent sends on what the terminal has sent to all."""
    with _restored():
        if _is_main():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        yield


@contextlib.contextmanager
def interrupt_held_back() -> Iterator[None]:
    """Inside, Ctrl-C waits; what is started here inherits that, until it calls :func:`let_interrupt_through`.

    A Python that is told while it starts would print a traceback.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        let_interrupt_through()


def let_interrupt_through() -> None:
    """From now on, Ctrl-C is heard again, also one that has waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if _is_main():
                signal.signal(number, handler)


def _is_main() -> bool:
    """Only the main thread may set handlers."""
    return threading.current_thread() is threading.main_thread()
