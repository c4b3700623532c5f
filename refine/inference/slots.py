"""One GPU per job, among jobs that share a machine."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"
_taken: list[str] = []  # by this process; CUDA reads the variable once, so it keeps to the GPU of its first job


@contextlib.contextmanager
def own_device(folder: Path, poll: float = 0.5) -> Iterator[str | None]:
    """Inside, this process sees one of the machine's GPUs, and no other job of the folder has it.

    Args:
        folder: Folder of the jobs, for a lock file per GPU.
        poll: Seconds between looks whether one is free.

    Yields:
        Its name in ``CUDA_VISIBLE_DEVICES``; None where there is no GPU.
    """
    devices = _taken or _visible()
    if not devices:
        yield None
        return
    lock, device = _first_free(folder, devices, poll)
    try:
        _taken[:] = [device]
        os.environ[VISIBLE] = device
        yield device
    finally:
        lock.release()


def _first_free(folder: Path, devices: list[str], poll: float) -> tuple[FileLock, str]:
    """A lock ends with its process, however that ends."""
    while True:
        for device in devices:
            with contextlib.suppress(Timeout):
                lock = FileLock(folder / f"gpu-{device.replace(os.sep, '_')}.lock")
                lock.acquire(blocking=False)
                return lock, device
        time.sleep(poll)


def _visible() -> list[str]:
    """The GPUs that this process may use."""
    import torch

    configured = os.environ.get(VISIBLE)
    if configured is None:
        return list(map(str, range(torch.cuda.device_count())))
    return [name for name in configured.split(",") if name]
