"""What the refiner says of an image it could not refine."""

import warnings
from collections.abc import Sequence

from refine.core.types import Refinement

THIN_TOO = "objective.narrowest=null objective.adaptive=true"  # settings that refine holes of any width
FRAMES = 4  # up to the caller of the refiner: this function, _refine_image, __call__


class NotFinite(UserWarning):
    """At some level no iterate was finite; a run counts these and says so at its end."""


class NothingRefined(UserWarning):
    """The hole is too thin to be compared with the coarser levels; a run counts these and says so at its end."""


def warn_of_one_level(size: tuple[int, int], smallest_side: int) -> None:
    """Say that an image is too small for a pyramid.

    Args:
        size: ``(height, width)`` of the image, px.
        smallest_side: Setting of the pyramid, px.
    """
    height, width = size
    warnings.warn(
        f"image {width}x{height} gives one level (smallest_side={smallest_side}): nothing to refine against; returned "
        "the plain prediction.",
        stacklevel=FRAMES,
    )


def warn_of_levels(refinement: Refinement, keys: Sequence[str]) -> None:
    """Say which images were not refined: no pixel to compare at any level, or no iterate that is finite at some.

    Args:
        refinement: Refinement of a batch.
        keys: Names of its samples; each may be empty.
    """
    height, width = refinement.image.shape[-2:]
    levels = refinement.levels[1:]
    for index, (key, nothing) in enumerate(zip(keys, refinement.unrefined, strict=True)):
        name = f"{key or 'image'} {width}x{height}"
        if nothing:
            warnings.warn(
                f"{name}: none of its {len(levels)} levels was refined: the hole is too thin, no pixel of it is "
                f"compared with the coarser level; returned the plain prediction. {THIN_TOO} refines such holes too.",
                NothingRefined,
                stacklevel=FRAMES,
            )
        if lost := sum(int(level.kept[index]) < 0 for level in levels):
            warnings.warn(
                f"{name}: at {lost} of its {len(levels)} levels no prediction, or no loss, was finite; the result of "
                "the coarser level was enlarged instead. Check the objective and the weights, or use "
                "refiner.precision=32.",
                NotFinite,
                stacklevel=FRAMES,
            )
