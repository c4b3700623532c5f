"""What the refiner says of an image it could not refine."""

import warnings

THIN_TOO = "objective.narrowest=null objective.adaptive=true"  # settings that refine holes of any width
FRAMES = 4  # up to the caller of the refiner: this function, _refine_image, __call__


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


def warn_of_nothing_refined(key: str, size: tuple[int, int], levels: int) -> None:
    """Say that the objective had no pixel to compare at any level.

    Args:
        key: Name of the sample; may be empty.
        size: ``(height, width)`` of the image, px.
        levels: Number of levels that were to be refined.
    """
    height, width = size
    warnings.warn(
        f"{key or 'image'} {width}x{height}: none of its {levels} levels was refined: the hole is too thin, no pixel "
        f"of it is compared with the coarser level; returned the plain prediction. {THIN_TOO} refines such holes too.",
        NothingRefined,
        stacklevel=FRAMES,
    )
