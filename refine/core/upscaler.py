"""The control that enlarges the coarsest result."""

import time

from torch import Tensor

from refine.core.history import Tell
from refine.core.level_refinement import unrefined
from refine.core.pyramid import enlarge
from refine.core.refiner import Refiner
from refine.core.types import Level, LevelResult, Sample


class Upscaler(Refiner):
    """The control of the paper's Fig. 3: the coarsest result, enlarged and composited, without refinement."""

    def _scales(self, sample: Sample) -> list[tuple[Tensor, Tensor]]:
        scales = super()._scales(sample)
        return scales if len(scales) == 1 else [scales[0], scales[-1]]

    def _refine_level(self, level: Level, guide: Tensor, index: int, tell: Tell | None) -> LevelResult:
        start = time.perf_counter()
        return unrefined(level, enlarge(guide, level.size), start)
