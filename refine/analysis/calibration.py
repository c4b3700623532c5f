"""Memory and seconds of a refinement, predicted from two small measurements on this machine.

They follow straight lines in the pixels that the network is given at once. That holds for networks whose cost is linear
in the pixels, as convolutions and Fourier transforms nearly are; attention over all pixels is not.
"""

import copy
import math
import operator
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from refine.analysis.peak_memory import MIB, peak, resident, restart_peak
from refine.analysis.plan import LevelPlan, padded, plan_levels
from refine.core.refiner import Refiner
from refine.core.windows import Windows

# Per pixel of the image at full size, measured with small holes in photos of 24 and 50 MP:
ENGINE_BYTES = 52  # what the engine keeps of it besides the network's work
RUN_BYTES = 12  # what reading, scoring and writing add to that at the peak
SIDES = (256, 768)  # px, of the squares that are measured; what a process's heap keeps varies by a tenth at either
UPDATES = 2  # of the first run of a measurement
SMALL = 32  # px, of a small hole and of what a window shows around it


@dataclass(frozen=True)
class Calibration:
    """Straight lines in the megapixels ``x`` that the network is given at once.

    Attributes:
        mib: Intercept and slope of the memory at its peak during updates, MiB above what the process had before.
        update: Intercept and slope of the seconds of one update.
        forward: Intercept and slope of the seconds of one plain forward pass.
        plain_mib: Intercept and slope of the memory at the peak of forward passes alone, MiB above the same.
        outside: Intercept and slope of the seconds that a level takes outside of its windows, ``x`` of which lie there.
    """

    mib: tuple[float, float]
    update: tuple[float, float]
    forward: tuple[float, float]
    plain_mib: tuple[float, float]
    outside: tuple[float, float] = (0.0, 0.0)

    def memory(self, levels: Sequence[LevelPlan], batch: int = 1) -> float:
        """Predicted peak, MiB above what the process had before.

        Args:
            levels: What is done with an image.
            batch: Number of such images that are refined together.
        """
        largest = batch * max((math.prod(part) for level in levels for part in level.parts), default=0)
        image = batch * math.prod(levels[-1].size)
        line = self.mib if any(level.updates for level in levels) else self.plain_mib
        return _line(line, largest) + (max(0, image - largest) * ENGINE_BYTES + image * RUN_BYTES) / MIB

    def seconds(self, levels: Sequence[LevelPlan]) -> float:
        """Predicted seconds of the refinement, without reading and writing files."""
        inside = sum(
            level.updates * _line(self.update, math.prod(part)) + _line(self.forward, math.prod(part))
            for level in levels
            for part in level.parts
        )
        return inside + _line(self.outside, _outside(levels))


def _outside(levels: Sequence[LevelPlan]) -> int:
    """Pixels of all levels that the network is not given."""
    return sum(max(0, math.prod(level.size) - sum(map(math.prod, level.parts))) for level in levels)


def _line(line: tuple[float, float], pixels: float) -> float:
    return max(0.0, line[0] + line[1] * pixels / 1e6)


def calibrate(refiner: Refiner, sides: tuple[int, int] = SIDES) -> Calibration:
    """Measure a refiner at two small sizes, which takes seconds to minutes; it is not changed.

    Args:
        refiner: Refiner on its device.
        sides: Sides of the two squares, px.
    """
    before = resident(refiner.backbone.device)
    measured = copy.copy(refiner)
    measured.windows, measured.tolerance = None, (0.0,)
    measured.graph = False  # whose memory is that of the updates it was captured from
    memory = []
    for steps in dict.fromkeys((0, max(refiner.steps))):  # first what takes less, since the heap keeps it
        rows = [_measure(measured, padded(refiner, (side, side))[0], steps) for side in sides]
        (intercept, slope), update, forward = (_through(rows, column) for column in (1, 2, 3))
        memory.append((intercept - before, slope))
    lines = Calibration(memory[-1], update, forward, plain_mib=memory[0])
    return replace(lines, outside=(0.0, _measure_outside(measured, 2 * sides[1], lines)))


def _measure_outside(refiner: Refiner, side: int, lines: Calibration) -> float:
    """Seconds per megapixel outside of the windows, for a square with a small hole; 0 for a network without windows."""
    if not refiner.backbone.fills_parts:
        return 0.0
    middle = slice(side // 2, side // 2 + SMALL)
    refiner.windows = Windows(None, SMALL)
    refiner.pyramid = replace(refiner.pyramid, smallest_side=side // 8, factor=2.0, max_levels=None)
    image, mask = torch.full((1, 3, side, side), 0.5), torch.zeros(1, 1, side, side)
    mask[..., middle, middle] = 1
    levels = plan_levels(refiner, (side, side), mask)
    start = time.perf_counter()
    _run(refiner, image, mask)
    return max(0.0, time.perf_counter() - start - lines.seconds(levels)) / max(1, _outside(levels)) * 1e6


def _measure(refiner: Refiner, side: int, most: int) -> tuple[float, float, float, float]:
    """Megapixels, MiB at the peak, seconds of an update and of the rest of a level, for a square with a hole.

    ``most`` is the number of updates that are made at most.
    """
    refiner.pyramid = replace(refiner.pyramid, smallest_side=side // 2, factor=2.0, max_levels=2)
    image, mask = torch.full((1, 3, side, side), 0.5), torch.zeros(1, 1, side, side)
    mask[..., side // 8 : -side // 8, side // 8 : -side // 8] = 1
    updates, rest = list[float](), 0.0
    restart_peak(refiner.backbone.device)
    for steps in (UPDATES, 1):  # the first run at a size makes plans and caches; the heap grows in the second too
        refiner.steps = (min(steps, most),)
        found, rest = _run(refiner, image, mask)
        updates += found
    update = statistics.median(updates) if updates else 0.0  # others may use the machine
    return side * side / 1e6, peak(refiner.backbone.device), update, max(0.0, rest)


def _run(refiner: Refiner, image: Tensor, mask: Tensor) -> tuple[list[float], float]:
    """Seconds of each update of the last level, and of all else at that level."""
    times = list[float]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = refiner(image, mask, on_step=lambda step: times.append(time.perf_counter()))
    updates = list(map(operator.sub, times[1:], times))
    return updates, result.levels[-1].seconds - sum(updates)


def _through(rows: Sequence[tuple[float, ...]], column: int) -> tuple[float, float]:
    """Intercept and slope of the line through two measurements; none falls with the pixels."""
    (x, y), (further_x, further_y) = ((row[0], row[column]) for row in rows)
    slope = max(0.0, (further_y - y) / (further_x - x))
    return y - slope * x, slope
