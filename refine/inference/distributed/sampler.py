"""Who refines which images, so that all processes end at about the same time."""

import heapq
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler


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
