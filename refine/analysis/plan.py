"""What refining an image will take, before it is done: levels, windows, memory and seconds.

Memory and seconds follow straight lines in the pixels that the network is given at once, measured at two small sizes
on this machine (:class:`Calibration`). They hold for networks whose cost is linear in the pixels, as convolutions and
Fourier transforms nearly are; attention over all pixels is not.
"""

import contextlib
import copy
import json
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from refine import __version__
from refine.analysis.peak_memory import MIB, peak, resident, restart_peak
from refine.core.devices import machine_name
from refine.core.memory import OutOfMemory, exact_ways, fastest_way
from refine.core.per_level import at_level
from refine.core.pyramid import padded_side
from refine.core.refiner import Refiner
from refine.core.windows import Groups
from refine.io.files import hash_settings, write_atomic
from refine.weights.download import cache_folder

# Per pixel of the image at full size, measured with small holes in photos of 24 and 50 MP:
ENGINE_BYTES = 52  # what the engine keeps of it besides the network's work
RUN_BYTES = 12  # what reading, scoring and writing add to that at the peak
SIDES = (256, 512)  # px, of the squares that are measured
UPDATES = 2  # of each measurement
SMALLEST_CONTEXT = 16  # px, of the smallest window that is worth naming


@dataclass(frozen=True)
class LevelPlan:
    """What is done at one level.

    Attributes:
        size: True ``(height, width)``, px.
        parts: Padded ``(height, width)`` of what the network is given: the level, or its windows; empty for no hole.
        updates: Updates of each part.
    """

    size: tuple[int, int]
    parts: tuple[tuple[int, int], ...]
    updates: int


@dataclass(frozen=True)
class Calibration:
    """Straight lines in the megapixels ``x`` that the network is given at once.

    Attributes:
        mib: Intercept and slope of the memory at its peak, MiB above what the process had before.
        update: Intercept and slope of the seconds of one update.
        forward: Intercept and slope of the seconds of one plain forward pass.
    """

    mib: tuple[float, float]
    update: tuple[float, float]
    forward: tuple[float, float]

    def memory(self, levels: Sequence[LevelPlan], batch: int = 1) -> float:
        """Predicted peak, MiB above what the process had before.

        Args:
            levels: What is done with an image.
            batch: Number of such images that are refined together.
        """
        largest = batch * max((math.prod(part) for level in levels for part in level.parts), default=0)
        image = batch * math.prod(levels[-1].size)
        return _line(self.mib, largest) + (max(0, image - largest) * ENGINE_BYTES + image * RUN_BYTES) / MIB

    def seconds(self, levels: Sequence[LevelPlan]) -> float:
        """Predicted seconds of the refinement, without reading and writing files."""
        return sum(
            level.updates * _line(self.update, math.prod(part)) + _line(self.forward, math.prod(part))
            for level in levels
            for part in level.parts
        )


def _line(line: tuple[float, float], pixels: float) -> float:
    return max(0.0, line[0] + line[1] * pixels / 1e6)


def plan_levels(refiner: Refiner, size: tuple[int, int], mask: Tensor | None = None) -> list[LevelPlan]:
    """What a refiner will do with an image.

    Args:
        refiner: Refiner, whose settings decide.
        size: ``(height, width)`` of the image, px.
        mask: Mask, ``(1, 1, H, W)``, 1 = hole; needed only for windows. Without it levels are taken whole.

    Returns:
        The levels, coarse to fine. Updates that an early stop or a thin hole will save are counted.
    """
    sizes = refiner.pyramid.sizes(*size)
    cover: list[Groups] = [()] * len(sizes)
    if refiner.windows is not None and mask is not None:
        cover = refiner.windows.cover(refiner.pyramid.masks(mask))
    levels = []
    for index, (level, groups) in enumerate(zip(sizes, cover, strict=True)):
        grid = sizes[max(0, index - 1)]
        windows = [window.scaled(grid, level).size for group in groups for window in group]
        parts = tuple(_padded(refiner, part) for part in windows or [level])
        levels.append(LevelPlan(level, parts, at_level(refiner.steps, index) if index else 0))
    return levels


def work(levels: Sequence[LevelPlan]) -> float:
    """What a plan takes where the machine was not measured, so that images can be compared.

    One pass through the network at the coarsest level; at a refined one the front, the final prediction, and two per
    update, since a frozen network's backward pass costs about a forward pass.

    Args:
        levels: Levels of an image, coarse to fine.

    Returns:
        Pixels times passes; only ratios mean anything.
    """
    passes = [1 if index == 0 else 2 + 2 * level.updates for index, level in enumerate(levels)]
    return sum(count * math.prod(part) for count, level in zip(passes, levels, strict=True) for part in level.parts)


def _padded(refiner: Refiner, size: tuple[int, int]) -> tuple[int, int]:
    backbone = refiner.backbone
    height, width = (padded_side(side, backbone.multiple_of, backbone.minimum_side) for side in size)
    return height, width


def calibrate(refiner: Refiner) -> Calibration:
    """Measure a refiner at two small sizes, which takes seconds to minutes; it is not changed.

    Args:
        refiner: Refiner on its device.
    """
    before = resident(refiner.backbone.device)
    measured = copy.copy(refiner)
    measured.windows, measured.tolerance = None, (0.0,)
    measured.graph = False  # whose memory is that of the updates it was captured from
    measured.steps = (UPDATES if any(refiner.steps) else 0,)
    rows = [_measure(measured, _padded(refiner, (side, side))[0]) for side in SIDES]
    (intercept, slope), update, forward = (_through(rows, column) for column in (1, 2, 3))
    return Calibration((intercept - before, slope), update, forward)


def _measure(refiner: Refiner, side: int) -> tuple[float, float, float, float]:
    """Megapixels, MiB at the peak, seconds of an update and of the rest of a level, for a square with a hole."""
    refiner.pyramid = replace(refiner.pyramid, smallest_side=side // 2, factor=2.0, max_levels=2)
    image, mask = torch.full((1, 3, side, side), 0.5), torch.zeros(1, 1, side, side)
    mask[..., side // 8 : -side // 8, side // 8 : -side // 8] = 1
    device, times = refiner.backbone.device, list[float]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refiner(image, mask)  # the first run at a size makes plans and caches
        restart_peak(device)
        result = refiner(image, mask, on_step=lambda step: times.append(time.perf_counter()))
    updating = times[-1] - times[0]
    update = updating / max(1, len(times) - 1)
    return side * side / 1e6, peak(device), update, result.levels[-1].seconds - updating


def _through(rows: Sequence[tuple[float, ...]], column: int) -> tuple[float, float]:
    """Intercept and slope of the line through two measurements; none falls with the pixels."""
    (x, y), (further_x, further_y) = ((row[0], row[column]) for row in rows)
    slope = max(0.0, (further_y - y) / (further_x - x))
    return y - slope * x, slope


def calibration(refiner: Refiner, threads: int, again: bool = False, folder: Path | None = None) -> Calibration:
    """The calibration of a refiner on this machine, measured once and kept in the cache.

    Args:
        refiner: Refiner on its device.
        threads: Threads of the CPU that are used.
        again: Measure even if there is one.
        folder: Cache folder; None for the user's.
    """
    file = _calibration_file(refiner, threads, folder)
    if not again and (known := _read(file)):
        return known
    found = calibrate(refiner)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps(asdict(found)).encode(), file.parent)
    return found


def known_calibration(refiner: Refiner, threads: int, folder: Path | None = None) -> Calibration | None:
    """The calibration of a refiner if the cache has it; nothing is measured.

    Args:
        refiner: Refiner on its device.
        threads: Threads of the CPU that are used.
        folder: Cache folder; None for the user's.
    """
    return _read(_calibration_file(refiner, threads, folder))


def _read(file: Path) -> Calibration | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Calibration(**{key: tuple(line) for key, line in json.loads(file.read_text()).items()})
    return None


def _calibration_file(refiner: Refiner, threads: int, folder: Path | None) -> Path:
    decides = {
        "refine": __version__,
        "machine": machine_name(refiner.backbone.device),
        "threads": threads,
        "backbone": refiner.backbone.fingerprint(),
        "refiner": [
            refiner.precision,
            refiner.rules,
            refiner.gradient_checkpointing,
            bool(refiner.compiled),
            refiner.backbone.strips,
        ],
        "optimize": [refiner.optimize, any(refiner.steps)],
    }
    return (folder or cache_folder()) / "calibration" / f"{hash_settings(decides)}.json"


def calibrated_ways(
    refiner: Refiner, threads: int, again: bool = False, limited: bool = True
) -> list[tuple[str, Refiner, Calibration]]:
    """The ways to the same pixels, the fastest first, each with its calibration; see :mod:`refine.core.memory`.

    Args:
        refiner: Refiner on its device.
        threads: Threads of the CPU that are used.
        again: Measure even what is in the cache.
        limited: Whether a limit of the memory will choose; else the refiner itself comes first.
    """
    ways = exact_ways(fastest_way(refiner) if limited else refiner)
    return [(name, way, calibration(way, threads, again)) for name, way in ways]


@dataclass(frozen=True)
class ImagePlan:
    """How an image is refined, and what that takes.

    Attributes:
        setting: Setting that the way stands for; empty for the refiner as it is configured.
        refiner: Refiner that does it.
        levels: What is done at each level, coarse to fine.
        mib: Predicted peak, MiB, with what the process had before.
        seconds: Predicted seconds of the refinement.
    """

    setting: str
    refiner: Refiner
    levels: Sequence[LevelPlan]
    mib: float
    seconds: float


class MemoryLimit:
    """Chooses, image by image, the first way to refine it that is predicted to fit.

    Args:
        mib: Memory that may be used, MiB: of the whole process on a CPU, of tensors on a GPU.
        ways: The refiner and its like with less memory, each with the setting that it stands for, and calibration.
        before: Memory that the process has already, MiB.
    """

    def __init__(self, mib: float, ways: Sequence[tuple[str, Refiner, Calibration]], before: float) -> None:
        self.mib, self.ways, self.before = mib, ways, before

    def choose(self, size: tuple[int, int], mask: Tensor | None = None, batch: int = 1) -> ImagePlan:
        """The way for an image, or for several of one size that are refined together.

        Args:
            size: ``(height, width)``, px.
            mask: Mask, ``(1, 1, H, W)``, for windows.
            batch: Number of images.

        Raises:
            OutOfMemory: If none fits; the message has the smallest setting that would.
        """
        levels = plan_levels(self.ways[0][1], size, mask)  # all ways make the same pixels, so the same levels
        for name, refiner, lines in self.ways:
            needed = self.before + lines.memory(levels, batch)
            if needed <= self.mib:
                return ImagePlan(name, refiner, levels, needed, lines.seconds(levels))
        raise OutOfMemory(
            f"{size[1]}x{size[0]} px would take {needed:.0f} MiB{' with ' + name if name else ''}, more than "
            f"memory={self.mib:.0f}MiB; {self._advice(refiner, size, lines)}"
        )

    def _advice(self, refiner: Refiner, size: tuple[int, int], lines: Calibration) -> str:
        image = math.prod(size) * (ENGINE_BYTES + RUN_BYTES) / MIB
        least = padded_side(2 * SMALLEST_CONTEXT + 1, refiner.backbone.multiple_of, refiner.backbone.minimum_side)
        slope = max(lines.mib[1] - 1e6 * ENGINE_BYTES / MIB, 1e-9)  # MiB per megapixel of a window
        room = max(0.0, self.mib - self.before - image - lines.mib[0]) / slope * 1e6  # pixels of a window
        side = math.isqrt(int(room)) // refiner.backbone.multiple_of * refiner.backbone.multiple_of
        if side < least:
            smallest = [LevelPlan(size, ((least, least),), 1)]
            needed = math.ceil(self.before + lines.memory(smallest))
            return f"no window is small enough, memory={needed}MiB is the least."
        context = min(refiner.backbone.native_size, (side - 1) // 4)
        return f"refiner.window={side} refiner.context={context} would fit, with other pixels."
