"""Mask files and arrays -> the hole: which channel decides, from which value on, inverted, grown."""

import warnings
from dataclasses import dataclass, replace

import cv2
import numpy as np

from refine.io.files import File
from refine.io.mask_kinds import (
    EITHER,
    HALF,
    LooksLikePhoto,
    Reading,
    by_alpha,
    by_brightness,
    by_index,
    looks_like_mask,
    or_mostly_hole,
)
from refine.io.picture import Picture, luma, read_picture

CHANNELS = ("auto", "luminance", "alpha", "red", "green", "blue", "index")


@dataclass(frozen=True)
class MaskOptions:
    """How a mask is read.

    Attributes:
        threshold: Value from which a pixel is hole, in [0, 1]; 0 is any that is not zero.
        invert: Whether hole and known are exchanged, before dilation.
        dilate: Growth of the hole with a round kernel, px.
        channel: What of the mask decides, one of :data:`CHANNELS`, see :func:`as_mask`.
    """

    threshold: float = HALF
    invert: bool = False
    dilate: int = 0
    channel: str = "auto"


class MaskWarning(UserWarning):
    """Something about one mask that its user should know.

    Args:
        kind: Name of what is unusual; many masks of one kind need not all be shown.
        text: Sentence, which names the mask.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def read_mask(
    path: str | File,
    threshold: float = HALF,
    invert: bool = False,
    dilate: int = 0,
    channel: str = "auto",
    image: Picture | None = None,
) -> np.ndarray:
    """Read a mask from any file `read_picture` reads; :func:`as_mask` says what is hole.

    Args:
        path: Path of the file, or a member of a tar.
        threshold: Value from which a pixel is hole, in [0, 1]; 0 is any that is not zero.
        invert: Whether hole and known are exchanged, before dilation.
        dilate: Growth of the hole, px.
        channel: What of the file decides, one of :data:`CHANNELS`.
        image: Image that the mask belongs to, by which an exchange of the two is recognized.

    Returns:
        ``(H, W)`` bool, True = hole.

    Raises:
        UnreadableImage: The file is missing, damaged, or of a kind that is not supported.
        ValueError: A setting is out of range, the file has no such channel, or it looks like a photo.
    """
    return _warned(examine_mask(read_picture(path), str(path), MaskOptions(threshold, invert, dilate, channel), image))


def as_mask(
    values: np.ndarray | Picture,
    threshold: float = HALF,
    invert: bool = False,
    dilate: int = 0,
    channel: str = "auto",
    image: Picture | None = None,
) -> np.ndarray:
    """Decide which pixels are hole.

    With ``channel="auto"`` and the usual threshold of 0.5, of exactly two values the brighter is hole; where alpha
    varies, it decides; labels other than 0 are hole; everything else is cut at half of white. With another threshold,
    luminance times alpha is cut there, without a further look. Any other channel is cut at the threshold.

    Args:
        values: ``(H, W)`` or ``(H, W, 1..4)`` (gray, gray + alpha, RGB, RGBA) as bool, uint8, uint16 or float in
            [0, 1]; or a picture.
        threshold: Value from which a pixel is hole, in [0, 1]; 0 is any that is not zero.
        invert: Whether hole and known are exchanged, before dilation.
        dilate: Growth of the hole with a round kernel, px.
        channel: What decides, one of :data:`CHANNELS`.
        image: Image that the mask belongs to, by which an exchange of the two is recognized.

    Returns:
        ``(H, W)`` bool, True = hole.

    Raises:
        ValueError: A setting, shape, dtype or range other than these, no such channel, or values as of a photo.
    """
    mask = values if isinstance(values, Picture) else as_picture(values)
    return _warned(examine_mask(mask, "", MaskOptions(threshold, invert, dilate, channel), image))


def examine_mask(
    mask: Picture, name: str, options: MaskOptions = MaskOptions(), image: Picture | None = None
) -> Reading:
    """As :func:`as_mask`, with what is to be said about the mask.

    Args:
        mask: The mask, as a picture.
        name: Name of the mask for messages.
        options: How it is read.
        image: Image that the mask belongs to, by which an exchange of the two is recognized.

    Raises:
        ValueError: As :func:`as_mask`.
    """
    threshold, dilate, channel = options.threshold, options.dilate, options.channel
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], a share of full scale; got {threshold}.")
    if dilate < 0:
        raise ValueError(f"dilate must be 0 or more pixels; got {dilate}.")
    if channel not in CHANNELS:
        raise ValueError(f"channel must be one of {', '.join(CHANNELS)}; got {channel!r}.")
    title = f"mask {name}" if name else "mask"
    try:
        recognize = channel == "auto" and threshold == HALF
        reading = or_mostly_hole(_recognized(mask)) if recognize else _cut(mask, channel, threshold)
    except LooksLikePhoto as photo:
        raise LooksLikePhoto(f"{title} {photo}. {_advice(image)}") from None
    except ValueError as error:
        raise ValueError(f"{title} {error}") from None
    hole = reading.hole ^ options.invert
    if dilate:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * dilate + 1, 2 * dilate + 1))
        hole = cv2.dilate(hole.astype(np.uint8), kernel).astype(bool)
    followed = (dilate and reading.kind == "gray rims") or (options.invert and reading.kind in EITHER)  # the hint was
    note = f"{title} {reading.note}" if reading.note and not followed else ""
    return replace(reading, hole=hole, note=note, kind="" if followed else reading.kind)


def _recognized(mask: Picture) -> Reading:
    """The reading that the values themselves suggest."""
    top, bright = _top(mask.pixels), brightness(mask)
    if mask.alpha is not None and mask.alpha.min() != mask.alpha.max():
        return by_alpha(bright, mask.pixels, mask.alpha / top, top)
    if mask.alpha is not None and not mask.alpha.any():
        return Reading(np.zeros(mask.size, dtype=bool))
    if mask.indices is not None and mask.indices.min() != mask.indices.max() and mask.pixels.shape[2] == 3:
        gray = (mask.pixels == mask.pixels[..., :1]).all()  # a palette of grays is how some programs save space
        if not gray and np.count_nonzero(np.bincount(mask.indices.ravel())) > 2:
            return by_index(mask.indices)
    return by_brightness(bright, mask.pixels, top)


def _cut(mask: Picture, channel: str, threshold: float) -> Reading:
    """One channel, cut at the threshold."""
    top, colors = _top(mask.pixels), mask.pixels.shape[2]
    if channel == "index":
        if mask.indices is None and colors != 1:
            raise ValueError("has no palette, as mask_channel=index needs; use luminance, red, green or blue.")
        return Reading((mask.pixels[..., 0] if mask.indices is None else mask.indices) != 0)
    if channel == "alpha" and mask.alpha is None:
        raise ValueError("has no alpha, as mask_channel=alpha needs; use auto or luminance.")
    if channel == "alpha":
        values = np.asarray(mask.alpha) / top
    elif channel in ("red", "green", "blue"):
        values = mask.pixels[..., ("red", "green", "blue").index(channel) % colors] / top
    else:
        values = brightness(mask)
        if channel == "auto" and mask.alpha is not None:
            values = values * (mask.alpha / top)
    # Zero is what rounds to it on the scale of the file: a luminance of 0.1 of 255 is black.
    least = 0.5 / top if top > 1 else 0.0
    return Reading(values > least if threshold == 0 else values >= threshold)


def brightness(picture: Picture) -> np.ndarray:
    """Luminance of a picture, alpha not looked at.

    Args:
        picture: Gray or RGB.

    Returns:
        ``(H, W)`` float in [0, 1].
    """
    planes = picture.pixels.transpose(2, 0, 1)
    return np.asarray((luma(planes) if len(planes) == 3 else planes[0]) / _top(picture.pixels))


def as_picture(values: np.ndarray, indices: np.ndarray | None = None) -> Picture:
    """Planes of a mask as a picture, of whose pixels bool and float are then allowed too.

    Args:
        values: ``(H, W)`` or ``(H, W, 1..4)`` as for :func:`as_mask`.
        indices: ``(H, W)`` palette indices behind them, or None.

    Raises:
        ValueError: Another shape, dtype or range.
    """
    planes = values[..., None] if values.ndim == 2 else values
    if planes.ndim != 3 or not 1 <= planes.shape[2] <= 4:
        raise ValueError(f"mask must be (H, W) or (H, W, 1..4); got {values.shape}.")
    if planes.dtype not in (np.uint8, np.uint16):
        if planes.dtype.kind not in "bf":
            raise ValueError(f"mask must be bool, uint8, uint16 or float in [0, 1]; got {values.dtype}.")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"mask of {values.dtype} must have values in [0, 1]; got [{values.min()}, {values.max()}]. "
                "Divide by what stands for white."
            )
        if planes.dtype == np.float16:  # whose largest number is below that of 16 bits
            planes = planes.astype(np.float32)
    return Picture.of_planes(planes, indices=indices)


def _top(values: np.ndarray) -> int:
    """What stands for white."""
    return int(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1


def _advice(image: Picture | None) -> str:
    settings = (
        "For a hole painted in a color onto a photo use mask_channel=red (green, blue); mask_channel=luminance cuts at "
        "mask_threshold whatever it looks like."
    )
    if image is not None and looks_like_mask(brightness(image)):
        return f"The image looks like a mask: did you swap image and mask? {settings}"
    return f"If image and mask are swapped, exchange them. {settings}"


def _warned(reading: Reading) -> np.ndarray:
    if reading.note:
        warnings.warn(MaskWarning(reading.kind, reading.note), stacklevel=3)
    return reading.hole
