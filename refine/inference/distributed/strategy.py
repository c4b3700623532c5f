"""One process per device: started by us, by torchrun or by srun, each on its own.

Lightning finds out who a process is (its cluster environments) and drives the device. Its own DDP is not used: nothing
is reduced or synchronized here, and its process group would make a dead process hang the living, and its launcher kill
them. What processes do tell each other goes through :mod:`refine.inference.distributed.coordinator`.
"""

import contextlib
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.distributed import HashStore

from refine.config import ConfigError, build
from refine.inference.distributed.coordinator import FAREWELL, Coordinator, open_store

PARENT = "REFINE_PARENT"  # variable in the environment of a process we started: who did
SHELL = "Start it by srun; or set SLURM_JOB_NAME=bash, by which Lightning knows not to look at SLURM."
UP = 600.0  # s in which rank 0 has to come up, the reading of weights included


class IndependentProcesses(ParallelStrategy):
    """Lightning's view of processes that do not communicate: each drives its device, and every barrier is open."""

    num_nodes = 1  # Lightning sets it

    @property
    def environment(self) -> ClusterEnvironment:
        """Who this process is; Lightning has found out by now."""
        assert self.cluster_environment is not None
        return self.cluster_environment

    @property
    def processes(self) -> int:
        """Of this node."""
        return len(self.parallel_devices or [])

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        assert self.parallel_devices is not None
        return self.parallel_devices[self.local_rank]

    def set_world_ranks(self) -> None:
        """Number the processes; torchrun and SLURM have done so already."""
        self.environment.set_global_rank(self.node_rank * self.processes + self.local_rank)
        self.environment.set_world_size(self.num_nodes * self.processes)
        rank_zero_only.rank = self.global_rank  # type: ignore[attr-defined]

    def model_to_device(self) -> None:
        """Move the module."""
        assert self.model is not None
        self.model.to(self.root_device)

    def reduce(self, tensor: Any, *_: Any, **__: Any) -> Any:
        """Each process has its own numbers."""
        return tensor

    def barrier(self, name: str | None = None) -> None:
        """Nobody waits."""

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Each process has its own objects."""
        return obj


def make_trainer(section: Mapping[str, Any], device: torch.device, callbacks: Sequence[Callback] = ()) -> L.Trainer:
    """The trainer, on the device the refiner was placed on unless another is asked for.

    Args:
        section: Section ``trainer`` of a configuration; ``accelerator: auto`` follows ``device``.
        device: Device of the refiner.
        callbacks: Callbacks in the order in which they are called.

    Raises:
        ConfigError: If there is no such trainer here, or it does not fit how this process was started.
    """
    settings, one = dict(section), _is_one(section)
    if settings["accelerator"] == "auto":
        settings["accelerator"] = {"cuda": "gpu"}.get(device.type, device.type)
    if one and settings["devices"] == 1 and device.index is not None:
        settings["devices"] = [device.index]
    if not one and settings["strategy"] != "auto":
        raise ConfigError(f"trainer.strategy={settings['strategy']}: processes share nothing here; leave it at auto.")
    several = {} if one else {"strategy": IndependentProcesses(), "plugins": _environment()}
    try:
        trainer: L.Trainer = build(settings, callbacks=list(callbacks), **several)
        if isinstance(trainer.strategy, IndependentProcesses):
            _check_count(trainer.strategy)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(f"trainer: {error}") from None
    except KeyError as error:  # in a shell that SLURM gave
        raise ConfigError(f"trainer: srun would have set {error}, but did not start this process. {SHELL}") from None
    if trainer.world_size == 1 and (launched := _launched()) > 1:
        warnings.warn(
            f"{launched} such processes were started together, but each does all the work: trainer.devices=1. "
            "Share it by trainer=ddp under torchrun, or trainer=slurm under srun.",
            stacklevel=2,
        )
    return trainer


@contextlib.contextmanager
def coordinated(trainer: L.Trainer, command: Sequence[str], patience: float) -> Iterator[Coordinator]:
    """Start the other processes, unless torchrun or srun did, and meet them.

    Args:
        trainer: Trainer of this process.
        command: Arguments of ``refine`` that started it.
        patience: Seconds without a sign of life after which a process counts as dead.

    Yields:
        How they talk. When all is told, the processes started here have ended; after an error they are made to.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, IndependentProcesses) or strategy.world_size == 1:
        yield Coordinator(HashStore(), 0, 1, patience)
        return
    environment, rank = strategy.environment, strategy.global_rank
    store = open_store(environment.main_address, environment.main_port, rank == 0, UP, _orphaned)
    ours = [] if environment.creates_processes_externally else _start(strategy, command)

    def departed(other: int) -> bool:
        index = other - rank - 1
        return index < len(ours) and ours[index].poll() is not None

    coordinator = Coordinator(store, rank, strategy.world_size, patience, departed)
    try:
        try:
            yield coordinator
        except BaseException as error:
            if rank:
                coordinator.report({"error": f"{type(error).__name__}: {error}"})
            raise
        for process in ours:
            if coordinator.stopped_others:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(FAREWELL)
    finally:
        for process in ours:
            process.kill()  # nothing, if it has ended
            process.wait()


def set_threads(threads: int, trainer: L.Trainer) -> None:
    """Set how many CPU threads torch uses in this process, and say so where they are too many for the machine.

    The order in which threads add numbers up shows in the last bits of a result, so their number is a setting and
    follows neither cores nor processes. Threads beyond the cores spin at every barrier until the others get their turn,
    and a run becomes many times slower.

    Args:
        threads: 1 or more.
        trainer: Trainer of this process.
    """
    torch.set_num_threads(threads)
    processes = trainer.strategy.processes if isinstance(trainer.strategy, IndependentProcesses) else 1
    cores = os.cpu_count() or 1
    if threads > 1 and threads * processes > cores and trainer.global_rank == 0:
        warnings.warn(
            f"{processes} processes x threads={threads} on {cores} cores: they will wait for each other most of the "
            "time; use fewer threads or processes.",
            stacklevel=2,
        )


def use_own_device() -> None:
    """Make this process's GPU the default one, so that not all processes load their weights on the first."""
    local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
    if 0 < local < torch.cuda.device_count():
        torch.cuda.set_device(local)


def _orphaned() -> bool:
    """Whether we started this process and have ended since."""
    return os.environ.get(PARENT, "") not in ("", str(os.getppid()))


def _is_one(section: Mapping[str, Any]) -> bool:
    """Whether a single process is asked for; ``auto`` may come out as several."""
    devices = section["devices"]
    return section["num_nodes"] == 1 and (devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1))


def _check_count(strategy: IndependentProcesses) -> None:
    """Hold the number of processes that are asked for against those that torchrun or srun started."""
    strategy.environment.validate_settings(strategy.processes, strategy.num_nodes)
    asked = strategy.processes * strategy.num_nodes
    if strategy.world_size != asked:  # as in a shell that SLURM gave, without srun
        raise ValueError(
            f"{asked} processes are asked for, but the environment says that {strategy.world_size} were started. "
            + SHELL
        )


def _start(strategy: IndependentProcesses, command: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    """The other processes of this node; by their environment Lightning knows who they are."""
    environment = strategy.environment
    shared = {
        "MASTER_ADDR": environment.main_address,
        "MASTER_PORT": str(environment.main_port),
        "NODE_RANK": str(environment.node_rank()),
        PARENT: str(os.getpid()),
    }
    arguments = [sys.executable, "-m", "refine", *command]
    return [
        subprocess.Popen(arguments, env={**os.environ, **shared, "LOCAL_RANK": str(local)})
        for local in range(1, strategy.processes)
    ]


def _environment() -> list[ClusterEnvironment]:
    """SLURM without Lightning's requeueing, which saves a training checkpoint first; the batch script requeues."""
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        return [SLURMEnvironment(auto_requeue=False)]
    return []


def _launched() -> int:
    """How many processes torchrun or srun started, this one included."""
    count = "WORLD_SIZE" if TorchElasticEnvironment.detect() else "SLURM_STEP_NUM_TASKS"
    return int(os.environ.get(count, 1))
