"""The words and conventions every other file relies on.

    image, mask -> pyramid -> [per level, coarse to fine: front -> z, optimized so that rear(z) agrees
    with the coarser result -> rear -> composite] -> image

Conventions, stated here and nowhere repeated:

- An *image* is ``float32 (B, 3, H, W)``, RGB in [0, 1].
- A *mask* is ``float32 (B, 1, H, W)`` with values {0, 1}: **1 = hole** (to fill), 0 = known (to keep).
- Levels run **coarse to fine**: index 0 is the smallest.
- A *prediction* is what a backbone says, raw: on the nominal [0, 1] scale, unclamped and uncomposited.
  Only the Refiner clamps and composites.
- Known pixels come back bit-exact and the output has the size of the input.
- A batch equals its images run alone.
- Everything random is seeded by the sample's key, so two runs give the same file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One image to fill, as the predict loop hands it on.

    Attributes:
        key: Unique name within a run; seeds everything random that happens to this sample.
        image: ``(B, 3, H, W)`` RGB in [0, 1].
        mask: ``(B, 1, H, W)`` with 1 = hole.
        source: What the writer needs to make a file of the result; opaque to the engine.
    """

    key: str
    image: Tensor
    mask: Tensor
    source: Any = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Sample":
        """The same sample on another device (the hook by which Lightning moves batches)."""
        move = {"device": device, "non_blocking": non_blocking}
        return replace(self, image=self.image.to(**move), mask=self.mask.to(**move))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Level:
    """One scale of the pyramid.

    Attributes:
        image: ``(B, 3, h, w)``, padded to the backbone's ``multiple_of``.
        mask: ``(B, 1, h, w)``, padded alike, 1 = hole.
        size: True ``(height, width)`` before padding; padding is at the bottom and right.
        conditions: Extra inputs of the backbone at this level; ``{}`` for most.
    """

    image: Tensor
    mask: Tensor
    size: tuple[int, int]
    conditions: Mapping[str, Tensor] = field(default_factory=dict)

    def crop(self, padded: Tensor) -> Tensor:
        """Cut the padding off a tensor ``(..., h, w)`` of this level."""
        height, width = self.size
        return padded[..., :height, :width]


@dataclass(frozen=True)
class Features:
    """What crosses the cut between front and rear.

    Attributes:
        z: Tensors that may be optimized, by layer name.
        context: Everything else the rear needs (skips, styles), constant; owned by the adapter that made it.
    """

    z: dict[str, Tensor]
    context: Any = None


@dataclass(frozen=True)
class Step:
    """One evaluation of the loss, told to ``on_step`` while a level is refined.

    Attributes:
        level: Index of the level, 0 = coarsest; the first refined one is 1.
        levels: Number of levels.
        step: Updates made so far at this level.
        steps: Updates planned at this level.
        loss: Value of the objective after ``step`` updates.
        prediction: Call it for the raw prediction ``(1, 3, h, w)`` at true size, detached.
    """

    level: int
    levels: int
    step: int
    steps: int
    loss: float
    prediction: Callable[[], Tensor]


@dataclass(frozen=True)
class LevelResult:
    """What happened at one level.

    Attributes:
        prediction: ``(B, 3, h, w)`` raw prediction at the level's true size.
        image: ``(B, 3, h, w)`` the prediction clamped and composited with the level's known pixels; the guide
            of the next finer level.
        losses: ``(updates + 1, B)``; ``losses[k]`` is the loss after k updates, the last value repeats where an
            image stopped early. ``(0, B)`` at the coarsest level and where nothing could be compared.
        updates: ``(B,)`` updates made.
        kept: ``(B,)`` number of updates behind ``prediction``. Less than ``updates`` where the loss rose or became
            non-finite and the best iterate was kept; -1 where no iterate was finite and the guide was enlarged.
        guided_fraction: ``(B,)`` share of the level's hole in which the objective compares with the guide.
        seconds: Wall time spent at this level.
    """

    prediction: Tensor
    image: Tensor
    losses: Tensor
    updates: Tensor
    kept: Tensor
    guided_fraction: Tensor
    seconds: float


@dataclass(frozen=True)
class Refinement:
    """The result of refining a batch.

    Attributes:
        image: ``(B, 3, H, W)`` in [0, 1], at the size of the input; known pixels are bit-exact.
        levels: One result per level, coarse to fine.
    """

    image: Tensor
    levels: tuple[LevelResult, ...]
