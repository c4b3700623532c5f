"""The types that all of the project shares, and its conventions for images, masks and levels.

    image, mask -> pyramid -> [per level, coarse to fine: front -> z, optimized so that rear(z) agrees
    with the coarser result -> rear -> composite] -> image

Conventions, stated here and nowhere repeated:

- An *image* is ``float32 (B, 3, H, W)``, RGB in [0, 1].
- A *mask* is ``float32 (B, 1, H, W)`` with values {0, 1}: **1 = hole** (to fill), 0 = known (to keep).
- Levels run **coarse to fine**: index 0 is the smallest.
- A *prediction* is the output of a backbone, raw: on the nominal [0, 1] scale, unclamped and uncomposited.
  Only the Refiner clamps and composites.
- Known pixels come back bit-exact and the output has the size of the input.
- A batch equals its images run alone.
- Everything random is seeded by the sample's key, so two runs give the same file.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from refine.core.composite import composite
from refine.core.window import Window


@dataclass(frozen=True)
class Sample:
    """One image to fill.

    Attributes:
        key: Unique name within a run; seeds everything random that happens to this sample.
        image: Image, ``(B, 3, H, W)``, RGB in [0, 1].
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        source: Data from which the writer makes a file of the result; the engine does not look at it.
        truth: Ground truth, ``(B, 3, H, W)``, for scores; None where it is unknown.
        unknown: Mask, ``(B, 1, H, W)``, of all the network must fill: the hole, and pixels that are fully transparent,
            whose fill is not written; None where that is the hole alone.
        together: Samples of one size that may be refined with this one, itself among them; empty for none.
    """

    key: str
    image: Tensor
    mask: Tensor
    source: Any = None
    truth: Tensor | None = None
    unknown: Tensor | None = None
    together: "tuple[Sample, ...]" = ()

    @property
    def network_mask(self) -> Tensor:
        """Mask that the network is given, ``(B, 1, H, W)``, 1 = unknown."""
        return self.mask if self.unknown is None else self.unknown

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Sample":
        """The same sample on another device."""
        image, mask = (tensor.to(device, non_blocking=non_blocking) for tensor in (self.image, self.mask))
        truth = image if self.truth is self.image else self.truth
        unknown = None if self.unknown is None else self.unknown.to(device, non_blocking=non_blocking)
        return replace(self, image=image, mask=mask, truth=truth, unknown=unknown)


@dataclass(frozen=True)
class Level:
    """One scale of the pyramid.

    Attributes:
        image: ``(B, 3, h, w)``, padded to the backbone's ``multiple_of``.
        mask: ``(B, 1, h, w)``, padded alike, 1 = hole.
        size: True ``(height, width)`` before padding; padding is at the bottom and right.
        conditions: Extra inputs of the backbone at this level; ``{}`` for most.
        windows: Parts of the level that are refined, on the grid of the next coarser level, in groups that each cover
            some holes; then image and mask are not padded. Empty where the level is refined as a whole.
    """

    image: Tensor
    mask: Tensor
    size: tuple[int, int]
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    windows: Sequence[Sequence[Window]] = ()

    @staticmethod
    def stack(levels: Sequence["Level"]) -> "Level":
        """Combine levels of images of one size into one batch.

        Args:
            levels: Levels of one size and scale, with the same names of conditions; only a single one has windows.
        """
        if len(levels) == 1:
            return levels[0]
        conditions = {name: torch.cat([level.conditions[name] for level in levels]) for name in levels[0].conditions}
        image, mask = torch.cat([level.image for level in levels]), torch.cat([level.mask for level in levels])
        return replace(levels[0], image=image, mask=mask, conditions=conditions)

    def alone(self, index: int) -> "Level":
        """One image of the batch, without its conditions.

        Args:
            index: Index of the image.
        """
        one = slice(index, index + 1)
        return replace(self, image=self.image[one], mask=self.mask[one], conditions={})

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
    """One evaluation of the loss, reported to ``on_step`` while a level is refined.

    Attributes:
        level: Index of the level, 0 = coarsest; the first refined one is 1.
        levels: Number of levels.
        step: Updates made so far at this level.
        steps: Updates planned at this level.
        loss: Value of the objective after ``step`` updates.
        prediction: Function that returns the raw prediction, ``(1, 3, h, w)`` at true size, detached.
        image: Index of the image in the batch that the refiner was given.
    """

    level: int
    levels: int
    step: int
    steps: int
    loss: float
    prediction: Callable[[], Tensor]
    image: int = 0


@dataclass(frozen=True)
class LevelResult:
    """The result of one level.

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
        skipped: Bool, ``(B,)``; True where updates were planned but the objective had no pixel to compare, so that
            the level keeps the plain prediction.
        seconds: Wall time spent at this level.
    """

    prediction: Tensor
    image: Tensor
    losses: Tensor
    updates: Tensor
    kept: Tensor
    guided_fraction: Tensor
    skipped: Tensor
    seconds: float

    @staticmethod
    def of(
        level: Level,
        prediction: Tensor,
        start: float,
        losses: Sequence[float] = (),
        kept: int = 0,
        guided_fraction: float = 0.0,
        skipped: bool = False,
        batch: int = 1,
    ) -> "LevelResult":
        """The result of one level of one image; the defaults are those of a level that is not refined.

        Args:
            level: Level that was worked on.
            prediction: Raw prediction at the level's true size, ``(1, 3, h, w)``.
            start: Value of ``time.perf_counter`` when the level began, seconds.
            losses: Loss after 0, 1, 2 ... updates.
            kept: Number of updates behind the prediction.
            guided_fraction: Share of the hole that is compared with the guide, in [0, 1].
            skipped: Whether updates were planned but there was no pixel to compare.
            batch: Number of images that were refined together, which share the time.
        """
        return LevelResult(
            prediction=prediction,
            image=composite(prediction, level.crop(level.image), level.crop(level.mask)),
            losses=torch.tensor(losses, dtype=torch.float64).unsqueeze(1),
            updates=torch.tensor([max(0, len(losses) - 1)]),
            kept=torch.tensor([kept]),
            guided_fraction=torch.tensor([guided_fraction], dtype=torch.float32),
            skipped=torch.tensor([skipped]),
            seconds=(time.perf_counter() - start) / batch,
        )

    def alone(self, index: int) -> "LevelResult":
        """The result of one image of the batch: undoes :meth:`stack`.

        Args:
            index: Index of the image.
        """
        one = slice(index, index + 1)
        names = ("prediction", "image", "updates", "kept", "guided_fraction", "skipped")
        tensors = {name: getattr(self, name)[one] for name in names}
        losses = self.losses[: int(self.updates[index]) + 1, one]
        compared = int(self.kept[index]) < 0 or not bool(losses.isnan().all())  # not finite, or nothing to compare
        return LevelResult(**tensors, losses=losses if compared else losses[:0], seconds=self.seconds / len(self.kept))

    @staticmethod
    def stack(results: Sequence["LevelResult"]) -> "LevelResult":
        """Combine the results of images at one level into one batch.

        Args:
            results: Results of one size, each of one image.
        """
        return results[0] if len(results) == 1 else _stack_level(results)


@dataclass(frozen=True)
class Refinement:
    """The result of refining a batch.

    Attributes:
        image: ``(B, 3, H, W)`` in [0, 1], at the size of the input; known pixels are bit-exact.
        levels: One result per level, coarse to fine.
    """

    image: Tensor
    levels: tuple[LevelResult, ...]

    @property
    def nothing_refined(self) -> bool:
        """Whether updates were planned but an image of the batch was skipped at all of its levels."""
        return any(self.unrefined)

    @property
    def unrefined(self) -> list[bool]:
        """For each image whether updates were planned but it was skipped at all of its levels."""
        skipped = [level.skipped for level in self.levels[1:]]
        return torch.stack(skipped).all(0).tolist() if skipped else [False] * self.image.shape[0]

    def alone(self, index: int) -> "Refinement":
        """The result of one image of the batch.

        Args:
            index: Index of the image.
        """
        one = slice(index, index + 1)
        return Refinement(self.image[one], tuple(level.alone(index) for level in self.levels))

    @staticmethod
    def stack(refined: Sequence["Refinement"]) -> "Refinement":
        """Combine images that were refined alone into one batch.

        Args:
            refined: Results with the same number of levels and the same sizes.
        """
        if len(refined) == 1:
            return refined[0]
        levels = tuple(
            LevelResult.stack(results) for results in zip(*(result.levels for result in refined), strict=True)
        )
        return Refinement(torch.cat([result.image for result in refined]), levels)


def _stack_level(results: Sequence[LevelResult]) -> LevelResult:
    length = max(result.losses.shape[0] for result in results)

    def extended(losses: Tensor) -> Tensor:
        """Repeat the last loss; where nothing was compared there is none, and NaN says so."""
        last = losses[-1:] if losses.shape[0] else losses.new_full((1, 1), math.nan)
        return torch.cat([losses, last.expand(length - losses.shape[0], 1)])

    tensors = {
        name: torch.cat([getattr(result, name) for result in results])
        for name in ("prediction", "image", "updates", "kept", "guided_fraction", "skipped")
    }
    losses = torch.cat([extended(result.losses) for result in results], dim=1)
    return LevelResult(**tensors, losses=losses, seconds=sum(result.seconds for result in results))
