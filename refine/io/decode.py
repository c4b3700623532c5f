"""The bytes of a file -> its planes of integers: Pillow for 8 bits, OpenCV for 16, or the reason why neither can."""

import warnings
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP"}
"""Name of a format -> Pillow's name of it."""


class UnreadableImage(ValueError):
    """A file that cannot be read as an image; the message names it and says why, in one line."""


def reason(error: Exception) -> str:
    """Why a file, or a part of it, cannot be decoded: one clause, for a message.

    Args:
        error: Exception of the decoder.
    """
    if isinstance(error, UnidentifiedImageError):  # Pillow's text shows the address of a buffer
        return "its contents are no PNG, JPEG, WebP, TIFF or BMP of a supported kind; convert it to PNG"
    if isinstance(error, UnreadableImage | Image.DecompressionBombError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it is damaged or cut short ({' '.join(str(error).split()) or type(error).__name__})"


def read_size(data: BinaryIO) -> tuple[int, int]:
    """``(height, width)`` px as the header of a file says it, not turned upright; ``(0, 0)`` if it cannot be read.

    Args:
        data: Stream of the file; only its header is read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # given when the pixels are read
        try:
            with Image.open(data, formats=list(FORMATS.values())) as image:
                return image.height, image.width
        except Exception:  # decoders answer damaged files with nearly any exception
            return 0, 0


def read_planes(image: Image.Image, data: bytes) -> np.ndarray:
    """Read the pixels of a file Pillow has opened.

    Args:
        image: Image opened by Pillow and not yet loaded.
        data: Bytes of the same file.

    Returns:
        ``(H, W, C)`` uint8 or uint16, C = 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA); not turned upright.

    Raises:
        UnreadableImage: The bit depth or the arrangement of the pixels is not supported.
        Exception: The file is damaged; decoders raise nearly any kind.
    """
    bits = _bits(image, data)
    image.load()  # raises if the file is cut short, which OpenCV forgives
    return _planes_16(image, data) if bits == 16 else planes_8(image)


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel, from the header: Pillow's mode does not tell 16-bit RGB from 8-bit."""
    bits, kinds = 8, {1}
    if image.format == "PNG":
        bits = data[data.index(b"IHDR") + 12]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits, kinds = max(image.tag_v2.get(258, (1,))), set(image.tag_v2.get(339, (1,)))
    if bits not in (1, 2, 4, 8, 16) or kinds != {1}:
        raise UnreadableImage(f"its {bits}-bit or signed numbers are not supported; convert it to 8 or 16 bits")
    return bits


def planes_8(image: Image.Image) -> np.ndarray:
    """``(H, W, 1..4)`` uint8: gray stays gray, 1 bit becomes gray, all else RGB; with alpha where there is any."""
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    return np.atleast_3d(np.asarray(image.convert(mode + "A" if image.has_transparency_data else mode)))


def _planes_16(image: Image.Image, data: bytes) -> np.ndarray:
    """By OpenCV, checked against what Pillow makes of the same file: all 16 bits of gray, the upper 8 of color."""
    view = np.atleast_3d(np.asarray(image))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    planes = np.atleast_3d(np.asarray(decoded))[..., : view.shape[2]]
    if planes.shape[2:] > (1,):
        planes = planes[..., [2, 1, 0, 3][: planes.shape[2]]]
    # OpenCV gives wrong pixels or 8 bits for some kinds: separate planes, premultiplied alpha, gray with alpha in TIFF.
    if planes.dtype != np.uint16 or not np.array_equal(planes >> 8 if view.dtype == np.uint8 else planes, view):
        raise UnreadableImage("this kind of 16-bit file is not supported; convert it to a 16-bit PNG")
    if image.format == "PNG" and data[data.index(b"IHDR") + 13] == 4:  # gray with alpha, decoded as RGBA
        planes = planes[..., [0, 3]]
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0:  # white is zero
        planes = 65535 - planes
    if (transparent := image.info.get("transparency")) is not None:  # PNG's tRNS: one color stands for no color
        alpha = np.where((planes == transparent).all(axis=2), 0, 65535).astype(np.uint16)
        planes = np.dstack([planes, alpha])
    return planes
