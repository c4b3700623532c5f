"""Who refines which images, so that all processes end at about the same time."""

import heapq
import math
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from refine.core.per_level import at_level
from refine.core.pyramid import padded_side
from refine.core.refiner import Refiner
from refine.data.pairs import ImageMaskPair
from refine.io.decode import read_size


class CostBalancedSampler(Sampler[int]):
    """The images of one process: balanced by cost, none repeated, none padded; there may be none.

    Args:
        costs: Predicted cost of each image, the same list in every process.
        rank: Number of this process, from 0.
        processes: Number of processes.
    """

    def __init__(self, costs: Sequence[float], rank: int = 0, processes: int = 1) -> None:
        self.indices = divide(costs, processes)[rank]

    def __iter__(self) -> Iterator[int]:
        """Indices of the images, ascending: results appear in the order of the folder."""
        return iter(self.indices)

    def __len__(self) -> int:
        """Number of images of this process."""
        return len(self.indices)


def divide(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Divide by cost: the largest first, each to the part that has the least so far.

    The parts' costs differ by no more than the largest single cost, usually by far less (Graham, "Bounds on
    Multiprocessing Timing Anomalies", 1969). The same costs always give the same parts.

    Args:
        costs: Cost of each item, >= 0.
        parts: Number of parts.

    Returns:
        Of each part its items, as ascending indices into ``costs``.
    """
    items: list[list[int]] = [[] for _ in range(parts)]
    least = [(0.0, 0, part) for part in range(parts)]  # by count where costs tie, so that unknown costs divide evenly
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        load, count, part = heapq.heappop(least)
        items[part].append(index)
        heapq.heappush(least, (load + costs[index], count + 1, part))
    return [sorted(part) for part in items]


def predicted_costs(pairs: Sequence[ImageMaskPair], refiner: Refiner, side: int | None = None) -> list[float]:
    """Predicted cost of refining each image, of which only the header is read.

    Args:
        pairs: Image and mask pairs.
        refiner: Refiner, whose steps and pyramid give the cost.
        side: If given, every image is made a square of this side, px.

    Returns:
        Pixels times passes through the network; 0 for an image that cannot be read, which will fail at once.
    """
    return [1.0 if side else _cost_of(pair, refiner) for pair in pairs]


def _cost_of(pair: ImageMaskPair, refiner: Refiner) -> float:
    try:
        with pair.image.open("rb") as stream:
            size = read_size(stream)
    except OSError:
        return 0
    return cost(refiner, size) if min(size) else 0


def cost(refiner: Refiner, size: tuple[int, int]) -> float:
    """What it takes to refine an image, known from its size alone.

    Per level the padded pixels, times the passes through the network: one at the coarsest level; at a refined one the
    front, the final prediction, and two per update, since a frozen network's backward pass costs about a forward pass.
    Updates that an early stop or an empty hole will save are counted; nobody knows them before.

    Args:
        refiner: Refiner, whose steps and pyramid give the cost.
        size: ``(height, width)`` px.

    Returns:
        Pixels times passes; only ratios mean anything.
    """
    sizes = refiner.pyramid.sizes(*size)
    passes = [1] + [2 + 2 * at_level(refiner.steps, index) for index in range(1, len(sizes))]
    multiple, least = refiner.backbone.multiple_of, refiner.backbone.minimum_side
    padded = [math.prod(padded_side(side, multiple, least) for side in level) for level in sizes]
    return sum(count * pixels for count, pixels in zip(passes, padded, strict=True))
