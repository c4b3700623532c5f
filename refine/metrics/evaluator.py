"""Evaluation of one result: its scores, those of the plain and the upscaled control, and whether refinement helped.

The controls come from the same run: *plain* is the network's own prediction at full size, *upscaled* the coarsest
result enlarged (the control of the paper's Fig. 3). All three are scored as an 8- or 16-bit file holds them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refine.core.pyramid import enlarge
from refine.core.refiner import Refiner
from refine.core.types import Refinement, Sample
from refine.core.upscaler import Upscaler
from refine.metrics.bootstrap import block_interval
from refine.metrics.image import guide_l1, scores, scores_without_truth
from refine.metrics.seam import seam

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
BLOCKS = 16  # along the longer side: a block should be larger than what neighboring pixels share
FEWEST = 6  # blocks; an interval from fewer would pretend to know


@dataclass(frozen=True)
class Evaluation:
    """What is known of one result.

    Attributes:
        row: Scores without truth by name, those of the controls as ``plain.<score>`` and ``upscaled.<score>``.
        controls: ``plain`` and, where there are several levels, ``upscaled``: ``(1, 3, H, W)``, composited.
    """

    row: Mapping[str, Any]
    controls: Mapping[str, Tensor] = field(default_factory=dict)


class Evaluator:
    """Scores results and their controls.

    Args:
        refiner: Refiner of the results; its network runs once more for ``plain``.
        always: Whether the controls run also where there is no truth.
        further: More scores by name, of image, truth and mask -> ``(1,)``, such as LPIPS.
    """

    def __init__(self, refiner: Refiner, always: bool = False, further: Mapping[str, Score] | None = None) -> None:
        self.factor = refiner.pyramid.factor
        self.always = always
        self.further = dict(further or {})
        pyramid = replace(refiner.pyramid, max_levels=1, padding="symmetric")  # that of the plain prediction
        self.plain = Refiner(refiner.backbone, pyramid, refiner.objective, steps=0, precision=refiner.precision)
        self.plain.windows = refiner.windows  # it has to fit into the same memory
        self._upscaled = Upscaler(
            refiner.backbone, refiner.pyramid, refiner.objective, steps=0, precision=refiner.precision
        )

    def __call__(self, refinement: Refinement, sample: Sample) -> Evaluation:
        """Make the controls of one result, and score what takes no truth.

        Args:
            refinement: Refinement of this sample alone.
            sample: Image and mask, with or without truth.
        """
        row = _numbers(scores_without_truth(refinement, sample.image, sample.network_mask, self.factor))
        if sample.truth is None and not self.always:
            return Evaluation(row)
        controls = self._controls(refinement, sample)
        if len(refinement.levels) > 1:
            guide = refinement.levels[-2].image
            mask = sample.network_mask
            agreement = {name: guide_l1(image, guide, mask, self.factor) for name, image in controls.items()}
            row |= {f"{name}.guide_l1_hole_refine": value for name, value in _numbers(agreement).items()}
        seams = {f"{name}.seam_refine": seam(image, sample.network_mask) for name, image in controls.items()}
        row |= _numbers(seams)
        return Evaluation(row, controls)

    def score_file(self, image: Tensor, sample: Sample, written: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Score a result that was read from its file against the truth; what only refinement knows is left out.

        Args:
            image: Result, ``(1, 3, H, W)`` in [0, 1].
            sample: Image and mask, with truth.
            written: Function of an image ``(1, 3, H, W)`` that gives it as its file holds it, on the CPU.
        """
        controls = self._controls(self._upscaled(sample.image, sample.network_mask, key=sample.key), sample)
        return self.against_truth({"": image, **controls}, sample, written)

    def _controls(self, refinement: Refinement, sample: Sample) -> dict[str, Tensor]:
        if len(refinement.levels) == 1:
            return {"plain": refinement.image}
        return {
            "plain": self.plain(sample.image, sample.network_mask, key=sample.key).image,
            "upscaled": enlarged_into(sample, refinement.levels[0].image),
        }

    def against_truth(
        self, images: Mapping[str, Tensor], sample: Sample, written: Callable[[Tensor], Tensor]
    ) -> dict[str, Any]:
        """Score a result and its controls against the truth, on the CPU alone.

        Args:
            images: Result, named by nothing, and controls by their names, ``(1, 3, H, W)`` each in [0, 1].
            sample: Image and mask, with truth.
            written: Function of an image ``(1, 3, H, W)`` that gives it as its file holds it, on the CPU.
        """
        assert sample.truth is not None
        truth, mask = sample.truth.cpu(), sample.mask.cpu()
        files = {name: written(image) for name, image in images.items()}
        row: dict[str, Any] = {}
        for name, image in files.items():
            values = scores(image, truth, mask)
            values |= {key: score(image, truth, mask) for key, score in self.further.items()}
            row |= {f"{name}.{key}".lstrip("."): value for key, value in _numbers(values).items()}
        return row | verdict(files[""], files["plain"], truth, mask, sample.key)


def enlarged_into(sample: Sample, result: Tensor) -> Tensor:
    """What a coarser level says, enlarged and put into the hole of the sample.

    Args:
        sample: Image and mask.
        result: Result of a level, ``(1, 3, h, w)``.

    Returns:
        ``(1, 3, H, W)`` in [0, 1].
    """
    enlarged = enlarge(result, (sample.image.shape[-2], sample.image.shape[-1]))
    return torch.where(sample.network_mask > 0, enlarged.clamp(0, 1).to(sample.image), sample.image)


def verdict(image: Tensor, plain: Tensor, truth: Tensor, mask: Tensor, key: str) -> dict[str, Any]:
    """Whether a result is nearer to the truth than the plain prediction, and how sure that is.

    The gain is the difference of the PSNRs in the hole. Its interval holds 95 % of what comes out when the blocks of
    the hole are drawn again with replacement (bootstrap): how much the answer hangs on single places of the hole.

    Args:
        image: Result, ``(1, 3, H, W)`` in [0, 1].
        plain: Plain prediction, ``(1, 3, H, W)`` in [0, 1].
        truth: True image, ``(1, 3, H, W)`` in [0, 1].
        mask: Mask, ``(1, 1, H, W)``, 1 = hole.
        key: Name of the sample, which seeds the draws.

    Returns:
        ``verdict`` (better, worse or unsure), ``verdict_gain``, ``verdict_low`` and ``verdict_high`` in dB.
    """
    errors = torch.stack([((prediction - truth) ** 2 * mask).sum(dim=(0, 1)) for prediction in (plain, image)])
    blocks = _blocks(errors.double(), mask[0, 0])
    low, high = block_interval(blocks, _gain, key) if len(blocks) >= FEWEST else (math.nan, math.nan)
    conclusion = "better" if low > 0 else "worse" if high < 0 else "unsure"
    values = {"verdict_gain": float(_gain(blocks.sum(0))), "verdict_low": low, "verdict_high": high}
    return {"verdict": conclusion} | {name: round(value, 4) for name, value in values.items()}


def _blocks(errors: Tensor, mask: Tensor) -> np.ndarray:
    """Sums of ``(2, H, W)`` errors over each block that holds hole, ``(N, 2)``."""
    side = max(1, math.ceil(max(mask.shape) / BLOCKS))
    rows, columns = (torch.arange(length) // side for length in mask.shape)
    index = (rows[:, None] * BLOCKS + columns[None]).flatten()
    sums = torch.zeros(BLOCKS * BLOCKS, 2, dtype=torch.float64).index_add_(0, index, errors.flatten(1).T)
    hole = torch.zeros(BLOCKS * BLOCKS, dtype=torch.float32).index_add_(0, index, mask.flatten().float()) > 0
    return np.asarray(sums[hole].numpy())


def _gain(errors: np.ndarray) -> np.ndarray:
    """DB by which the second of two summed squared errors, ``(..., 2)``, is the better."""
    safe = np.maximum(errors, 1e-12)  # a perfect fill gains much, but not infinitely much
    return np.asarray(10 * np.log10(safe[..., 0] / safe[..., 1]))


def _numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: round(value.item(), 6) for name, value in values.items()}
