"""Image files <-> tensors: pictures with color profile, EXIF, alpha and 16 bits; masks; filling a hole.

A `Picture` holds a file's own integers. The network sees a float copy of them; `fill` puts its answer into the
hole and leaves every other integer alone, which is how known pixels come back bit-exact.
"""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refine.io.decode import FORMATS, UnreadableImage, read_planes, reason
from refine.io.exif import orientation_and_exif, upright
from refine.io.files import File
from refine.io.metadata import read_metadata

SUFFIXES: Mapping[str, str] = MappingProxyType(
    {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff", ".bmp": "bmp"}
)
"""Suffix of a file, in lower case -> the name of its format."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image file, upright, in its own integers.

    Attributes:
        pixels: ``(H, W, C)`` uint8 or uint16, C = 1 (gray) or 3 (RGB).
        alpha: ``(H, W)`` opacity of the same dtype, full scale = opaque, or None.
        icc: ICC color profile of the pixels, or None.
        exif: EXIF without orientation and preview image, in the form Pillow takes, or None.
        metadata: Resolution, XMP and so on, see :func:`refine.io.metadata.read_metadata`.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)``, px."""
        height, width = self.pixels.shape[:2]
        return height, width

    @property
    def planes(self) -> np.ndarray:
        """``(H, W, 1..4)``: the pixels, then alpha where there is one."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])


def read_picture(path: str | File) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF or BMP; the contents decide which, not the suffix.

    Palette, CMYK, YCbCr and LAB become RGB, 1 bit becomes 8-bit gray, 16 bits stay 16 bits, and transparency of
    any kind becomes ``alpha``. Of several frames the first is read, with a warning.

    Args:
        path: Path of the file, or a member of a tar.

    Returns:
        The picture, upright, 8 or 16 bits per channel.

    Raises:
        UnreadableImage: The file is missing, damaged, or of a kind that is not supported.
    """
    try:
        file = Path(path) if isinstance(path, str) else path
        # A pipe or a device could keep us waiting forever.
        if isinstance(file, Path) and file.exists() and not file.is_file():
            raise UnreadableImage("it is not a file")
        return _decode(file.read_bytes(), str(path))
    except Exception as error:  # decoders answer damaged files with nearly any exception
        raise UnreadableImage(f"cannot read {str(path)!r}: {reason(error)}.") from None


def read_mask(path: str | File, threshold: float = 0.5, invert: bool = False, dilate: int = 0) -> np.ndarray:
    """Read a mask from any file `read_picture` reads.

    Args:
        path: Path of the file, or a member of a tar.
        threshold: Brightness from which a pixel is hole, in (0, 1].
        invert: Whether hole and known are exchanged, before dilation.
        dilate: Growth of the hole, px.

    Returns:
        ``(H, W)`` bool, True = hole.

    Raises:
        UnreadableImage: The file is missing, damaged, or of a kind that is not supported.
        ValueError: ``threshold`` or ``dilate`` is out of range.
    """
    return as_mask(read_picture(path).planes, threshold, invert, dilate)


def as_mask(values: np.ndarray, threshold: float = 0.5, invert: bool = False, dilate: int = 0) -> np.ndarray:
    """Decide which pixels are hole.

    Args:
        values: ``(H, W)`` or ``(H, W, 1..4)`` (gray, gray + alpha, RGB, RGBA) as bool, uint8, uint16 or float in
            [0, 1]. What counts is luminance times alpha, so a transparent pixel is never bright.
        threshold: Brightness from which a pixel is hole, in (0, 1].
        invert: Whether hole and known are exchanged, before dilation.
        dilate: Growth of the hole with a round kernel, px.

    Returns:
        ``(H, W)`` bool, True = hole.

    Raises:
        ValueError: A threshold, dilation, shape, dtype or range other than these.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], a share of full brightness; got {threshold}.")
    if dilate < 0:
        raise ValueError(f"dilate must be 0 or more pixels; got {dilate}.")
    mask = (_brightness(values) >= threshold) ^ invert
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * dilate + 1, 2 * dilate + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), dtype=bool) if dilate else mask


def to_tensor(picture: Picture) -> Tensor:
    """Colors of a picture as a tensor.

    Args:
        picture: Picture of 8 or 16 bits per channel, gray or RGB.

    Returns:
        ``(1, 3, H, W)`` float32 in [0, 1]; gray is repeated.
    """
    color = picture.pixels.transpose(2, 0, 1).astype(np.float32) / np.iinfo(picture.pixels.dtype).max
    return torch.from_numpy(np.repeat(color, 3 // len(color), axis=0))[None]


def mask_to_tensor(mask: np.ndarray) -> Tensor:
    """A mask as a tensor.

    Args:
        mask: ``(H, W)`` bool, True = hole.

    Returns:
        ``(1, 1, H, W)`` float32, 1 = hole.
    """
    return torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None, None]


def fill(picture: Picture, image: Tensor, mask: np.ndarray) -> Picture:
    """Take the hole from a tensor and everything else from the picture.

    Args:
        picture: Original picture, 8 or 16 bits per channel.
        image: ``(1, 3, H, W)`` in [0, 1]; rounded to the picture's depth, and to its luma where the picture is gray.
        mask: ``(H, W)`` bool, True = hole.

    Returns:
        A new picture, opaque in the hole; known pixels, their alpha, profile and EXIF are the original's.

    Raises:
        ValueError: The sizes differ, the mask is not bool, or the hole would get NaN or infinite values.
    """
    if image.shape != (1, 3, *picture.size) or mask.shape != picture.size or mask.dtype != np.bool_:
        got = f"image {tuple(image.shape)} and {mask.dtype} mask {mask.shape}"
        raise ValueError(f"a picture of size {picture.size} needs image (1, 3, H, W) and bool mask (H, W); got {got}.")
    color = image[0].detach().cpu().numpy()[:, mask].astype(np.float64)
    if broken := int((~np.isfinite(color)).any(axis=0).sum()):
        raise ValueError(
            f"image must be finite in the hole; got NaN or infinity in {broken} of its {mask.sum()} pixels. "
            "If the network ran in half precision, use float32."
        )
    if picture.pixels.shape[2] == 1:
        color = _luma(color)[None]
    pixels = picture.pixels.copy()
    pixels[mask] = np.rint(color.clip(0, 1).T * np.iinfo(pixels.dtype).max)
    alpha = picture.alpha
    if alpha is not None:  # a hole that stays transparent would look as if nothing had been filled
        alpha = np.where(mask, np.iinfo(alpha.dtype).max, alpha).astype(alpha.dtype)
    return replace(picture, pixels=pixels, alpha=alpha)


def _decode(data: bytes, name: str) -> Picture:
    if not data:
        raise UnreadableImage("it is empty")
    image = Image.open(io.BytesIO(data), formats=list(FORMATS.values()))
    if (frames := getattr(image, "n_frames", 1)) > 1:
        warnings.warn(f"{name!r} has {frames} frames; only the first is read.", stacklevel=3)
    planes = read_planes(image, data)
    icc = image.info.get("icc_profile") or None
    if image.mode in ("CMYK", "LAB"):
        warnings.warn(f"{name!r} is {image.mode}; converted to RGB, without its color profile.", stacklevel=3)
        icc = None
    orientation, exif = orientation_and_exif(image, name)
    planes = np.ascontiguousarray(upright(planes, orientation))
    colors = (planes.shape[2] - 1) // 2 * 2 + 1  # 1 2 3 4 planes -> 1 1 3 3
    alpha = planes[..., colors] if colors < planes.shape[2] else None
    return Picture(planes[..., :colors], alpha, icc, exif, read_metadata(image, data))


def _brightness(values: np.ndarray) -> np.ndarray:
    """``(H, W)`` float in [0, 1]: luminance times alpha."""
    planes = values[..., None] if values.ndim == 2 else values
    if planes.ndim != 3 or not 1 <= planes.shape[2] <= 4:
        raise ValueError(f"mask must be (H, W) or (H, W, 1..4); got {values.shape}.")
    top = _full_scale(planes)
    bright = (_luma(planes.transpose(2, 0, 1)) if planes.shape[2] > 2 else planes[..., 0]) / top
    return np.asarray(bright * (planes[..., -1] / top) if planes.shape[2] in (2, 4) else bright)


def _full_scale(values: np.ndarray) -> int:
    if values.dtype in (np.uint8, np.uint16):
        if values.max(initial=0) == 1:
            warnings.warn("mask has integers 0 and 1 only, all but black; multiply by 255 or give bool.", stacklevel=4)
        return int(np.iinfo(values.dtype).max)
    if values.dtype.kind not in "bf":
        raise ValueError(f"mask must be bool, uint8, uint16 or float in [0, 1]; got {values.dtype}.")
    if not ((values >= 0) & (values <= 1)).all():
        got = f"[{values.min()}, {values.max()}]"
        raise ValueError(
            f"mask of {values.dtype} must have values in [0, 1]; got {got}. Divide by what stands for white."
        )
    return 1


def _luma(color: np.ndarray) -> np.ndarray:
    """Rec. 601, of planes ``(3.., H, W)``; whole weights, so that white is exactly white."""
    return np.asarray((299.0 * color[0] + 587.0 * color[1] + 114.0 * color[2]) / 1000.0)
