"""Early stop on the default preset: updates saved, and what they would have bought.

    python scripts/early_stop.py photos=kodak,urban count=24 side=256 tolerances=0,0.005,0.01,0.02,0.05

A tolerance only ends the sequence of updates earlier: where the pyramid refines one level, one run per photo holds the
results of all tolerances, and each is read off its iterates by the rules of :mod:`refine.core.history`. Photos with
more refined levels are refused (there, a level's result is the next one's guide): use scripts/arms.py.

Options as of scripts/arms.py, and ``tolerances=`` in place of ``arms=``.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any

import arms
import torch
from options import read
from torch import Tensor

import refine
from refine.core.history import OptimizationHistory
from refine.core.types import Step
from refine.metrics.image import psnr, ssim

Seen = list[tuple[float, Tensor, float]]  # per step: loss, prediction, seconds since the refinement began


def _watched(refiner: refine.Refiner, image: Tensor, mask: Tensor) -> tuple[refine.Refinement, Seen]:
    seen: Seen = []
    start = time.process_time()

    def note(step: Step) -> None:
        seen.append((step.loss, step.prediction(), time.process_time() - start))

    return refiner(image, mask, on_step=note), seen


def _stopped(seen: Seen, tolerance: float, keep: str) -> tuple[Tensor, int, float]:
    """The prediction a tolerance ends with, its updates and its seconds."""
    iterates = OptimizationHistory(keep)
    for loss, prediction, _ in seen:
        if not iterates.add(loss, prediction) or iterates.settled(tolerance):
            break
    updates = len(iterates.losses) - 1
    return iterates.chosen(lambda: seen[0][1])[0], updates, seen[updates][2]


def _rows(options: dict[str, Any], tolerances: list[str]) -> Iterator[dict[str, Any]]:
    """One row per photo and tolerance."""
    torch.set_num_threads(int(options["threads"]) or torch.get_num_threads())
    refiner = arms.load("", options)
    for photo in arms.photos(options):
        image, mask = arms.scene(photo, options)
        result, seen = _watched(refiner, image, mask)
        if len(result.levels) != 2:
            raise SystemExit(f"{photo}: {len(result.levels) - 1} refined levels; give a side= that leads to one.")
        for tolerance in tolerances:
            prediction, updates, seconds = _stopped(seen, float(tolerance), refiner.keep)
            filled = torch.where(mask > 0, prediction.clamp(0, 1), image)
            if float(tolerance) == 0 and not torch.equal(filled, result.image):
                raise SystemExit(f"{photo}: the iterates do not lead to the refiner's own result.")
            row = {"photo": photo.name, "arm": f"tolerance={tolerance}", "seconds": seconds, "updates": updates}
            row |= {"psnr_hole": float(psnr(filled, image, mask)), "ssim_hole": float(ssim(filled, image, mask))}
            yield row | arms.to_control(filled, result.image, mask)


def main(arguments: list[str]) -> None:
    """Measure and print the table.

    Args:
        arguments: ``key=value`` each.
    """
    options = read({**arms.DEFAULTS, "tolerances": "0,0.005,0.01,0.02,0.05"}, arguments, arms.NEEDED)
    rows = arms.noted(_rows(options, options["tolerances"].split(",")), options)
    print(arms.report(rows, options))


if __name__ == "__main__":
    main(sys.argv[1:])
