"""One run over many images: discover, partition, predict, conclude."""

import contextlib
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from refine.config import ConfigError, PredictConfig
from refine.data.pairs import ImageMaskPair
from refine.factory import make_dataset
from refine.inference.conclude import Outcome, conclude
from refine.inference.datamodule import PairDataModule
from refine.inference.discover import discover, select_unfinished
from refine.inference.distributed.coordinator import Coordinator
from refine.inference.distributed.partition import merge_reports, partition_pairs, report_to_rank_zero, select_pairs
from refine.inference.distributed.strategy import coordinated
from refine.inference.logging.console import log, logged, quiet
from refine.inference.logging.loggers import opened
from refine.inference.logging.publish import publish
from refine.inference.module import InpaintingModule
from refine.inference.run_folder import RunFolder
from refine.inference.session import Session, prepare


def run(config: PredictConfig, command: Sequence[str]) -> int:
    """Fill the holes of all images of a configuration.

    Args:
        config: Settings of the run.
        command: Overrides it was composed of, for the processes that are started beside this one.

    Returns:
        Exit status: 0 if every result is there, 1 if something failed or is missing, 130 after Ctrl-C, 143 after
        SIGTERM.

    Raises:
        ValueError: If the request makes no sense as a whole; nothing was done then.
    """
    request = discover(config)
    with warnings.catch_warnings(record=True) as early, quiet():  # before there is a log
        session = prepare(config, request)
    with contextlib.ExitStack() as stack:
        coordinator = stack.enter_context(coordinated(session.trainer, ["predict", *command], config.patience))
        unfinished, own = partition(session, coordinator)
        stack.enter_context(recorded(session, early))
        outcome, reports = predict(session, unfinished, own, coordinator)
        if coordinator.rank:
            report_to_rank_zero(coordinator, session.run_folder, outcome.stopped)
            return outcome.stopped
        merge_reports(reports, session.run_folder, coordinator.assignments, config.format, bool(outcome.stopped))
        return finish(session, outcome)


def partition(session: Session, coordinator: Coordinator) -> tuple[list[ImageMaskPair], list[ImageMaskPair]]:
    """Divide the unfinished images among the processes.

    Rank 0 alone looks what is there: the others would see what it makes meanwhile.

    Returns:
        All unfinished pairs (nothing on other ranks), and those of this process.
    """
    unfinished: list[ImageMaskPair] = []
    config, run_folder, pairs = session.config, session.run_folder, session.request.pairs
    if not coordinator.rank:
        unfinished = select_unfinished(session.request, run_folder, config.overwrite)
        _open(run_folder)
        coordinator.assign(partition_pairs(unfinished, session.refiner, coordinator.size, config.data.side))
    own = select_pairs(coordinator.assigned(), pairs)
    if coordinator.rank:
        _open(run_folder)
    return unfinished, own


def _open(run_folder: RunFolder) -> None:
    try:
        run_folder.open()
    except OSError as error:
        raise ConfigError(
            f"output={run_folder.output} cannot be written ({error.strerror}: {error.filename})."
        ) from None


@contextlib.contextmanager
def recorded(session: Session, early: Sequence[warnings.WarningMessage]) -> Iterator[None]:
    """Inside, what is said goes to the log, and on rank 0 the loggers are open.

    Args:
        session: Session whose run folder takes the log.
        early: Warnings from before there was a log.
    """
    config, run_folder, first = session.config, session.run_folder, session.trainer.is_global_zero
    settings = {"configuration": run_folder.configuration, "settings": run_folder.settings, **config.model_dump()}
    with logged(run_folder.log):
        for warning in early:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
        if first:
            run_folder.write_configuration(config)
            count = len(session.request.pairs)
            log.info("refine predict: %d image%s", count, "s" * (count != 1))
        with opened(session.loggers, config.logger if first else {}, run_folder, settings):
            yield


def predict(
    session: Session, unfinished: Sequence[ImageMaskPair], own: Sequence[ImageMaskPair], coordinator: Coordinator
) -> tuple[Outcome, dict[int, Any]]:
    """Refine the images of this process, and on rank 0 wait for the other processes.

    Args:
        session: Session with the trainer.
        unfinished: Pairs of all processes.
        own: Pairs of this process.
        coordinator: Coordinator of the processes.

    Returns:
        How it ended, and on rank 0 what the other processes report.
    """
    start, stopped = time.perf_counter(), 0
    try:
        with _stoppable():
            if own:
                data = PairDataModule(make_dataset(session.config, own))
                session.trainer.predict(InpaintingModule(session.refiner), datamodule=data, return_predictions=False)
            reports = coordinator.gather_reports()
    except KeyboardInterrupt:
        stopped = 130
    except SystemExit as stop:  # Lightning's own way out of Ctrl-C has status 1
        stopped = 143 if stop.code == 143 else 130
    if stopped:
        reports = coordinator.stop_others()
    return Outcome(unfinished, time.perf_counter() - start, stopped), reports


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the run, which Lightning's predict loop ignores; and undo what Lightning does to Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(session: Session, outcome: Outcome) -> int:
    """Conclude on rank 0: tables, summary, loggers.

    Args:
        session: Session with the request and the run folder.
        outcome: How the prediction ended.

    Returns:
        Exit status of the run.
    """
    request, run_folder, loggers = session.request, session.run_folder, session.loggers
    run_folder.failures = [*request.failures, *run_folder.failures]
    rows, summary = conclude(request, run_folder, outcome, session.config)
    if not outcome.stopped:
        publish(loggers, run_folder, session.panels.selected, rows, summary)
    loggers.status = outcome.stopped or int(bool(run_folder.failures))
    return loggers.status
