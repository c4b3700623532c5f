"""Windows: the parts of a level that have a hole, with the context that the network is given around it.

Far from the hole a level costs as much as near it, although nothing of it is used. A window is a rectangle of the level
around a hole; its guide is the same rectangle of the coarser result, so that structure still comes from the whole
picture. A network that sees the whole image predicts something else in a window: it sees less, at a size nearer to that
of its training.
"""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refine.core.backbone import FrontRear
from refine.core.types import Level, LevelResult
from refine.core.window import Window

Groups = Sequence[Sequence[Window]]
WORTH = 0.7  # share of a level's area that its windows may have together; more saves too little


@dataclass(frozen=True)
class Windows:
    """Chooses the windows of the levels.

    Args:
        largest: Largest side of a window, px of the level; a hole that needs more is covered by several windows that
            overlap by the context. None: one window for each hole, whatever its size.
        context: Width of what a window shows around its hole, px of the level, >= 1.

    Raises:
        ValueError: For values outside these ranges, or a largest side without room for a hole between the contexts.
    """

    largest: int | None
    context: int

    def __post_init__(self) -> None:
        if self.context < 1:
            raise ValueError(f"refiner.context must be at least 1 px; got {self.context}.")
        if self.largest is not None and self.largest <= 2 * self.context:
            raise ValueError(
                f"refiner.window={self.largest} px leaves no room for a hole between {self.context} px of context on "
                f"each side; set at least refiner.window={2 * self.context + 1}, or a smaller refiner.context."
            )

    @classmethod
    def of(cls, window: Any, context: int | None, backbone: FrontRear) -> "Windows | None":
        """From the settings ``refiner.window`` and ``refiner.context``; None where levels are refined as a whole.

        Args:
            window: ``auto``, the largest side of a window, px, or None.
            context: Width of the context, px; None for half the native size.
            backbone: Network that fills the windows.

        Raises:
            ValueError: If a setting makes no sense, or the network cannot fill a part of a photo by itself.
        """
        if window is None:
            return None
        if window != "auto" and (isinstance(window, bool) or not isinstance(window, int)):
            raise ValueError(f"refiner.window must be auto, a number of px, or null; got {window!r}.")
        if not backbone.fills_parts:
            name = backbone.name or type(backbone).__name__
            raise ValueError(
                f"backbone '{name}' is told of the whole photo in files, and cannot fill a part of it by itself; got "
                f"refiner.window={window}. Set refiner.window=null, or leave the files out."
            )
        context = max(1, backbone.native_size // 2) if context is None else context
        return cls(None if window == "auto" else window, context)

    def cover(self, masks: Sequence[Tensor]) -> list[Groups]:
        """Windows of each level; none where a level is better done as a whole, as the coarsest of several always is.

        Args:
            masks: Mask of each level, coarse to fine, ``(1, 1, h, w)``, 1 = hole.

        Returns:
            For each level groups of windows, each of which covers some holes, on the grid of the next coarser level:
            that of the guide. For a level alone on its own grid.
        """
        if len(masks) == 1:
            return [self._cover(masks[0], masks[0])]
        return [(), *(self._cover(grid, mask) for grid, mask in itertools.pairwise(masks))]

    def _cover(self, grid: Tensor, mask: Tensor) -> Groups:
        height, width = grid.shape[-2:]
        scale = min(height / mask.shape[-2], width / mask.shape[-1])
        context = math.ceil(self.context * scale)
        largest = None if self.largest is None else max(1, math.floor(self.largest * scale))
        groups = [
            [tile for tile in _tiles(box, largest, context) if tile.of(grid).any()] for box in _boxes(grid, context)
        ]
        area = sum(tile.area for tiles in groups for tile in tiles)
        too_large = largest is not None and max(height, width) > largest
        return groups if too_large or area <= WORTH * height * width else ()


def _boxes(mask: Tensor, context: int) -> list[Window]:
    """Windows around the holes, context included; no hole reaches into the window of another."""
    size = (mask.shape[-2], mask.shape[-1])
    cell = (context + 1) // 2  # holes in neighboring cells lie in each other's context
    cells = F.max_pool2d(mask.float(), cell, ceil_mode=True)[0, 0].cpu().numpy()
    count, labels = cv2.connectedComponents((cells > 0).astype(np.uint8), connectivity=8)
    holes = []
    for label in range(1, count):
        rows, columns = np.nonzero(labels == label)
        ends = (rows.min() * cell, columns.min() * cell, (rows.max() + 1) * cell, (columns.max() + 1) * cell)
        around = Window(*map(int, ends)).grown(0, size)
        hole = around.of(mask)[0, 0] > 0
        (top, bottom), (left, right) = _ends(hole.any(1)), _ends(hole.any(0))
        holes.append(Window(around.top + top, around.left + left, around.top + bottom, around.left + right))
    return [hole.grown(context, size) for hole in _merged(holes, context, size)]


def _ends(filled: Tensor) -> tuple[int, int]:
    index = filled.nonzero()
    return int(index[0]), int(index[-1]) + 1


def _merged(holes: list[Window], context: int, size: tuple[int, int]) -> list[Window]:
    """Join holes of which one lies in the other's context, and those for which one window is smaller than two."""

    def belong(first: Window, second: Window) -> bool:
        a, b, both = (hole.grown(context, size) for hole in (first, second, first.joined(second)))
        return a.meets(second) or b.meets(first) or both.area <= a.area + b.area

    separate: list[Window] = []
    for hole in holes:
        while near := next((other for other in separate if belong(hole, other)), None):
            separate.remove(near)
            hole = hole.joined(near)
        separate.append(hole)
    return separate


def _tiles(box: Window, largest: int | None, overlap: int) -> Iterator[Window]:
    """Windows of at most ``largest`` px a side that cover a box and overlap each other."""
    for top, bottom in _intervals(box.top, box.bottom, largest, overlap):
        for left, right in _intervals(box.left, box.right, largest, overlap):
            yield Window(top, left, bottom, right)


def _intervals(start: int, end: int, largest: int | None, overlap: int) -> list[tuple[int, int]]:
    if largest is None or end - start <= largest:
        return [(start, end)]
    count = math.ceil((end - start - overlap) / (largest - overlap))
    firsts = [start + round(i * (end - start - largest) / (count - 1)) for i in range(count)]
    return [(first, first + largest) for first in firsts]


def in_windows(level: Level, guide: Tensor, refine: Callable[[Window, Tensor], LevelResult]) -> LevelResult:
    """Refine a level window by window.

    Where windows of one group overlap, their predictions are blended: each fades towards the edge that it shares.

    Args:
        level: Level with windows, not padded.
        guide: Composited result of the next coarser level, ``(1, 3, h, w)``; of a level alone its own image.
        refine: Function of a window, px of the level, and the guide's part in it, that refines this part.

    Returns:
        The result of the level. Its losses are the mean over windows, weighted by their compared pixels; ``updates``
        and ``kept`` are the largest, ``kept`` -1 where some window has no finite iterate.
    """
    start = time.perf_counter()
    size = (guide.shape[-2], guide.shape[-1])
    prediction = level.image.clone()
    parts: list[LevelResult] = []
    holes: list[int] = []
    for tiles in level.windows:
        windows = [tile.scaled(size, level.size) for tile in tiles]
        box = functools.reduce(Window.joined, windows)
        total = torch.zeros_like(box.of(prediction))
        weights = torch.zeros_like(total[:, :1])
        for tile, window in zip(tiles, windows, strict=True):
            part = refine(window, tile.of(guide))
            inside, weight = window.moved(-box.top, -box.left), _fading(window, windows).to(total)
            inside.of(total).add_(part.prediction * weight)
            inside.of(weights).add_(weight)
            parts.append(part)
            holes.append(int(window.of(level.mask).sum()))
        box.of(prediction).copy_(torch.where(weights > 0, total / weights, box.of(prediction)))
    return _joined(level, prediction, parts, holes, start)


def _fading(window: Window, windows: Sequence[Window]) -> Tensor:
    """Weights ``(h, w)`` of a window: 1 inside, linear towards its edges over the overlap with its neighbors."""
    column = [other for other in windows if (other.left, other.right) == (window.left, window.right)]
    row = [other for other in windows if (other.top, other.bottom) == (window.top, window.bottom)]
    down = _ramp(window.top, window.bottom, [(other.top, other.bottom) for other in column])
    across = _ramp(window.left, window.right, [(other.left, other.right) for other in row])
    return down[:, None] * across


def _ramp(first: int, last: int, neighbors: Sequence[tuple[int, int]]) -> Tensor:
    before = max((end - first for start, end in neighbors if start < first), default=0)
    after = max((last - start for start, end in neighbors if end > last), default=0)
    position = torch.arange(last - first) + 0.5
    rising = position / before if before > 0 else torch.ones_like(position)
    falling = (last - first - position) / after if after > 0 else torch.ones_like(position)
    return torch.minimum(rising, falling).clamp(max=1)


def _joined(
    level: Level, prediction: Tensor, parts: Sequence[LevelResult], holes: Sequence[int], start: float
) -> LevelResult:
    """The result of a level from those of its windows and the pixels of their holes."""
    kept = [int(part.kept) for part in parts]
    compared = [float(part.guided_fraction) * hole for part, hole in zip(parts, holes, strict=True)]
    length = max(len(part.losses) for part in parts)
    losses = torch.zeros(length, dtype=torch.float64)
    weights = compared if any(compared) else holes  # a loss of known pixels alone compares none with the guide
    for weight, part in zip(weights, parts, strict=True):
        if len(part.losses):
            last = part.losses[-1:].expand(length - len(part.losses), 1)
            losses += weight / sum(weights) * torch.cat([part.losses, last])[:, 0]
    return LevelResult.of(
        level,
        prediction,
        start,
        losses.tolist(),
        kept=min(kept) if min(kept) < 0 else max(kept),
        guided_fraction=sum(compared) / max(1, sum(holes)),
        skipped=all(bool(part.skipped) for part in parts),
    )
