"""One run over many images: what is asked for, what of it is there, the prediction, and the account of it all."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from refine.config import ConfigError, check_positive, plain, require_bool
from refine.core.refiner import Refiner
from refine.data.dataset import MaskOptions, PairDataset
from refine.data.discovery import find_pairs
from refine.data.pairs import Failure, ImageMaskPair
from refine.data.subset import draw, listed
from refine.factory import make_refiner, mask_generator, mask_options
from refine.inference.callbacks.panels import Panels
from refine.inference.callbacks.progress import ProgressBar
from refine.inference.callbacks.writer import ResultWriter
from refine.inference.distributed.coordinator import Coordinator
from refine.inference.distributed.partition import account, in_listing, share_out, tell
from refine.inference.distributed.strategy import make_trainer, set_threads, together, use_own_device
from refine.inference.logging.console import log, logged, quiet
from refine.inference.logging.loggers import Loggers, opened
from refine.inference.logging.publish import LiveProgress, publish
from refine.inference.module import InpaintingModule
from refine.inference.panels import choose
from refine.inference.run_folder import RunFolder
from refine.inference.summary import summarize, told
from refine.io.decode import FORMATS
from refine.io.files import same_path
from refine.io.picture import SUFFIXES, read_picture, to_tensor
from refine.metrics.evaluator import Evaluator
from refine.metrics.sets import PAIRWISE, SETWISE, learned_scores, set_scores


def run(config: DictConfig, command: Sequence[str]) -> int:
    """Fill the holes of all images of a configuration.

    Args:
        config: Composed, of ``predict``.
        command: The overrides it was composed of, for the processes that are started beside this one.

    Returns:
        Exit status: 0 if every result is there, 1 if something failed or is missing, 130 after Ctrl-C, 143 after
        SIGTERM.

    Raises:
        ValueError: If the request makes no sense as a whole; nothing was done then.
    """
    _check(config)
    output = _output_folder(config)
    jobs, failures = _jobs(config)
    _spare_inputs(jobs, output, config.format)
    with warnings.catch_warnings(record=True) as early, quiet():  # before there is a log
        use_own_device()
        refiner = make_refiner(config)
        trainer = make_trainer(config.trainer, refiner.backbone.device)
        set_threads(config.threads, trainer)
    records = RunFolder(output, pixel_settings(config, refiner.backbone.weights_hash), trainer.global_rank)
    panels = _panels(config, jobs, records, refiner)
    with together(trainer, ["predict", *command], config.patience) as roll, contextlib.ExitStack() as stack:
        todo: list[ImageMaskPair] = []
        if not roll.rank:  # it alone looks what is there: the others would see what it makes meanwhile
            todo = _unfinished(jobs, records, config)
            _open(records)
            roll.deal(share_out(todo, refiner, roll.size, config.data.side))
        share = in_listing(roll.share(), jobs)
        if roll.rank:
            _open(records)
        stack.enter_context(logged(records.folder / "log.txt"))
        for warning in early:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
        loggers = stack.enter_context(_loggers(config, records))
        writer = ResultWriter(records, config.format, _evaluator(config, refiner), panels.keep)
        trainer.callbacks += [panels, writer]  # type: ignore[attr-defined]
        if not roll.rank:
            records.write("config.yaml", OmegaConf.to_yaml(config, resolve=True))
            log.info("refine predict: %d job%s", len(jobs), "s" * (len(jobs) != 1))
            trainer.callbacks += [ProgressBar(len(share)), LiveProgress(loggers)]  # type: ignore[attr-defined]
        start = time.perf_counter()
        stopped, others = _predict(trainer, refiner, _dataset(share, config), roll)
        if roll.rank:
            tell(roll, records, stopped)
            return stopped
        account(others, records, roll.dealt, config.format, bool(stopped))
        records.failures = [*failures, *records.failures]
        publishing = partial(publish, loggers, records.folder, panels.chosen)
        loggers.status = _report(records, config, jobs, todo, time.perf_counter() - start, stopped, publishing)
        return loggers.status


def pixel_settings(config: DictConfig, weights_hash: str) -> dict[str, Any]:
    """Everything in a configuration that changes pixels; paths, trainer and device do not.

    Args:
        config: Composed.
        weights_hash: Of the backbone's weights, which stands for wherever they came from.
    """
    keys = ("backbone", "pyramid", "objective", "refiner", "mask_threshold", "mask_invert", "mask_dilate", "format")
    settings = OmegaConf.to_container(OmegaConf.masked_copy(config, list(keys)), resolve=True)
    assert isinstance(settings, dict)
    ignored = ("weights", "card", "tiny", "name", "sizes", "seed")
    settings["backbone"] = {k: v for k, v in settings["backbone"].items() if k not in ignored}
    settings["backbone"]["weights_hash"] = weights_hash
    if config.data.side is not None:
        settings["side"] = config.data.side
    for exact in ("frozen", "checkpoint"):  # ways to the same pixels
        settings["refiner"].pop(exact, None)
    return {str(key): value for key, value in settings.items()}


def _jobs(config: DictConfig) -> tuple[list[ImageMaskPair], list[Failure]]:
    """What is to do, and what of the input cannot be done."""
    suite = mask_generator(config)
    known = config.truth or ("input" if suite else None)
    jobs, failures = find_pairs(config.input, config.mask, suite or config.masks, config.output, known)
    if config.data.table is not None:
        jobs = listed(jobs, Path(config.data.table).expanduser())
    return draw(jobs, config.data.limit, config.data.seed), failures


def _loggers(config: DictConfig, records: RunFolder) -> contextlib.AbstractContextManager[Loggers]:
    """Those of this run; one process has them, the others leave what they know on disk."""
    settings = {"configuration": records.configuration, "settings": records.settings, **plain(config)}
    return opened({} if records.rank else config.logger, records.folder, settings)


def _panels(config: DictConfig, jobs: Sequence[ImageMaskPair], records: RunFolder, refiner: Refiner) -> Panels:
    """Pictures for the loggers: none where there are no loggers."""
    wanted = plain(config.panels)
    keys, count = wanted.pop("keys"), wanted.pop("count")
    chosen = choose((job.key for job in jobs), keys, count) if config.logger else []
    return Panels(records, chosen, Evaluator(refiner).plain, **wanted)


def _dataset(jobs: Sequence[ImageMaskPair], config: DictConfig) -> PairDataset:
    return PairDataset(jobs, MaskOptions(*mask_options(config)), config.format, config.data.side)


def _evaluator(config: DictConfig, refiner: Refiner) -> Evaluator | None:
    if config.evaluate is False:
        return None
    learned = learned_scores([name for name in config.metrics if name in PAIRWISE])
    return Evaluator(refiner, always=config.evaluate is True, further=learned)


def _check(config: DictConfig) -> None:
    for key, example in (("input", "input=photo.jpg mask=hole.png"), ("output", "output=results")):
        if OmegaConf.is_missing(config, key) or config[key] is None:
            raise ConfigError(f"predict needs {key}=, for example {example}.")
    if config.format not in FORMATS:
        raise ConfigError(f"format={config.format}: expected one of {', '.join(FORMATS)}.")
    mask_options(config)
    require_bool(config, "overwrite")
    check_positive(config, "threads", whole=True)
    check_positive(config, "patience")
    if config.evaluate is not None:
        require_bool(config, "evaluate")
    for name in config.metrics:
        if name not in (*PAIRWISE, *SETWISE):
            raise ConfigError(f"metrics={config.metrics}: expected some of {', '.join((*PAIRWISE, *SETWISE))}.")


def _output_folder(config: DictConfig) -> Path:
    """The folder of the results, if results may go there."""
    output, source = Path(config.output).expanduser(), Path(config.input).expanduser()
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output={output} is a file; give a folder.")
    if not output.exists() and output.suffix.lower() in SUFFIXES:
        raise ConfigError(f"output={output} looks like an image; give a folder, the result is named as the image.")
    folders = [source] if source.is_dir() else []  # beside a single image its result may lie, unless it replaces one
    if config.masks is not None:
        folders.append(Path(config.masks))
    if any(same_path(output, folder) for folder in folders):
        raise ConfigError(f"output={output} is the folder of the inputs, which would be overwritten; give another.")
    return output


def _spare_inputs(jobs: Sequence[ImageMaskPair], output: Path, format: str) -> None:
    inputs = {os.path.realpath(file) for job in jobs for file in job.files}
    for job in jobs:
        if os.path.realpath(result := output / f"{job.key}.{format}") in inputs:
            raise ConfigError(f"output={output}: the result {result} would overwrite an input; give another folder.")


def _open(records: RunFolder) -> None:
    try:
        records.open()
    except OSError as error:
        raise ConfigError(f"output={records.output} cannot be written ({error.strerror}: {error.filename}).") from None


def _unfinished(jobs: Sequence[ImageMaskPair], records: RunFolder, config: DictConfig) -> list[ImageMaskPair]:
    """The jobs whose results are not there yet.

    Raises:
        ConfigError: If results are there that this run would not make so.
    """
    todo, foreign = [], {}
    for job in jobs:
        name = f"{job.key}.{config.format}"
        state = records.state(name, _hash_inputs(job)) if os.path.lexists(records.output / name) else "missing"
        if state not in ("missing", "finished"):
            foreign[name] = state
        if state == "missing" or (config.overwrite and state != "finished"):
            todo.append(job)
    if foreign and not config.overwrite:
        name, state = next(iter(foreign.items()))
        differences = "".join(f"\n  {line}" for line in records.differences(name))
        raise ConfigError(
            f"output={records.output} holds {len(foreign)} of these results already, such as {name}: {state}."
            f"{differences}\nUse another output, or overwrite=true to replace them."
        )
    return todo


def _hash_inputs(job: ImageMaskPair) -> str:
    try:
        return job.hash()
    except (OSError, ValueError):
        return "unreadable"  # the job will fail with a better message; an old result is not taken for its own


def _predict(trainer: L.Trainer, refiner: Refiner, jobs: PairDataset, roll: Coordinator) -> tuple[int, dict[int, Any]]:
    """Run what is to do; the exit status of what stopped it, or 0, and for process 0 what the others tell."""
    try:
        with _stoppable():
            if len(jobs):
                loader = DataLoader(jobs, batch_size=None)
                trainer.predict(InpaintingModule(refiner), loader, return_predictions=False)
            return 0, roll.collect()
    except KeyboardInterrupt:
        stopped = 130
    except SystemExit as stop:  # Lightning's own way out of Ctrl-C has status 1
        stopped = 143 if stop.code == 143 else 130
    return stopped, roll.dismiss()


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


def _set_scores(jobs: Sequence[ImageMaskPair], records: RunFolder, config: DictConfig) -> dict[str, Any]:
    """Scores of the whole set of results against the set of truths; nothing where none are asked for."""
    names = [name for name in config.metrics if name in SETWISE]
    dataset = _dataset([job for job in jobs if job.truth is not None], config)

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index, job in enumerate(dataset.pairs):
            sample = dataset[index]
            if not isinstance(sample, Failure) and sample.truth is not None:
                yield to_tensor(read_picture(records.output / f"{job.key}.{config.format}")), sample.truth

    try:
        return {"sets": set_scores(names, pairs, config.inception_weights)} if names else {}
    except Exception as error:  # the results are there; what is missing is one number about them
        log.error("metrics=%s: %s: %s", config.metrics, type(error).__name__, error)
        log.debug("%s", traceback.format_exc())
        return {"sets": {"error": f"{type(error).__name__}: {error}"}}


def _report(
    records: RunFolder,
    config: DictConfig,
    jobs: Sequence[ImageMaskPair],
    todo: Sequence[ImageMaskPair],
    seconds: float,
    stopped: int,
    publishing: Callable[[Sequence[dict[str, Any]], dict[str, Any]], None],
) -> int:
    """Compare what should be there with what is, and say so."""
    done = set(records.finished) | {f"{job.key}.{config.format}" for job in set(jobs) - set(todo)}
    names = {job.key: f"{job.key}.{config.format}" for job in jobs}
    failed = {failure.key for failure in records.failures}
    left = [key for key, name in names.items() if name not in done and key not in failed]
    if not stopped:
        for key in left:
            records.fail(Failure(key, "has no result, for no reported reason; see .refine/log.txt"))
    rows = records.rows(name for name in names.values() if name in done)
    records.close(rows)
    summary = summarize(rows)
    for failure in records.failures:
        log.error("failed: %s: %s", failure.key, failure.reason)
        if failure.detail:
            log.debug("%s", failure.detail)
    if not stopped:
        summary |= _set_scores([job for job in jobs if names[job.key] in done], records, config)
    records.write("summary.json", json.dumps(summary, indent=1))
    for line in told(summary):
        log.info("%s", line)
    outcome = f"{len(records.finished)} done"
    skipped = len(jobs) - len(todo)
    outcome += f", {skipped} already there" if skipped else ""
    outcome += f", {len(records.failures)} failed" if records.failures else ""
    outcome += f", {len(left)} left; run the same command to continue" if stopped else ""
    log.info("%s in %.1f s -> %s", outcome, seconds, records.output)
    if stopped:
        return stopped
    publishing(rows, summary)
    return int(bool(records.failures))
