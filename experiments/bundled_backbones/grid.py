"""Does a network draw a grid with the period of its stride into large holes?

    python experiments/bundled_backbones/grid.py <photos> 256 backbone=small "backbone=lama backbone.weights=<file>"

Each photo, cut to a square, gets a square hole of half its side; the network fills it without refinement. Of the middle
of the fill (3/8 of the side, Hann window, luma) the power at a period of 8 px, across, down and diagonally, is divided
by the power at the neighboring periods. Without a grid the ratio is near 1; the truth's is printed too.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from experiments.measured import photos_of, square
from refine import load
from refine.core.types import Level
from refine.io.picture import luma
from refine.metrics.bootstrap import interval

PERIOD = 8  # px


def ratio(fill: Tensor) -> float:
    """Power at the period over that of its neighbors.

    Args:
        fill: Part of a fill, ``(3, n, n)`` in [0, 1]; ``n`` is a multiple of 8.
    """
    side = fill.shape[-1]
    window = torch.hann_window(side)
    light = torch.from_numpy(luma(fill.numpy()))
    power = torch.fft.fft2((light - light.mean()) * window * window[:, None]).abs() ** 2
    k = side // PERIOD

    def at(row: int, column: int) -> Tensor:
        return power[row % side, column % side]

    grid = torch.stack([at(k, 0), at(0, k), at(k, k), at(k, -k)])
    # Neighbors lie 3 frequencies away: the window blurs by 1.
    near = [at(n, 0) + at(0, n) + at(n, n) + at(n, -n) for n in (k - 3, k + 3)]
    return (grid.sum() / torch.stack(near).mean()).item()


def main(folder: str, side: int, arms: list[str]) -> None:
    """Print the ratio of each network.

    Args:
        folder: Folder of the photos.
        side: Side of the squares, in px, a multiple of 64.
        arms: Settings of each network, separated by spaces.
    """
    photos = [square(file, side) for file in photos_of(folder)]
    hole = torch.zeros(1, 1, side, side)
    hole[..., side // 4 : -side // 4, side // 4 : -side // 4] = 1
    part = slice(5 * side // 16, 11 * side // 16)
    ratios = {"truth": [ratio(photo[0, :, part, part]) for photo in photos]}
    for arm in arms:
        backbone = load(*arm.split()).backbone
        with torch.inference_mode():
            fills = [backbone.whole(Level(photo, hole, (side, side)))[0] for photo in photos]
        ratios[arm] = [ratio(fill[:, part, part]) for fill in fills]
    print(f"| network | power at {PERIOD} px over its neighbors: geometric mean [95 %] | median | above 4 |")
    print("|---|---:|---:|---:|")
    for name, values in ratios.items():
        logs = np.log(values)
        mean, low, high = np.exp([logs.mean(), *interval(logs)])
        above = np.mean(np.array(values) > 4)
        print(f"| {name} | {mean:.2f} [{low:.2f}, {high:.2f}] | {np.median(values):.2f} | {above:.0%} |")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
