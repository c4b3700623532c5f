"""How much memory a piece of work took at its peak."""

import contextlib
import re
import sys
from pathlib import Path

import torch

MIB = 2**20


def restart_peak(device: torch.device) -> None:
    """Forget earlier peaks, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # Linux alone; elsewhere the peak is that of the process so far
            Path("/proc/self/clear_refs").write_text("5")


def resident(device: torch.device) -> float:
    """MiB now: of tensors on a CUDA device, else of the whole process (RSS); NaN where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / MIB
    with contextlib.suppress(OSError):
        if match := re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text()):
            return int(match[1]) / 1024
    return _peak_of_process()


def peak(device: torch.device) -> float:
    """MiB at the peak: of tensors on a CUDA device, else of the whole process (RSS); NaN where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return _peak_of_process()
    match = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(match[1]) / 1024 if match else _peak_of_process()


def _peak_of_process() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB
