"""What the images of a run will take, before any is refined."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from refine.analysis.calibration_cache import known_calibration
from refine.analysis.memory_limit import ImagePlan, MemoryLimit
from refine.analysis.peak_memory import resident
from refine.analysis.plan import plan_levels, work
from refine.backbones.user_modules import modules_of_users
from refine.core.memory import OutOfMemory
from refine.core.refiner import Refiner
from refine.data.dataset import PairDataset
from refine.inference.logging.console import log
from refine.io.decode import read_size

LONG = 60  # s; a run that takes less need not be announced


@dataclass(frozen=True)
class _Outline:
    """Size of an image and, where it decides the cost, its mask."""

    size: tuple[int, int]
    mask: Tensor | None


def predicted_costs(dataset: PairDataset, refiner: Refiner) -> list[float]:
    """Predicted cost of refining each image; of an image only the header is read, a mask only for windows.

    Args:
        dataset: Images of a run.
        refiner: Refiner, whose settings give the cost.

    Returns:
        Pixels times passes through the network; 0 for an image that cannot be read, which will fail at once.
    """
    outlines = [_outline(dataset, index, refiner) for index in range(len(dataset))]
    return [work(plan_levels(refiner, found.size, found.mask)) if found else 0.0 for found in outlines]


def limit_or_known(refiner: Refiner, threads: int, limit: MemoryLimit | None) -> MemoryLimit | None:
    """The limit of a run; without one, one that all images fit into, if this machine is calibrated already.

    Args:
        refiner: Refiner on its device.
        threads: Threads of the CPU that are used.
        limit: Limit of the run.
    """
    if limit is not None:
        return limit
    with modules_of_users():  # the backbone's fingerprint reads its code
        lines = known_calibration(refiner, threads)
    return MemoryLimit(math.inf, [("", refiner, lines)], resident(refiner.backbone.device)) if lines else None


def foresee(dataset: PairDataset, limit: MemoryLimit) -> dict[str, ImagePlan]:
    """The plan of each image, by key; those that cannot be read or do not fit are left out.

    Args:
        dataset: Images of a process.
        limit: Limit of the memory, with the calibrations.
    """
    plans = {}
    for index, pair in enumerate(dataset.pairs):
        found = _outline(dataset, index, limit.ways[0][1])
        if found:
            try:
                plans[pair.key] = limit.choose(found.size, found.mask)
            except OutOfMemory:  # told when its turn comes
                continue
    return plans


def announce(plans: Mapping[str, ImagePlan]) -> None:
    """Say before long work how long it will be.

    Args:
        plans: Plans of a process's images, by key.
    """
    seconds = sum(plan.seconds for plan in plans.values())
    if seconds >= LONG:
        peak = max(plan.mib for plan in plans.values())
        log.info("refine predict: about %s of refinement, %.0f MiB at the peak", duration(seconds), peak)


def duration(seconds: float) -> str:
    """A time as text, such as ``50 s``, ``6 min`` or ``2 h 40 min``."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _outline(dataset: PairDataset, index: int, refiner: Refiner) -> _Outline | None:
    try:
        with dataset.pairs[index].image.open("rb") as stream:
            height, width = read_size(stream, dataset.megapixels)
        if not (height and width):
            return None
        if min(height, width) < (dataset.side or 0):
            return None
        size = (height, width) if dataset.side is None else (dataset.side, dataset.side)
        if refiner.windows is None:
            return _Outline(size, None)
        hole = dataset.hole(index, size)
    except Exception:  # whatever it is will be told when its turn comes
        return None
    return _Outline((hole.shape[0], hole.shape[1]), torch.from_numpy(hole).float()[None, None])
