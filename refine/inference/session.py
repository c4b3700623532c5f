"""All that one process of a run works with: refiner, run folder, loggers, callbacks, trainer."""

from dataclasses import dataclass, replace

import lightning as L
from lightning.pytorch.callbacks import Callback

from refine.analysis.calibration_cache import calibrated_ways
from refine.analysis.memory_limit import MemoryLimit
from refine.analysis.peak_memory import MIB, resident
from refine.config import ConfigError, PredictConfig
from refine.core.refiner import Refiner
from refine.factory import make_dataset, make_refiner
from refine.inference.beside import BYTES, PIXELS, threads_beside
from refine.inference.callbacks.cost import CostMeter
from refine.inference.callbacks.evaluation import Scoring
from refine.inference.callbacks.live_progress import LiveProgress
from refine.inference.callbacks.panels import Panels
from refine.inference.callbacks.process_settings import ProcessSettings
from refine.inference.callbacks.progress import ProgressBar
from refine.inference.callbacks.writer import ResultWriter
from refine.inference.discover import Request
from refine.inference.distributed.sampler import divide
from refine.inference.distributed.trainer import make_trainer
from refine.inference.fingerprint import backbone_settings, pixel_settings
from refine.inference.foresight import predicted_costs
from refine.inference.logging.console import log
from refine.inference.logging.loggers import Loggers
from refine.inference.panels import choose
from refine.inference.run_folder import RunFolder
from refine.inference.threads import set_threads, use_own_device
from refine.metrics.evaluator import Evaluator
from refine.metrics.sets import PAIRWISE, check_available, learned_scores


@dataclass(frozen=True)
class Session:
    """All that one process of a run works with.

    Attributes:
        config: Settings of the run.
        request: Images, masks and output folder: of the whole run.
        part: Those of this shard; the same where there are no shards.
        refiner: Refiner on its device.
        run_folder: Run folder in the output folder.
        scoring: Callback that scores results; None with ``evaluate=false``.
        loggers: Experiment loggers, open on rank 0 alone.
        threads: Number of threads that read beside the refinement, and as many that write.
        writer: Callback that writes results.
        panels: Callback that keeps pictures of selected images.
        trainer: Lightning's trainer with all callbacks.
    """

    config: PredictConfig
    request: Request
    part: Request
    refiner: Refiner
    run_folder: RunFolder
    scoring: Scoring | None
    loggers: Loggers
    threads: int
    writer: ResultWriter
    panels: Panels
    trainer: L.Trainer


def prepare(config: PredictConfig, request: Request) -> Session:
    """Build the refiner, the run folder and the trainer with its callbacks.

    Args:
        config: Settings of the run.
        request: Work of the run.

    Raises:
        ConfigError: If a score needs what is not installed.
    """
    try:
        check_available(config.metrics, config.fid_network)
    except ModuleNotFoundError as error:
        raise ConfigError(f"metrics=[{','.join(config.metrics)}]: {error}") from None
    use_own_device()
    refiner, loggers = make_refiner(config), Loggers()
    run_folder = RunFolder(request.output, pixel_settings(config, backbone_settings(refiner.backbone)))
    scoring = _scoring(config, refiner, run_folder)
    panels = _panels(config, request, refiner, run_folder, scoring)
    callbacks: list[Callback] = [ProcessSettings(config.threads), CostMeter(run_folder)]
    callbacks += [scoring] if scoring else []
    threads = threads_beside(config.workers, refiner.backbone.device)
    writer = ResultWriter(run_folder, config.format, threads)
    callbacks += [writer, panels, ProgressBar(), LiveProgress(loggers)]
    trainer = make_trainer(config.trainer, refiner.backbone.device, callbacks)
    run_folder.part = str(trainer.global_rank) if config.shard is None else f"{config.shard}.{trainer.global_rank}"
    set_threads(config.threads, trainer)
    part = _part(config, request, refiner)
    return Session(config, request, part, refiner, run_folder, scoring, loggers, threads, writer, panels, trainer)


def memory_limit(session: Session) -> MemoryLimit | None:
    """The limit of ``memory=``; the first on a machine measures it.

    Args:
        session: Session of this process.

    Raises:
        ConfigError: If the process takes more already.
    """
    config, refiner = session.config, session.refiner
    if config.memory is None:
        return None
    before = resident(refiner.backbone.device)
    if config.memory < before:
        raise ConfigError(
            f"memory={config.memory:.0f}MiB: the process itself takes {before:.0f} MiB already; give more than that, "
            "or leave memory= out."
        )
    if refiner.backbone.device.type == "cpu" and session.threads:
        before += PIXELS * BYTES / MIB  # images that are read or written meanwhile
    return MemoryLimit(config.memory, calibrated_ways(refiner, config, say=log.info), before)


def _part(config: PredictConfig, request: Request, refiner: Refiner) -> Request:
    """The images of this shard; every shard finds the same division by itself."""
    if config.shard is None:
        return request
    costs = predicted_costs(make_dataset(config, request.pairs), refiner)
    indices = divide(costs, config.shards)[config.shard]
    return replace(request, pairs=[request.pairs[index] for index in indices])


def _scoring(config: PredictConfig, refiner: Refiner, run_folder: RunFolder) -> Scoring | None:
    if config.evaluate is False:
        return None
    learned = learned_scores([name for name in config.metrics if name in PAIRWISE], config.lpips_weights)
    return Scoring(run_folder, Evaluator(refiner, always=config.evaluate is True, further=learned))


def _panels(
    config: PredictConfig, request: Request, refiner: Refiner, run_folder: RunFolder, scoring: Scoring | None
) -> Panels:
    """Pictures for the loggers: none where there are no loggers."""
    panels = config.panels
    selected = choose((pair.key for pair in request.pairs), panels.keys, panels.count) if config.logger else []
    return Panels(run_folder, selected, Evaluator(refiner).plain, scoring, panels.every, panels.side)
