"""CPU threads and GPU of this process."""

import os
import warnings

import lightning as L
import torch


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
    processes, cores = trainer.num_devices, os.cpu_count() or 1
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
