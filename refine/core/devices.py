"""The device a refiner runs on: the requested one, the best one, or the CPU where that one cannot run the network."""

import os
import platform
import re
import warnings
from pathlib import Path

import torch

from refine.core.numerics import numerics
from refine.core.refiner import Refiner


def place(refiner: Refiner, device: str) -> Refiner:
    """Move a refiner to a device, or to the CPU where the device lacks an operation of the network, and say so.

    Args:
        refiner: Refiner to be moved.
        device: Torch's name of a device, or ``auto`` for the best one.

    Raises:
        ValueError: If there is no such device, or with ``deterministic`` it has no such kernel for an operation.
    """
    requested = checked_device(device)
    refiner.to(requested)
    if requested.type == "cpu":
        return refiner
    try:
        _probe(refiner)
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).splitlines()[0]
        if refiner.deterministic and "deterministic" in reason:
            raise ValueError(f"deterministic=true: {reason}. Set deterministic=false, or device=cpu.") from error
        warnings.warn(f"device {requested} cannot run this network ({reason}); using the CPU instead.", stacklevel=2)
        refiner.to("cpu")
    return refiner


def best_device() -> torch.device:
    """CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def checked_device(name: str) -> torch.device:
    """The device with this name.

    Args:
        name: Torch's name of a device, or ``auto`` for the best one.

    Raises:
        ValueError: If there is no such device.
    """
    if name == "auto":
        return best_device()
    match = re.fullmatch(r"(cpu|cuda|mps)(?::(\d+))?", str(name))
    if match is None:
        raise ValueError(f"device={name}: expected auto, cpu, cuda, cuda:1 or mps.")
    kind, index = match[1], int(match[2] or 0)
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if index >= count:
        reason = f"has {count} of these" if count else "or this build of torch has none"
        raise ValueError(f"device={name}: this machine {reason}; use device=cpu or device=auto.")
    return torch.device(name if kind == "cuda" else kind)


def _probe(refiner: Refiner) -> None:
    """Run the network once on the smallest image it takes."""
    side = refiner.backbone.minimum_side
    image = torch.zeros(1, 3, side, side, device=refiner.backbone.device, dtype=refiner.backbone.dtype)
    # cuBLAS looks once per process, at the first product, whether its sums are to be repeatable.
    with torch.no_grad(), numerics(image.device, refiner.tf32, refiner.deterministic):
        refiner.backbone(image, image[:, :1])


def machine_name(device: torch.device | None = None) -> str:
    """What a number of seconds means nothing without: the GPU or the processor, its cores, and torch.

    Args:
        device: Device that is used; None for the GPU if there is one.
    """
    gpu = torch.cuda.is_available() if device is None else device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else _processor()
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or not x86
        return platform.processor() or platform.machine()
