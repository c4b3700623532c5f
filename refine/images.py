"""Files <-> tensors: formats, EXIF, ICC, alpha, 16 bit, atomic writes.

A `Picture` holds a file's own integers. The network sees a float copy of them; `fill` puts its answer into the
hole and leaves every other integer alone, which is how known pixels come back bit-exact.
"""

import io
import os
import struct
import uuid
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

SUFFIXES: Mapping[str, str] = MappingProxyType(
    {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff", ".bmp": "bmp"}
)
"""Suffix of a file, in lower case -> the name of its format."""

_PILLOW = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP"}
_QUALITY: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 95, "subsampling": 0},
    "webp": {"lossless": True, "exact": True},  # exact: also the colors under full transparency
    "bmp": {},
}
_LONGEST_SIDE = {"jpg": 65500, "webp": 16383}
_LEVEL = 3  # of zlib: with PNG's "up" filter 8-20 % larger than Pillow's default, in a quarter of its time
_EXIF_HEAD = b"Exif\0\0"
_SUBDIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# In a TIFF the file's own header is the EXIF: these tags tell about the photo, the others how its pixels are stored.
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, *_SUBDIRECTORIES)


class UnreadableImage(ValueError):
    """A file that cannot be read as an image; the message names it and says why, in one line."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image file, upright, in its own integers.

    Attributes:
        pixels: ``(H, W, C)`` uint8 or uint16, C = 1 (grey) or 3 (RGB).
        alpha: ``(H, W)`` of the same dtype, or None.
        icc: The color profile that ``pixels`` are in, or None.
        exif: EXIF without orientation and preview image, in the form Pillow takes, or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)``."""
        height, width = self.pixels.shape[:2]
        return height, width

    @property
    def planes(self) -> np.ndarray:
        """``(H, W, 1..4)``: the pixels, then alpha where there is one."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])


def read_picture(path: str | Path) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF or BMP; the contents decide which, not the suffix.

    Palette, CMYK, YCbCr and LAB become RGB, 1 bit becomes 8-bit grey, 16 bits stay 16 bits, and transparency of
    any kind becomes ``alpha``. Of several frames the first is read, with a warning.

    Raises:
        UnreadableImage: Whatever is wrong with the file.
    """
    try:
        if (file := Path(path)).exists() and not file.is_file():  # a pipe or a device could keep us waiting forever
            raise UnreadableImage("it is not a file")
        return _decode(file.read_bytes(), str(path))
    except Exception as error:  # decoders answer damaged files with nearly any exception
        raise UnreadableImage(f"cannot read {str(path)!r}: {_reason(error)}.") from None


def read_mask(path: str | Path, threshold: float = 0.5, invert: bool = False, dilate: int = 0) -> np.ndarray:
    """Read a mask from any file `read_picture` reads.

    Returns:
        ``(H, W)`` bool, True = hole; see `as_mask` for the arguments.

    Raises:
        UnreadableImage: Whatever is wrong with the file.
        ValueError: As `as_mask`.
    """
    return as_mask(read_picture(path).planes, threshold, invert, dilate)


def as_mask(values: np.ndarray, threshold: float = 0.5, invert: bool = False, dilate: int = 0) -> np.ndarray:
    """Decide which pixels are hole.

    Args:
        values: ``(H, W)`` or ``(H, W, 1..4)`` (grey, grey + alpha, RGB, RGBA) as bool, uint8, uint16 or float in
            [0, 1]. What counts is luminance times alpha, so a transparent pixel is never bright.
        threshold: Pixels at least this bright are hole, in (0, 1].
        invert: Exchange hole and known, before dilation.
        dilate: Grow the hole by this many pixels, with a round kernel.

    Returns:
        ``(H, W)`` bool, True = hole.

    Raises:
        ValueError: For a threshold, dilation, shape, dtype or range other than these.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], a share of full brightness; got {threshold}.")
    if dilate < 0:
        raise ValueError(f"dilate must be 0 or more pixels; got {dilate}.")
    mask = (_brightness(values) >= threshold) ^ invert
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * dilate + 1, 2 * dilate + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), dtype=bool) if dilate else mask


def to_tensor(picture: Picture) -> Tensor:
    """``(1, 3, H, W)`` float32 in [0, 1]; grey is repeated."""
    color = picture.pixels.transpose(2, 0, 1).astype(np.float32) / np.iinfo(picture.pixels.dtype).max
    return torch.from_numpy(np.repeat(color, 3 // len(color), axis=0))[None]


def mask_to_tensor(mask: np.ndarray) -> Tensor:
    """``(1, 1, H, W)`` float32, 1 = hole, of an ``(H, W)`` bool mask."""
    return torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None, None]


def fill(picture: Picture, image: Tensor, mask: np.ndarray) -> Picture:
    """Take the hole from a tensor and everything else from the picture.

    Args:
        picture: The original.
        image: ``(1, 3, H, W)`` in [0, 1]; rounded to the picture's depth, and to its luma where the picture is grey.
        mask: ``(H, W)`` bool, True = hole.

    Returns:
        A new picture; known pixels, alpha, profile and EXIF are the original's.

    Raises:
        ValueError: The three do not fit together.
    """
    if image.shape != (1, 3, *picture.size) or mask.shape != picture.size or mask.dtype != np.bool_:
        got = f"image {tuple(image.shape)} and {mask.dtype} mask {mask.shape}"
        raise ValueError(f"a picture of size {picture.size} needs image (1, 3, H, W) and bool mask (H, W); got {got}.")
    color = image[0].detach().cpu().numpy()[:, mask].astype(np.float64)
    if picture.pixels.shape[2] == 1:
        color = _luma(color)[None]
    pixels = picture.pixels.copy()
    pixels[mask] = np.rint(color.clip(0, 1).T * np.iinfo(pixels.dtype).max)
    return replace(picture, pixels=pixels)


def check_format(picture: Picture, format: str) -> None:
    """Refuse a format that would lose something of the picture; worth asking before a long computation.

    Raises:
        ValueError: 16 bits in jpg, webp or bmp; alpha in jpg or bmp; too many pixels a side; an unknown format.
    """
    if format not in _PILLOW:
        raise ValueError(f"unknown format {format!r}; use one of: {', '.join(_PILLOW)}.")
    if picture.pixels.dtype == np.uint16 and format not in ("png", "tiff"):
        raise ValueError(f"{format} has 8 bits and the picture 16; use format=png or format=tiff.")
    if picture.alpha is not None and format in ("jpg", "bmp"):
        raise ValueError(f"{format} has no alpha and the picture has; use format=png, format=tiff or format=webp.")
    if (side := max(picture.size)) > (longest := _LONGEST_SIDE.get(format, side)):
        raise ValueError(f"{format} ends at {longest} pixels a side; got {side}. Use format=png or format=tiff.")


def encode(picture: Picture, format: str) -> bytes:
    """The bytes of a file; the same picture gives the same bytes.

    Args:
        picture: What to write.
        format: ``png``, ``tiff`` or ``bmp``; ``webp`` (lossless as well); ``jpg`` (quality 95, full chroma).

    Raises:
        ValueError: As `check_format`.
    """
    check_format(picture, format)
    if format == "png":
        return _png(picture)
    return _tiff(picture) if format == "tiff" else _by_pillow(picture, format)


def write_atomic(path: str | Path, data: bytes, scratch: Path) -> None:
    """Write a file that is either complete or not there, whatever happens meanwhile.

    Args:
        path: Where the file belongs.
        data: Its contents.
        scratch: An existing folder on the same file system, for the file while it is incomplete.

    Raises:
        OSError: As the file system says; the incomplete file is gone then.
    """
    temporary = scratch / uuid.uuid4().hex  # not made from the target's name, which may be as long as names can be
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # Pillow's text shows the address of a buffer
        return "its contents are no PNG, JPEG, WebP, TIFF or BMP of a supported kind; convert it to PNG"
    if isinstance(error, UnreadableImage | Image.DecompressionBombError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it is damaged or cut short ({' '.join(str(error).split()) or type(error).__name__})"


def _decode(data: bytes, name: str) -> Picture:
    if not data:
        raise UnreadableImage("it is empty")
    image = Image.open(io.BytesIO(data), formats=list(_PILLOW.values()))
    if (frames := getattr(image, "n_frames", 1)) > 1:
        warnings.warn(f"{name!r} has {frames} frames; only the first is read.", stacklevel=3)
    bits = _bits(image, data)
    image.load()  # raises if the file is cut short, which OpenCV forgives
    planes = _planes_16(image, data) if bits == 16 else _planes_8(image)
    icc = image.info.get("icc_profile") or None
    if image.mode in ("CMYK", "LAB"):
        warnings.warn(f"{name!r} is {image.mode}; converted to RGB, without its color profile.", stacklevel=3)
        icc = None
    orientation, exif = _orientation_and_exif(image, name)
    planes = np.ascontiguousarray(_upright(planes, orientation))
    colors = (planes.shape[2] - 1) // 2 * 2 + 1  # 1 2 3 4 planes -> 1 1 3 3
    return Picture(planes[..., :colors], planes[..., colors] if colors < planes.shape[2] else None, icc, exif)


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


def _planes_8(image: Image.Image) -> np.ndarray:
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    return np.atleast_3d(np.asarray(image.convert(mode + "A" if image.has_transparency_data else mode)))


def _planes_16(image: Image.Image, data: bytes) -> np.ndarray:
    """By OpenCV, checked against what Pillow makes of the same file: all 16 bits of grey, the upper 8 of color."""
    view = np.atleast_3d(np.asarray(image))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    planes = np.atleast_3d(np.asarray(decoded))[..., : view.shape[2]]
    if planes.shape[2:] > (1,):
        planes = planes[..., [2, 1, 0, 3][: planes.shape[2]]]
    # OpenCV gives wrong pixels or 8 bits for some kinds: separate planes, premultiplied alpha, grey with alpha in TIFF.
    if planes.dtype != np.uint16 or not np.array_equal(planes >> 8 if view.dtype == np.uint8 else planes, view):
        raise UnreadableImage("this kind of 16-bit file is not supported; convert it to a 16-bit PNG")
    if image.format == "PNG" and data[data.index(b"IHDR") + 13] == 4:  # grey with alpha, decoded as RGBA
        planes = planes[..., [0, 3]]
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0:  # white is zero
        planes = 65535 - planes
    if (transparent := image.info.get("transparency")) is not None:  # PNG's tRNS: one color stands for no color
        alpha = np.where((planes == transparent).all(axis=2), 0, 65535).astype(np.uint16)
        planes = np.dstack([planes, alpha])
    return planes


def _upright(planes: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        planes = planes[:, ::-1]
    return planes[::-1] if orientation in (3, 4, 7, 8) else planes


def _orientation_and_exif(image: Image.Image, name: str) -> tuple[int, bytes | None]:
    """Orientation still to be applied, and EXIF without it; TIFFs, and only those, both decoders have turned."""
    try:
        exif, raw = image.getexif(), image.info.get("exif")
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            (kept := Image.Exif()).update(_descriptive(exif))
            return 1, kept.tobytes() if kept else None
        return exif.get(ExifTags.Base.Orientation, 1), _without_orientation(raw) if raw else None
    except Exception as error:  # as with the pixels; but a photo is worth reading without its notes
        warnings.warn(f"the EXIF of {name!r} is ignored: {_reason(error)}.", stacklevel=4)
        return 1, None


def _without_orientation(exif: bytes) -> bytes | None:
    """Cut one entry from the first directory, and the way to the second: the preview there shows the original.

    Every other byte stays where it is, because offsets point there; Pillow would also spoil text beyond ASCII.
    """
    exif = exif.removeprefix(_EXIF_HEAD)
    order = "<" if exif[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, start)
    end = start + 2 + 12 * count
    entries = [exif[at : at + 12] for at in range(start + 2, end, 12)]
    kept = [entry for entry in entries if entry[:2] != struct.pack(order + "H", ExifTags.Base.Orientation)]
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept)
    return _EXIF_HEAD + exif[:start] + directory.ljust(end + 4 - start, b"\0") + exif[end + 4 :] if kept else None


def _descriptive(exif: Image.Exif) -> dict[int, Any]:
    """What a TIFF's header and EXIF have in common, as values Pillow can write."""
    tags = {tag: exif.get_ifd(tag) if tag in _SUBDIRECTORIES else exif[tag] for tag in _DESCRIPTIVE if tag in exif}
    # Pillow reads text as Latin-1 but writes "?" for all that is not ASCII; as bytes it survives.
    return {tag: value.encode("latin-1") if isinstance(value, str) else value for tag, value in tags.items()}


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


def _png(picture: Picture) -> bytes:
    """One writer for all depths: Pillow writes no 16-bit color, OpenCV no profile, EXIF or grey with alpha."""
    planes = picture.planes
    height, width, channels = planes.shape
    rows = planes.astype(planes.dtype.newbyteorder(">"), order="C").reshape(height, -1).view(np.uint8)
    filtered = np.pad(rows, ((0, 0), (1, 0)), constant_values=2)  # 2 = "up": each row minus the one above
    filtered[1:, 1:] -= rows[:-1]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8 * planes.itemsize, kind, 0, 0, 0)}
    if picture.icc:
        chunks[b"iCCP"] = b"ICC profile\0\0" + zlib.compress(picture.icc)
    if picture.exif:
        chunks[b"eXIf"] = picture.exif.removeprefix(_EXIF_HEAD)
    chunks |= {b"IDAT": zlib.compress(filtered.data, _LEVEL), b"IEND": b""}
    sealed = [struct.pack(">I", len(d)) + tag + d + struct.pack(">I", zlib.crc32(tag + d)) for tag, d in chunks.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(sealed)


def _tiff(picture: Picture) -> bytes:
    """One strip, differences of neighbors, deflate; Pillow writes the header but knows no 16-bit color."""
    planes = picture.planes
    if planes.dtype == np.uint16 and planes.shape[2] == 2:
        planes = planes[..., [0, 0, 0, 1]]  # neither Pillow nor OpenCV reads 16-bit grey with alpha
    height, width, channels = planes.shape
    differences = planes.astype(planes.dtype.newbyteorder("<"), order="C")
    differences[:, 1:] -= planes[:, :-1]
    strip = zlib.compress(differences.data, _LEVEL)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in _tiff_notes(picture).items():
        tags[tag] = value
    tags[256], tags[257], tags[277], tags[278] = width, height, channels, height
    tags[258], tags[339] = (8 * planes.itemsize,) * channels, (1,) * channels  # bits, of unsigned integers
    tags[259], tags[317] = 8, 2  # deflate of differences
    tags[262] = 2 if channels > 2 else 1  # RGB or black is zero
    tags[273], tags[279] = 0, len(strip)  # Pillow adds the header's length to 0
    if channels in (2, 4):
        tags[338] = 2  # straight alpha
    tags.save(file := io.BytesIO())
    return file.getvalue() + strip


def _tiff_notes(picture: Picture) -> dict[int, Any]:
    notes = {34675: picture.icc} if picture.icc else {}
    try:
        (exif := Image.Exif()).load(picture.exif or b"")
        return {**_descriptive(exif), **notes}
    except Exception as error:  # a result is worth writing without its notes
        warnings.warn(f"EXIF is not written to the TIFF: {_reason(error)}.", stacklevel=4)
        return notes


def _by_pillow(picture: Picture, format: str) -> bytes:
    notes = {"icc_profile": picture.icc, "exif": picture.exif or b""}
    if format == "bmp" and any(notes.values()):
        warnings.warn("bmp holds neither color profile nor EXIF; to keep them use format=png.", stacklevel=3)
    planes = picture.planes
    image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
    image.save(file := io.BytesIO(), _PILLOW[format], **notes, **_QUALITY[format])
    return file.getvalue()
