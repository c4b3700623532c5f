"""Who does what, divided so that all processes end at about the same time, and whether all of it was done."""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from refine.core.per_level import at_level
from refine.core.pyramid import padded_side
from refine.core.refiner import Refiner
from refine.data.pairs import Failure, ImageMaskPair
from refine.inference.distributed.coordinator import Coordinator
from refine.inference.run_folder import RunFolder
from refine.io.decode import read_size


def partition_pairs(
    pairs: Sequence[ImageMaskPair], refiner: Refiner, processes: int, side: int | None = None
) -> list[list[str]]:
    """Divide pairs by the cost of their images, of which only the headers are read.

    Args:
        pairs: Image and mask pairs to refine.
        refiner: Refiner, whose steps and pyramid give the cost.
        processes: Number of processes.
        side: If given, every image is made a square of this side, px.

    Returns:
        The keys of each process's pairs. They stand in their given order, in which a process does them: results then
        appear in the order of the folder, and a share takes the same time in any.
    """
    if processes == 1:
        return [[pair.key for pair in pairs]]
    parts = divide([1 if side else _cost_of(pair, refiner) for pair in pairs], processes)
    return [[pairs[index].key for index in part] for part in parts]


def select_pairs(keys: Sequence[str], pairs: Sequence[ImageMaskPair]) -> list[ImageMaskPair]:
    """The pairs of these keys.

    Raises:
        ValueError: If one is missing, since this process does not see the files that rank 0 sees.
    """
    listing = {pair.key: pair for pair in pairs}
    if missing := [key for key in keys if key not in listing]:
        raise ValueError(f"this process does not find '{missing[0]}' in the input; all must see the same files.")
    return [listing[key] for key in keys]


def report_to_rank_zero(coordinator: Coordinator, run_folder: RunFolder, stopped: int) -> None:
    """End of a process other than 0: what it made and what it could not, and the exit status of what stopped it."""
    failures = [astuple(failure) for failure in run_folder.failures]
    coordinator.report({"finished": run_folder.finished, "failures": failures, "stopped": stopped})


def merge_reports(
    reports: Mapping[int, Any], run_folder: RunFolder, shares: Sequence[Sequence[str]], format: str, early: bool
) -> None:
    """Rank 0: put together what all processes did; where one is missing, look what it left.

    Args:
        reports: Reports of the other processes, by rank.
        run_folder: Run folder of rank 0, to which is added.
        shares: Keys that each process was assigned.
        format: Suffix of the results, such as ``png``.
        early: The run was stopped, so that gaps are no failures.
    """
    for rank in range(1, len(shares)):
        end = reports.get(rank, {})
        names = {key: f"{key}.{format}" for key in shares[rank]}
        run_folder.finished |= end["finished"] if "finished" in end else run_folder.made(names.values())
        failures = [Failure(*failure) for failure in end.get("failures", [])]
        failed = {failure.key for failure in failures}
        gaps = [key for key, name in names.items() if name not in run_folder.finished and key not in failed]
        reason = f"has no result: process {rank} {_fate(end)}"
        run_folder.failures += failures + [Failure(key, reason) for key in gaps if not early]


def _fate(end: Mapping[str, Any]) -> str:
    if "error" in end:
        return f"failed ({end['error']})"
    return f"was stopped (status {end['stopped']})" if end.get("stopped") else "died"


def _cost_of(pair: ImageMaskPair, refiner: Refiner) -> int:
    """Nothing for an image that cannot be read: it will fail at once."""
    try:
        with pair.image.open("rb") as stream:
            size = read_size(stream)
    except OSError:
        return 0
    return cost(refiner, size) if min(size) else 0


def cost(refiner: Refiner, size: tuple[int, int]) -> int:
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


def divide(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Share out by cost: the dearest first, each to whoever has the least so far.

    The parts' costs differ by no more than the dearest single item, usually by far less (Graham, "Bounds on
    Multiprocessing Timing Anomalies", 1969). The same costs always give the same parts.

    Args:
        costs: Cost of each item, >= 0.
        parts: Number of parts.

    Returns:
        Of each part its items, as ascending indices into ``costs``.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    least = [(0.0, 0, part) for part in range(parts)]  # by count where costs tie, so that unknown costs divide evenly
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        load, count, part = heapq.heappop(least)
        shares[part].append(index)
        heapq.heappush(least, (load + costs[index], count + 1, part))
    return [sorted(share) for share in shares]
