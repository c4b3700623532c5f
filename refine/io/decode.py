"""The bytes of a file -> its planes of integers: Pillow for 8 bits, OpenCV for 16, or the reason why neither can."""

import re
import warnings
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from refine.io.formats import MEGAPIXELS, UnreadableImage, open_image


def reason(error: Exception) -> str:
    """Why a file, or a part of it, cannot be decoded: one clause, for a message.

    Args:
        error: Exception of the decoder.
    """
    if isinstance(error, UnidentifiedImageError):  # Pillow's text shows the address of a buffer
        return "its contents are no image of a supported kind; convert it to PNG"
    if isinstance(error, UnreadableImage):
        return str(error).removesuffix(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it is damaged or cut short ({' '.join(str(error).split()) or type(error).__name__})"


def read_size(data: BinaryIO, megapixels: float = MEGAPIXELS) -> tuple[int, int]:
    """``(height, width)`` px as the header of a file says it, not turned upright; ``(0, 0)`` if it cannot be read.

    Args:
        data: Stream of the file; only its header is read.
        megapixels: Largest image that is read, MP.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # given when the pixels are read
        try:
            with open_image(data, megapixels) as image:
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
    depths, supported = {8}, {1, 2, 4, 8, 16}
    unsigned = True
    if image.format == "PNG":
        depths = {data[data.index(b"IHDR") + 12]}
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        depths, unsigned = set(image.tag_v2.get(258, (1,))), set(image.tag_v2.get(339, (1,))) == {1}
    elif image.format == "JPEG2000":
        sizes = _jpeg_2000_sizes(data)
        depths, unsigned = {(size & 127) + 1 for size in sizes}, max(sizes) < 128
        supported = {8, 16}  # Pillow leaves fewer bits dark: white of 1 bit becomes 128
    elif image.format in ("AVIF", "HEIF"):
        depths = _isobmff_depths(data)
    elif image.format == "SGI":
        depths = {8 * data[3]}
    elif image.format == "PPM" and (head := _PPM_HEAD.match(data)):
        top = int(head[1])
        depths = {8 if top < 256 else 16 if top == 65535 else min(15, top.bit_length())}  # 40000 is no full 16 bits
    bits = max(depths)
    if bits <= 8 and image.mode[0] in "IF":  # Pillow's own integers and floats, such as those of a PFM
        bits = 32
    if bits not in supported or not unsigned:
        raise UnreadableImage(f"its {bits}-bit or signed numbers are not supported; convert it to 8 or 16 bits")
    return bits


# Magic number, width, height, largest value; with blanks and comments between.
_PPM_HEAD = re.compile(rb"P[2356](?:\s+(?:#[^\n]*\n\s*)*(\d+)){3}")


def _jpeg_2000_sizes(data: bytes) -> bytes:
    """Of each component one byte: bits less one, and 128 where they are signed."""
    start = data.index(b"\xff\x4f\xff\x51") + 40  # markers SOC and SIZ; then lengths and offsets
    count = int.from_bytes(data[start : start + 2])
    return data[start + 2 : start + 2 + 3 * count : 3]


def _isobmff_depths(data: bytes) -> set[int]:
    """Bits of all pictures of an AVIF or HEIC, which the decoders would bring to 8 without a word."""
    avif = {10 if flags & 64 else 8 for (flags,) in re.findall(rb"av1C\x81.(.)", data, re.DOTALL)}
    heic = {8 + (depth & 7) for (depth,) in re.findall(rb"hvcC\x01.{16}(.)", data, re.DOTALL)}
    return avif | heic or {8}


def planes_8(image: Image.Image) -> np.ndarray:
    """``(H, W, 1..4)`` uint8: gray stays gray, 1 bit becomes gray, all else RGB; with alpha where there is any."""
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    mode += "A" if image.has_transparency_data else ""
    return np.atleast_3d(np.asarray(image if image.mode == mode else image.convert(mode)))


def _upper_8(planes: np.ndarray, format: str | None) -> np.ndarray:
    """What Pillow makes of 16 bits: it cuts them off, or rounds; in JPEG 2000 the brightest so become 0."""
    if format == "JPEG2000":
        return (planes + np.int32(128) >> 8) & 255
    return np.rint(planes / 257) if format == "PPM" else planes >> 8


def _planes_16(image: Image.Image, data: bytes) -> np.ndarray:
    """By OpenCV, checked against what Pillow makes of the same file: all 16 bits of gray, 8 of color."""
    view = np.atleast_3d(np.asarray(image))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    planes = np.atleast_3d(np.asarray(decoded))[..., : view.shape[2]]
    if planes.shape[2:] > (1,):
        planes = planes[..., [2, 1, 0, 3][: planes.shape[2]]]
    # OpenCV gives wrong pixels or 8 bits for some kinds: separate planes, premultiplied alpha, gray with alpha in TIFF.
    eight = view.dtype == np.uint8
    if planes.dtype != np.uint16 or not np.array_equal(_upper_8(planes, image.format) if eight else planes, view):
        raise UnreadableImage("this kind of 16-bit file is not supported; convert it to a 16-bit PNG")
    if image.format == "PNG" and data[data.index(b"IHDR") + 13] == 4:  # gray with alpha, decoded as RGBA
        planes = planes[..., [0, 3]]
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0:  # white is zero
        planes = 65535 - planes
    if (transparent := image.info.get("transparency")) is not None:  # PNG's tRNS: one color stands for no color
        alpha = np.where((planes == transparent).all(axis=2), 0, 65535).astype(np.uint16)
        planes = np.dstack([planes, alpha])
    return planes
