"""Lightning's trainer for a run, and where its processes meet: once before the first image, once after the last."""

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ParallelStrategy
from torch.distributed import PrefixStore
from torch.distributed.rendezvous import rendezvous

from refine.config import ConfigError, build

LOOK = 0.1  # s between looks whether all have come
FOREVER = timedelta(days=365)
ALONE = "this process was not started by srun, so it does not use the job's other tasks; see scripts/slurm_predict.sh"


class ProcessLost(RuntimeError):
    """Another process of this run ended before its work was done."""


def make_trainer(section: Mapping[str, Any], device: torch.device, callbacks: Sequence[Callback] = ()) -> L.Trainer:
    """The trainer, on the device the refiner was placed on unless another is asked for.

    Args:
        section: Section ``trainer`` of a configuration; ``accelerator: auto`` follows the device.
        device: Device of the refiner.
        callbacks: Callbacks in the order in which they are called.

    Raises:
        ConfigError: If there is no such trainer here, or it does not fit how this process was started.
    """
    settings = {key: value for key, value in section.items() if key not in ("max_restarts", "timeout")}
    if settings["accelerator"] == "auto":
        settings["accelerator"] = {"cuda": "gpu"}.get(device.type, device.type)
    if is_one(section) and section["devices"] == 1 and device.index is not None:
        settings["devices"] = [device.index]
    if not is_one(section) and settings["strategy"] == "auto":
        settings["strategy"] = "ddp"  # also where one device is found: then a group of one
    try:
        trainer: L.Trainer = build(settings, callbacks=list(callbacks), plugins=_environment())
        if environment := environment_of(trainer):
            environment.validate_settings(trainer.num_devices, trainer.num_nodes)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(f"trainer: {error}") from None
    if trainer.world_size == 1 and (started := _started()) > 1:
        warnings.warn(
            f"{started} such processes were started together, but each does all the work: trainer.devices=1. "
            "Share it by trainer=ddp under torchrun, or trainer=slurm under srun.",
            stacklevel=2,
        )
    return trainer


@contextlib.contextmanager
def process_group(trainer: L.Trainer, timeout: float) -> Iterator["Processes"]:
    """Inside, the processes of a run know each other.

    Lightning's strategy finds the group and uses it. It is gloo on every device: it carries a few bytes before and
    after the work, takes no GPU memory, and lets several processes share a GPU.

    Args:
        trainer: Trainer of this process.
        timeout: Seconds in which all must come to the start, the reading of weights included.
    """
    environment = environment_of(trainer)
    if environment is None:
        yield Processes(trainer, None)
        return
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    try:
        limit = timedelta(seconds=timeout)
        store, rank, size = next(rendezvous("env://", trainer.global_rank, trainer.world_size, timeout=limit))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the agent's store outlives what it restarts
        dist.init_process_group("gloo", store=PrefixStore(attempt, store), rank=rank, world_size=size, timeout=limit)
        yield Processes(trainer, dist.new_group(backend="gloo", timeout=FOREVER))
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the processes cannot meet at {environment.main_address}:{environment.main_port} ({reason}). Set "
            "MASTER_PORT to a free port, and MASTER_ADDR to the address of rank 0, in the environment of all of them."
        ) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class Processes:
    """The processes of a run, seen from one of them.

    Args:
        trainer: Trainer of this process.
        group: Process group without a time limit; None for a single process.
    """

    def __init__(self, trainer: L.Trainer, group: dist.ProcessGroup | None) -> None:
        self.rank, self.count = trainer.global_rank, trainer.world_size
        self._trainer, self._group = trainer, group

    def from_rank_zero(self, value: Any) -> Any:
        """What rank 0 has; other processes' own values are not looked at."""
        return self._trainer.strategy.broadcast(value)

    def wait_for_all(self) -> None:
        """Wait until every process has done its work, however long that takes.

        Raises:
            ProcessLost: If one of them has ended instead.
        """
        if self._group is None:
            return
        try:
            arrival = dist.barrier(self._group, async_op=True)
            while not arrival.is_completed():  # in Python, where signals are heard
                time.sleep(LOOK)
            arrival.wait()
        except RuntimeError:  # the connection to it is closed
            raise ProcessLost("another process of this run died") from None


def environment_of(trainer: L.Trainer) -> ClusterEnvironment | None:
    """How the processes of a run were started; None for a trainer of a single one.

    Args:
        trainer: Trainer of this process.
    """
    return trainer.strategy.cluster_environment if isinstance(trainer.strategy, ParallelStrategy) else None


def is_one(section: Mapping[str, Any]) -> bool:
    """Whether a single process is asked for; ``auto`` may come out as several.

    Args:
        section: Section ``trainer`` of a configuration.
    """
    devices = section["devices"]
    return section["num_nodes"] == 1 and (devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1))


def _environment() -> list[ClusterEnvironment]:
    """How this process was started, where Lightning would not see it right."""
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    if "SLURM_STEP_NUM_TASKS" not in os.environ:  # a batch script or shell, of whose tasks this is none
        if int(os.environ.get("SLURM_NTASKS", 1)) > 1:
            warnings.warn(ALONE, stacklevel=3)
        return [LightningEnvironment()]
    return [SLURMEnvironment(auto_requeue=False)]  # Lightning's would save a training checkpoint; the script requeues


def _started() -> int:
    """How many processes torchrun or srun started, this one included."""
    count = "WORLD_SIZE" if TorchElasticEnvironment.detect() else "SLURM_STEP_NUM_TASKS"
    return int(os.environ.get(count, 1))
