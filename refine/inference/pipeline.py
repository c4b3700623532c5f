"""One run over many images: discover, prepare, assign, predict, conclude."""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

from refine.backbones.conformance.contract import check_blindness
from refine.config import ConfigError, PredictConfig
from refine.core.devices import checked_device
from refine.data.pairs import ImageMaskPair
from refine.factory import make_dataset
from refine.inference.conclude import Outcome, conclude, say_part, take_account
from refine.inference.datamodule import PairDataModule
from refine.inference.discover import Request, discover, select_unfinished
from refine.inference.distributed.agent import processes_to_start, run_workers, watched
from refine.inference.distributed.sampler import CostBalancedSampler
from refine.inference.distributed.trainer import Processes, ProcessLost, process_group
from refine.inference.distributed.worker import run_as_worker
from refine.inference.foresight import announce, foresee, limit_or_known, predicted_costs
from refine.inference.further_scores import add_scores
from refine.inference.logging.console import log, logged, quiet
from refine.inference.logging.loggers import Loggers, opened
from refine.inference.logging.publish import publish
from refine.inference.module import InpaintingModule
from refine.inference.run_folder import RunFolder
from refine.inference.session import Session, memory_limit, prepare
from refine.inference.signals import stoppable, unstoppable


def run(config: PredictConfig, command: Sequence[str]) -> int:
    """Fill the holes of all images of a configuration.

    Args:
        config: Settings of the run.
        command: Overrides it was composed of, for the processes that are started to do it.

    Returns:
        Exit status: 0 if every result is there, 1 if something failed or is missing, 130 after Ctrl-C, 143 after
        SIGTERM.

    Raises:
        ValueError: If the request makes no sense as a whole; nothing was done then.
    """
    request = discover(config)
    if config.gather:
        return gather(config, request, "has no result")
    if config.shards > 1 and config.shard is None:
        raise ConfigError(f"shards={config.shards}: say which one this is, shard=0 to {config.shards - 1}.")
    with warnings.catch_warnings(record=True) as early, quiet():
        count = processes_to_start(config.trainer, checked_device(config.device))
    if not count:
        return work(config, request)
    for warning in early:
        if warning.category is UserWarning:  # Lightning's own are for the log
            print(f"refine: {warning.message}", file=sys.stderr)
    try:
        return run_workers(run_as_worker, command, count, config.trainer["max_restarts"])
    except ProcessLost as lost:
        return gather(config, request, f"has no result: {lost}") or 1


def work(config: PredictConfig, request: Request) -> int:
    """Refine the images of this process, and conclude if it is the first.

    Args:
        config: Settings of the run.
        request: Work of the run.

    Returns:
        Exit status, as of :func:`run`.
    """
    with warnings.catch_warnings(record=True) as early, quiet():  # before there is a log
        session = prepare(config, request)
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(process_group(session.trainer, config.trainer["timeout"]))
        unfinished, sampler = assign(session, processes)
        stack.enter_context(recorded(session, early))
        if not processes.rank and config.shard is None:
            stack.enter_context(_loggers(session))
        outcome = predict(session, unfinished, sampler, processes)
        if processes.rank:
            return outcome.stopped
        with unstoppable() if outcome.stopped else contextlib.nullcontext():
            return finish(session, outcome)


def gather(config: PredictConfig, request: Request, reason: str) -> int:
    """Conclude a run whose processes have ended, from what they left; nothing is refined.

    Args:
        config: Settings of the run.
        request: Work of the run.
        reason: Why a pair may have no result.

    Returns:
        Exit status: 0 if every result is there, else 1.
    """
    trainer = {**config.trainer, "accelerator": "cpu", "devices": 1, "num_nodes": 1}
    with warnings.catch_warnings(record=True) as early, quiet():
        session = prepare(config.model_copy(update={"device": "cpu", "trainer": trainer, "shard": None}), request)
    if not config.overwrite:
        select_unfinished(request, session.run_folder, overwrite=False)  # are those that are there of these inputs?
    _open(session.run_folder)
    with recorded(session, early), _loggers(session):
        return finish(session, Outcome([], reason=reason))


def assign(session: Session, processes: Processes) -> tuple[list[ImageMaskPair], CostBalancedSampler]:
    """Find the images that are still to be refined, and divide them among the processes.

    Rank 0 alone looks what is there: the others would see what it makes meanwhile.

    Args:
        session: Session of this process.
        processes: Processes of the run.

    Returns:
        The unfinished pairs, the same in every process, and the sampler of this process.

    Raises:
        ConfigError: If results are there that this run would not make so, the output cannot be written, or the backbone
            sees the truth that its results are to be scored against.
    """
    config, folder, request = session.config, session.run_folder, session.part
    problem, costs = "", dict[str, float]()
    if not processes.rank:
        try:
            unfinished = select_unfinished(request, folder, config.overwrite)
            if config.evaluate is not False and any(pair.truth is not None for pair in unfinished):
                check_blindness(session.refiner.backbone)
            _open(folder)
            folder.forget_failures("*" if config.shard is None else f"{config.shard}.*")
            costs = _costs(session, unfinished) if processes.count > 1 else {pair.key: 0.0 for pair in unfinished}
        except ValueError as error:
            problem = str(error)
    problem, costs = processes.from_rank_zero((problem, costs))
    if problem:
        raise ConfigError(problem)
    listing = {pair.key: pair for pair in request.pairs}
    if missing := [key for key in costs if key not in listing]:
        raise ConfigError(f"this process does not find '{missing[0]}' in the input; all must see the same files.")
    if processes.rank:
        _open(folder)
    sampler = CostBalancedSampler(list(costs.values()), processes.rank, processes.count)
    return [listing[key] for key in costs], sampler


def _costs(session: Session, pairs: Sequence[ImageMaskPair]) -> dict[str, float]:
    costs = predicted_costs(make_dataset(session.config, pairs), session.refiner)
    return {pair.key: cost for pair, cost in zip(pairs, costs, strict=True)}


def _open(run_folder: RunFolder) -> None:
    try:
        run_folder.open()
    except OSError as error:
        raise ConfigError(
            f"output={run_folder.output} cannot be written ({error.strerror}: {error.filename})."
        ) from None


@contextlib.contextmanager
def recorded(session: Session, early: Sequence[warnings.WarningMessage]) -> Iterator[None]:
    """Inside, what is said goes to the log.

    Args:
        session: Session whose run folder takes the log.
        early: Warnings from before there was a log.
    """
    with logged(session.run_folder.log):
        if session.trainer.is_global_zero:
            for warning in early:  # the others' are the same
                warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
            session.run_folder.write_configuration(session.config)
            count, shard = len(session.part.pairs), session.config.shard
            text = f"refine predict: {count} image{'s' * (count != 1)}"
            log.info("%s", text if shard is None else f"{text}, shard {shard} of {session.config.shards}")
        yield


def _loggers(session: Session) -> contextlib.AbstractContextManager[Loggers]:
    config, folder = session.config, session.run_folder
    settings = {"configuration": folder.configuration, "settings": folder.settings, **config.model_dump()}
    return opened(session.loggers, config.logger, folder, settings)


def predict(
    session: Session, unfinished: Sequence[ImageMaskPair], sampler: CostBalancedSampler, processes: Processes
) -> Outcome:
    """Refine the images of this process, then wait until the other processes have refined theirs.

    Args:
        session: Session with the trainer.
        unfinished: Pairs of all processes.
        sampler: Sampler of the pairs of this process.
        processes: Processes of the run.
    """
    start = time.perf_counter()
    stopped, reason = 0, Outcome.reason
    try:
        with stoppable():
            if len(sampler) or processes.count > 1:
                config = session.config
                data = PairDataModule(make_dataset(config, unfinished), sampler, config.data.batch, session.threads)
                module = _module(session, [unfinished[index] for index in sampler])
                session.trainer.predict(module, datamodule=data, return_predictions=False)
            made_now = set(unfinished)
            finished = [pair for pair in session.part.pairs if pair not in made_now]
            add_scores(session, finished[processes.rank :: processes.count])
            processes.wait_for_all()
    except KeyboardInterrupt:
        stopped = 130
    except SystemExit as stop:  # Lightning's own way out of Ctrl-C has status 1
        stopped = 143 if stop.code == 143 else 130
    except ProcessLost as lost:
        if watched():
            raise  # the agent knows which, and what to do
        reason = f"has no result: {lost}"
    with unstoppable() if stopped else contextlib.nullcontext():
        session.writer.behind.wait()  # what is refined is not lost
    return Outcome(unfinished, time.perf_counter() - start, stopped, reason)


def _module(session: Session, pairs: Sequence[ImageMaskPair]) -> InpaintingModule:
    """The module of this process's images; what they will take is said where the machine is calibrated."""
    config, limit = session.config, memory_limit(session)
    module = InpaintingModule(session.refiner, limit)
    foreseen = limit_or_known(session.refiner, config.threads, limit)
    if foreseen and session.trainer.is_global_zero:
        plans = foresee(make_dataset(config, pairs), foreseen)
        announce(plans)
        module.expected = {key: plan.seconds for key, plan in plans.items()}
    return module


def finish(session: Session, outcome: Outcome) -> int:
    """Conclude, in one process: tables, summary, loggers.

    Args:
        session: Session with the request and the run folder.
        outcome: How the prediction ended.

    Returns:
        Exit status of the run.
    """
    request, folder, loggers = session.request, session.run_folder, session.loggers
    if session.config.shard is not None:
        status = outcome.stopped or say_part(request, session.part, folder, outcome)
        if session.config.gather is None and not take_account(request, folder).missing:  # the last shard
            with _loggers(session):
                return finish(replace(session, config=session.config.model_copy(update={"shard": None})), outcome)
        return status
    conclusion = conclude(request, folder, outcome, session.config)
    if not outcome.stopped:
        publish(loggers, folder, session.panels.selected, conclusion.rows, conclusion.summary)
    loggers.status = outcome.stopped or int(bool(conclusion.failures))
    return loggers.status
