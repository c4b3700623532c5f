"""The way to refine an image within a limit of the memory, chosen before it is refined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from refine.analysis.calibration import ENGINE_BYTES, RUN_BYTES, Calibration
from refine.analysis.peak_memory import MIB
from refine.analysis.plan import LevelPlan, padded, plan_levels
from refine.core.memory import OutOfMemory
from refine.core.refiner import Refiner

SMALLEST_CONTEXT = 16  # px, of the smallest window that is worth naming


@dataclass(frozen=True)
class ImagePlan:
    """How an image is refined, and what that takes.

    Attributes:
        setting: Setting that the way stands for; empty for the refiner as it is configured.
        refiner: Refiner that does it.
        levels: What is done at each level, coarse to fine.
        mib: Predicted peak, MiB, with what the process had before.
        seconds: Predicted seconds of the refinement.
    """

    setting: str
    refiner: Refiner
    levels: Sequence[LevelPlan]
    mib: float
    seconds: float


class MemoryLimit:
    """Chooses, image by image, the first way to refine it that is predicted to fit.

    Args:
        mib: Memory that may be used, MiB: of the whole process on a CPU, of tensors on a GPU.
        ways: The refiner and its like with less memory, each with the setting that it stands for, and calibration.
        before: Memory that the process has already, MiB.
    """

    def __init__(self, mib: float, ways: Sequence[tuple[str, Refiner, Calibration]], before: float) -> None:
        self.mib, self.ways, self.before = mib, ways, before

    def choose(self, size: tuple[int, int], mask: Tensor | None = None, batch: int = 1) -> ImagePlan:
        """The way for an image, or for several of one size that are refined together.

        Args:
            size: ``(height, width)``, px.
            mask: Mask, ``(1, 1, H, W)``, for windows.
            batch: Number of images.

        Raises:
            OutOfMemory: If none fits; the message has the smallest setting that would.
        """
        levels = plan_levels(self.ways[0][1], size, mask)  # all ways make the same pixels, so the same levels
        for name, refiner, lines in self.ways:
            needed = self.before + lines.memory(levels, batch)
            if needed <= self.mib:
                return ImagePlan(name, refiner, levels, needed, lines.seconds(levels))
        raise OutOfMemory(
            f"{size[1]}x{size[0]} px would take {needed:.0f} MiB{' with ' + name if name else ''}, more than "
            f"memory={self.mib:.0f}MiB; {self._advice(refiner, size, lines)}"
        )

    def _advice(self, refiner: Refiner, size: tuple[int, int], lines: Calibration) -> str:
        image = math.prod(size) * (ENGINE_BYTES + RUN_BYTES) / MIB
        least, _ = padded(refiner, (2 * SMALLEST_CONTEXT + 1,) * 2)
        slope = max(lines.mib[1] - 1e6 * ENGINE_BYTES / MIB, 1e-9)  # MiB per megapixel of a window
        room = max(0.0, self.mib - self.before - image - lines.mib[0]) / slope * 1e6  # pixels of a window
        side = math.isqrt(int(room)) // refiner.backbone.multiple_of * refiner.backbone.multiple_of
        if side < least:
            smallest = [LevelPlan(size, ((least, least),), 1)]
            needed = math.ceil(self.before + lines.memory(smallest))
            return f"no window is small enough, memory={needed}MiB is the least."
        context = min(refiner.backbone.native_size, (side - 1) // 4)
        return f"refiner.window={side} refiner.context={context} would fit, with other pixels."
