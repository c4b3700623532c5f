"""Image files <-> tensors: pictures with color profile, EXIF, alpha and 16 bits; filling a hole.

A `Picture` holds a file's own integers. The network sees a float copy of them; `fill` puts its answer into the
hole and leaves every other integer alone, which is how known pixels come back bit-exact.
"""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refine.io.decode import read_planes, reason
from refine.io.exif import orientation_and_exif, upright
from refine.io.files import File
from refine.io.formats import MEGAPIXELS, PILLOWS_LIMIT, UnreadableImage, open_image
from refine.io.metadata import read_metadata


@dataclass(frozen=True, eq=False)
class Picture:
    """An image file, upright, in its own integers.

    Attributes:
        pixels: ``(H, W, C)`` uint8 or uint16, C = 1 (gray) or 3 (RGB).
        alpha: ``(H, W)`` opacity of the same dtype, full scale = opaque, or None.
        icc: ICC color profile of the pixels, or None.
        exif: EXIF without orientation and preview image, in the form Pillow takes, or None.
        metadata: Resolution, XMP and so on, see :func:`refine.io.metadata.read_metadata`.
        indices: ``(H, W)`` uint8 palette indices behind the pixels, or None; they matter where the file is a mask.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    indices: np.ndarray | None = None

    @staticmethod
    def of_planes(planes: np.ndarray, **further: Any) -> "Picture":
        """A picture of its planes.

        Args:
            planes: ``(H, W, 1..4)``: gray or RGB, then alpha where there is one.
            **further: Other attributes.
        """
        colors = (planes.shape[2] - 1) // 2 * 2 + 1  # 1 2 3 4 planes -> 1 1 3 3
        alpha = planes[..., colors] if colors < planes.shape[2] else None
        return Picture(planes[..., :colors], alpha, **further)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)``, px."""
        height, width = self.pixels.shape[:2]
        return height, width

    @property
    def planes(self) -> np.ndarray:
        """``(H, W, 1..4)``: the pixels, then alpha where there is one."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])


def read_picture(path: str | File, megapixels: float = MEGAPIXELS) -> Picture:
    """Read a file of any format in `refine.io.formats`; the contents decide which, not the suffix.

    Palette, CMYK, YCbCr and LAB become RGB, 1 bit becomes 8-bit gray, 16 bits stay 16 bits, and transparency of
    any kind becomes ``alpha``. Of several frames the first is read, with a warning.

    Args:
        path: Path of the file, or a member of a tar.
        megapixels: Largest image that is read, MP; infinite for a file of which it is known how it came about.

    Returns:
        The picture, upright, 8 or 16 bits per channel.

    Raises:
        UnreadableImage: The file is missing, damaged, too large, or of a kind that is not supported.
    """
    try:
        file = Path(path) if isinstance(path, str) else path
        # A pipe or a device could keep us waiting forever.
        if isinstance(file, Path) and file.exists() and not file.is_file():
            raise UnreadableImage("it is not a file")
        data = file.read_bytes()
        with PILLOWS_LIMIT.lifted():  # some decoders look at it too
            return _decode(data, str(path), megapixels)
    except Exception as error:  # decoders answer damaged files with nearly any exception
        raise UnreadableImage(f"cannot read {str(path)!r}: {reason(error)}.") from None


def to_tensor(picture: Picture) -> Tensor:
    """Colors of a picture as a tensor.

    Args:
        picture: Picture of 8 or 16 bits per channel, gray or RGB.

    Returns:
        ``(1, 3, H, W)`` float32 in [0, 1]; gray is repeated.
    """
    color = np.empty((3, *picture.size), np.float32)
    top = np.float32(np.iinfo(picture.pixels.dtype).max)
    np.divide(picture.pixels.transpose(2, 0, 1), top, out=color, dtype=np.float32, casting="same_kind")
    return torch.from_numpy(color)[None]


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
        color = luma(color)[None]
    pixels = picture.pixels.copy()
    pixels[mask] = np.rint(color.clip(0, 1).T * np.iinfo(pixels.dtype).max)
    alpha = picture.alpha
    if alpha is not None:  # a hole that stays transparent would look as if nothing had been filled
        alpha = np.where(mask, np.iinfo(alpha.dtype).max, alpha).astype(alpha.dtype)
    return replace(picture, pixels=pixels, alpha=alpha)


def _decode(data: bytes, name: str, megapixels: float) -> Picture:
    if not data:
        raise UnreadableImage("it is empty")
    image = open_image(io.BytesIO(data), megapixels)
    if (frames := getattr(image, "n_frames", 1)) > 1:
        warnings.warn(f"{name!r} has {frames} frames; only the first is read.", stacklevel=3)
    planes = read_planes(image, data)
    icc = image.info.get("icc_profile") or None
    if image.mode in ("CMYK", "LAB"):
        warnings.warn(f"{name!r} is {image.mode}; converted to RGB, without its color profile.", stacklevel=3)
        icc = None
    orientation, exif = orientation_and_exif(image, name)
    planes = np.ascontiguousarray(upright(planes, orientation))
    indices = upright(np.atleast_3d(np.asarray(image)), orientation)[..., 0] if image.mode == "P" else None
    return Picture.of_planes(planes, icc=icc, exif=exif, metadata=read_metadata(image, data), indices=indices)


def luma(color: np.ndarray) -> np.ndarray:
    """Luminance of colors after Rec. 601; its weights are whole numbers, so that white is exactly white.

    Args:
        color: ``(3, ...)`` R, G and B on any scale.

    Returns:
        ``(...)`` float64 on the same scale.
    """
    return np.asarray((299.0 * color[0] + 587.0 * color[1] + 114.0 * color[2]) / 1000.0)
