"""Transparency: which pixels show nothing, what the network sees in their place, and transparency as a mask.

A fully transparent pixel has a color in the file, but nobody has ever seen it: it may be black, or anything. So it is
unknown to the network, like the hole. A partly transparent pixel shows its color, which is known.
"""

from dataclasses import replace

import cv2
import numpy as np

from refine.io.mask import MaskOptions, as_picture, examine_mask
from refine.io.picture import Picture

ALPHA = "alpha"
"""What is given in place of a mask where the hole is the transparency of each image itself."""


def transparent_hole(picture: Picture, options: MaskOptions) -> np.ndarray:
    """The transparent part of a picture as its hole.

    Args:
        picture: Picture with alpha.
        options: Options of reading a mask: 1 is fully transparent, 0 opaque; there is no channel to choose.

    Returns:
        ``(H, W)`` bool, True = hole.

    Raises:
        ValueError: The picture has no alpha.
    """
    if picture.alpha is None:
        raise ValueError(
            "mask=alpha takes the transparent part of the image as the hole, but the image has no alpha channel. Give "
            "an image with transparency, or a mask."
        )
    values = as_picture(1 - picture.alpha / np.iinfo(picture.alpha.dtype).max)
    return examine_mask(values, "", replace(options, channel="luminance")).hole


def invisible(picture: Picture) -> np.ndarray | None:
    """``(H, W)`` bool: pixels whose alpha is 0; None where there are none."""
    pixels = None if picture.alpha is None else picture.alpha == 0
    return pixels if pixels is not None and pixels.any() else None


def network_view(picture: Picture, hole: np.ndarray) -> tuple[Picture, np.ndarray]:
    """What the network is given: a fully transparent pixel is unknown, and has the color of the nearest known pixel.

    Smaller copies of the image mix each pixel with its neighbors, and would carry a hidden color into the part that
    shows, although the network is told that it is unknown.

    Args:
        picture: Picture of 8 or 16 bits per channel.
        hole: ``(H, W)`` bool, True = hole.

    Returns:
        The picture without hidden colors (black where nothing is known), and ``(H, W)`` bool, True = unknown. Picture
        and hole themselves if all of the picture shows.
    """
    hidden = invisible(picture)
    if hidden is None:
        return picture, hole
    pixels = picture.pixels.copy()
    unknown = hidden | hole
    if not unknown.all():
        _, nearest = cv2.distanceTransformWithLabels(
            unknown.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        colors = np.zeros((nearest.max() + 1, pixels.shape[2]), pixels.dtype)
        colors[nearest[~unknown]] = pixels[~unknown]
        pixels[hidden] = colors[nearest[hidden]]
    else:
        pixels[hidden] = 0
    return replace(picture, pixels=pixels), unknown


def doubt(hole: np.ndarray, picture: Picture | None = None, inverted: bool = False) -> str | None:
    """What is odd about a hole, as the end of a sentence that begins with the mask's name; None for nothing.

    Args:
        hole: ``(H, W)`` bool, True = hole.
        picture: Picture with this hole, if it may have alpha.
        inverted: Whether hole and known were exchanged by ``mask_invert``.
    """
    advice = "Is mask_invert=true right?" if inverted else "Are mask_channel and mask_threshold right?"
    if not hole.any():
        return f"has no hole at all: the image is written as it is. {advice}"
    if hole.all():
        return f"has all hole: nothing is known to fill from. {advice}"
    hidden = None if picture is None else invisible(picture)
    if hidden is not None and (hidden | hole).all():
        return (
            "leaves only fully transparent pixels outside the hole: nothing is known to fill from, because colors "
            "under alpha 0 are not used. Make what should be known opaque."
        )
    return None
