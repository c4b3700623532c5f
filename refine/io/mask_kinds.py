"""What a mask means that is not plain black and white: two levels of any brightness, alpha, labels, gray rims, a photo.

Every rule gives the hole and, where it had to guess or something is worth a look, a kind and a sentence that names the
values found and the setting that decides otherwise.
"""

from dataclasses import dataclass

import cv2
import numpy as np

DARK, BRIGHT = 0.1, 0.9  # rims of the scale: compression noise stays outside of what lies between
HALF = 0.5
PHOTO_SHARE, PHOTO_LEVELS = 0.5, 64  # more pixels between the rims, in at least so many levels, are a photo
FEW_COLORS = 64  # more are shades, not labels
FEW_LEVELS = 16
EITHER = ("two close values", "no black", "mostly hole")  # kinds that ask which part is meant
LABEL_MAX = 25 / 255  # labels are small numbers: so dark that a brush of that color would not be seen
MOSTLY_HOLE = 2 / 3  # share of a mask; where there is more, the other part may be meant
RIM_WIDTH = 1.5  # px of gray per px of contour; antialiasing alone has about one


class LooksLikePhoto(ValueError):
    """A mask that looks like a photo; the message starts with what it has."""


@dataclass(frozen=True, eq=False)
class Reading:
    """How a mask is understood.

    Attributes:
        hole: ``(H, W)`` bool, True = hole.
        kind: Name of what is unusual about the mask; empty for an ordinary one.
        note: Sentence about it, with the values found and the setting to use; empty for an ordinary one.
    """

    hole: np.ndarray
    kind: str = ""
    note: str = ""


def by_brightness(bright: np.ndarray, color: np.ndarray, top: float) -> Reading:
    """Read a mask by its brightness, where neither alpha nor a palette says more.

    Args:
        bright: ``(H, W)`` luminance in [0, 1].
        color: ``(H, W, 1 or 3)`` the values it was made of, in [0, ``top``].
        top: What stands for white.

    Raises:
        LooksLikePhoto: The values are those of a photo.
    """
    colors = distinct(color, top)
    if len(colors) == 1:
        return Reading(bright >= HALF)
    if len(colors) == 2:
        return _two_levels(bright, top)
    if photo := photo_traits(bright):
        raise LooksLikePhoto(photo)
    if len(colors) <= FEW_COLORS and not _one_hue(colors):
        return _colored_labels(bright, color, colors)
    hole, low, high = bright >= HALF, float(bright.min()), float(bright.max())
    flat = low == 0 and (high <= LABEL_MAX or (not hole.any() and len(colors) <= FEW_LEVELS))
    if flat and len(colors) <= LABEL_MAX * 255 + 1:
        note = f"has the values {_listed(bright, top)}: labels; all but 0 are hole. mask_channel=luminance with"
        return Reading(
            bright > 0, "gray labels", f"{note} mask_threshold=<share of white> makes the hole begin elsewhere."
        )
    if hole.all() or not hole.any():
        return _stretched(hole, bright, low, high)
    return with_rims(hole, bright)


def or_mostly_hole(reading: Reading) -> Reading:
    """A reading, with a note if nothing else is unusual and the hole is nearly all: the other part may be meant.

    Args:
        reading: Reading of a whole mask.
    """
    share = reading.hole.mean()
    if reading.kind or not MOSTLY_HOLE < share < 1:  # of a mask that is all hole others speak
        return reading
    note = f"is hole in {share:.0%} of its pixels, what is bright or marked in it; mask_invert=true takes the others."
    return Reading(reading.hole, "mostly hole", note)


def by_alpha(bright: np.ndarray, color: np.ndarray, alpha: np.ndarray, top: float) -> Reading:
    """Read a mask whose alpha varies: an erased region, or a brush on a transparent ground.

    Args:
        bright: ``(H, W)`` luminance in [0, 1], alpha not looked at.
        color: ``(H, W, 1 or 3)`` the values it was made of, in [0, ``top``].
        alpha: ``(H, W)`` opacity in [0, 1].
        top: What stands for white.
    """
    halfway = alpha.max() < HALF or len(distinct(alpha, 1)) == 2
    opaque = alpha >= ((alpha.min() + alpha.max()) / 2 if halfway else HALF)
    if opaque.all() or np.ptp(alpha) < DARK:
        return by_brightness(bright, color, top)
    share, seen = f"{opaque.mean():.1%}", bright[opaque]
    spread = (color[opaque].max(axis=0).astype(float) - color[opaque].min(axis=0)) / top
    advice = "mask_channel=alpha takes the opaque part, mask_channel=alpha mask_invert=true the transparent one."
    if spread.max() < DARK:
        hole = opaque if opaque.mean() <= HALF else ~opaque
        agree = opaque.mean() <= HALF and seen.min() >= HALF and bright[~opaque].max() < DARK
        if agree:  # the colors under the transparency are dark: it is a white brush by both accounts
            return with_rims(bright * alpha >= HALF, bright * alpha)
        side = "opaque" if opaque.mean() <= HALF else "transparent"
        note = f"has one color where it is opaque ({share}); the smaller part, the {side} one, is taken for the hole."
        return Reading(hole, "hole by alpha", f"{note} {advice}")
    if _between(seen).mean() < DARK and _gray(color[opaque], top):
        note = f"is black and white where it is opaque ({share}); what is white and opaque is taken for the hole."
        return Reading(bright * alpha >= HALF, "hole by alpha", f"{note} {advice}")
    if opaque.mean() >= HALF and photo_traits(seen):
        return with_rims(~opaque, 1 - alpha)
    note = f"has many colors where it is opaque ({share}); what is transparent is taken for the hole."
    return Reading(~opaque, "hole by alpha", f"{note} {advice}")


def by_index(indices: np.ndarray) -> Reading:
    """Read a palette image of labels: what is not label 0 is hole.

    Args:
        indices: ``(H, W)`` palette indices.
    """
    found = ", ".join(map(str, np.flatnonzero(np.bincount(indices.ravel()))[:FEW_LEVELS]))
    note = f"has a palette with the indices {found} in use; all but index 0 are hole, whatever their color."
    advice = "mask_channel=luminance (red, green, blue) with mask_threshold goes by the color instead."
    return Reading(indices != 0, "palette labels", f"{note} {advice}")


def with_rims(hole: np.ndarray, bright: np.ndarray) -> Reading:
    """Say so where the hole's rim is soft, since the part of it below the threshold stays as it is in the image.

    Args:
        hole: ``(H, W)`` bool, True = hole.
        bright: ``(H, W)`` in [0, 1], what the hole was cut from.
    """
    between = _between(bright)
    contour = hole & (cv2.erode(hole.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    if between.sum() <= RIM_WIDTH * contour.sum():
        return Reading(hole)
    width = between.sum() / max(contour.sum(), 1)
    note = (
        f"is gray in {between.mean():.1%} of its pixels, a soft rim of about {width:.0f} px, cut at half of white: its "
        "darker part is not filled. If a ring of the object remains, mask_dilate=<px> grows the hole, or "
        "mask_threshold=0.1 takes more of the rim."
    )
    return Reading(hole, "gray rims", note)


def photo_traits(bright: np.ndarray) -> str:
    """What makes the brightnesses those of a photo, as a clause for a message; empty if they are not.

    Args:
        bright: Brightnesses in [0, 1], any shape.
    """
    between = bright[_between(bright)]
    share, levels = between.size / max(bright.size, 1), np.count_nonzero(np.bincount((between * 255).astype(int)))
    if share <= PHOTO_SHARE or levels < PHOTO_LEVELS:
        return ""
    return f"looks like a photo: {share:.0%} of its pixels are neither dark nor bright, in {levels} levels"


def looks_like_mask(bright: np.ndarray) -> bool:
    """Whether nearly all pixels are black or white, and both occur.

    Args:
        bright: ``(H, W)`` luminance in [0, 1].
    """
    return bool(_between(bright).mean() < DARK / 2 and bright.min() <= DARK and bright.max() >= BRIGHT)


def distinct(color: np.ndarray, top: float) -> np.ndarray:
    """The colors that occur.

    Args:
        color: ``(H, W)`` or ``(H, W, 1 or 3)`` values in [0, ``top``].
        top: What stands for white.

    Returns:
        ``(n, 1 or 3)`` float in [0, 1], in rising order of the code they make; told apart by 16 bits.
    """
    planes = color.reshape(-1, 1) if color.ndim == 2 else color.reshape(-1, color.shape[2])
    steps = 255 if planes.dtype == np.uint8 else 65535
    whole = planes if top == steps else np.rint(planes * (steps / top))
    if planes.shape[1] == 3 and np.array_equal(whole[:, 0], whole[:, 1]) and np.array_equal(whole[:, 0], whole[:, 2]):
        whole = whole[:, :1]
    if whole.shape[1] == 1:
        counts = np.bincount(whole[:, 0].astype(np.uint16), minlength=1)
        return np.flatnonzero(counts)[:, None] / steps
    codes = np.unique(whole.astype(np.uint64) @ np.array([1 << 32, 1 << 16, 1], np.uint64))
    return np.stack([(codes >> shift) & 0xFFFF for shift in (np.uint64(32), np.uint64(16), np.uint64(0))], -1) / steps


def _two_levels(bright: np.ndarray, top: float) -> Reading:
    low, high = float(bright.min()), float(bright.max())
    hole = bright >= (low + high) / 2
    close = high - low < DARK * high
    if not close and low <= DARK:
        return Reading(hole)
    values = f"has two values, {_listed(bright, top)}"
    advice = "the brighter is taken for the hole. mask_invert=true takes the darker."
    if close:
        further = "mask_channel=luminance cuts at mask_threshold."
        return Reading(hole, "two close values", f"{values}, that hardly differ; {advice} {further}")
    return Reading(hole, "no black", f"{values}, neither of them black; {advice}")


def _colored_labels(bright: np.ndarray, color: np.ndarray, colors: np.ndarray) -> Reading:
    """Labels told by color: what is not black is hole."""
    advice = "mask_channel=red (green, blue, luminance) with mask_threshold selects some of them."
    if colors[0].any():
        hole, rule = bright >= HALF, "none of them black; those from half of white on are taken for the hole."
    else:
        hole, rule = np.asarray(color.any(axis=2)), "all but black are hole."
    return Reading(hole, "color labels", f"has {len(colors)} different colors; {rule} {advice}")


def _stretched(hole: np.ndarray, bright: np.ndarray, low: float, high: float) -> Reading:
    """Nothing, or all, is brighter than half of white, yet there are two sides: cut halfway between them."""
    if high - low < DARK:
        return Reading(hole)
    note = f"lies between {low:.0%} and {high:.0%} of white, cut halfway at {(low + high) / 2:.0%}; what is brighter"
    advice = "is taken for the hole. mask_channel=luminance cuts at mask_threshold instead."
    return Reading(bright >= (low + high) / 2, "no black and white", f"{note} {advice}")


def _between(bright: np.ndarray) -> np.ndarray:
    return (bright > DARK) & (bright < BRIGHT)


def _gray(color: np.ndarray, top: float) -> bool:
    """Whether ``(..., 1 or 3)`` colors are gray, but for compression noise."""
    return color.shape[-1] == 1 or bool((np.ptp(color.astype(float), axis=-1) <= DARK * top).mean() > BRIGHT)


def _one_hue(colors: np.ndarray) -> bool:
    """Whether ``(n, 1 or 3)`` colors are shades of the strongest of them, as the soft rim of one brush is."""
    strongest = colors[colors.sum(axis=1).argmax()]
    shares = colors @ strongest / (strongest @ strongest)
    return bool(np.abs(colors - shares[:, None] * strongest).max() <= DARK)


def _listed(bright: np.ndarray, top: float) -> str:
    values = np.unique(np.rint(bright * top) if top > 1 else bright.round(3))
    return ", ".join(f"{value:g}" for value in values[:FEW_LEVELS]) + (" ..." if len(values) > FEW_LEVELS else "")
