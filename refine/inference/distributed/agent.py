"""Processes on this machine, started and watched by torch's elastic agent, as by ``torchrun``."""

import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from refine.config import ConfigError
from refine.inference.distributed.trainer import ProcessLost, environment_of, is_one, make_trainer

NAME = "refine-"  # of our agents
FAREWELL = "10"  # s that processes may take to end when told to


def processes_to_start(section: Mapping[str, Any], device: torch.device) -> int:
    """How many processes this one has to start and watch; 0 if it does the work itself.

    Args:
        section: Section ``trainer`` of a configuration.
        device: Device that ``device=`` asks for.

    Raises:
        ConfigError: If there is no such trainer here.
    """
    if is_one(section):
        return 0
    trainer = make_trainer(section, device)
    environment = environment_of(trainer)
    if trainer.world_size == 1 or environment is None or environment.creates_processes_externally:
        return 0  # one is enough, or torchrun or srun started the others
    if trainer.num_nodes > 1:
        raise ConfigError(f"trainer.num_nodes={trainer.num_nodes}: start it by torchrun or srun on every node.")
    return trainer.num_devices


def watched() -> bool:
    """Whether this process is one that :func:`run_workers` started."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(NAME)


def run_workers(work: Callable[[Sequence[str]], int], command: Sequence[str], count: int, max_restarts: int) -> int:
    """Run a function in several processes of this machine.

    When one of them fails, the agent stops the others and starts all of them again, or gives up. When the agent itself
    is killed, Linux tells them to stop.

    Args:
        work: Function that each process calls with the command; returns an exit status.
        command: Arguments of the function.
        count: Number of processes.
        max_restarts: How often all of them are started again after a failure.

    Returns:
        Exit status of rank 0, or of the first other process whose status is not 0; 130 or 143 if the agent was told
        to stop by Ctrl-C or SIGTERM.

    Raises:
        ProcessLost: If a process failed, and did so again after every restart.
    """
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", FAREWELL)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing.spawn")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what it has to say is said by us
    with tempfile.TemporaryDirectory(prefix="refine-agent-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=f"{NAME}{uuid.uuid4().hex}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=max_restarts,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            statuses: dict[int, int] = elastic_launch(config, work)(list(command))
        except SignalException as stop:
            return 128 + int(stop.sigval)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise ProcessLost(f"process {rank} died ({_cause(failure.exitcode, failure.message)})") from None
    return statuses[0] or max(statuses.values())


def _cause(exitcode: int, message: Any) -> str:
    """Signal, or the exception's own words where the agent has them."""
    if exitcode < 0:
        return signal.Signals(-exitcode).name
    return str(message["message"]).splitlines()[0] if isinstance(message, dict) else f"exit status {exitcode}"
