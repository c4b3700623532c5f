"""A picture -> the bytes of a file: PNG, TIFF, JPEG, WebP, BMP, with color profile, EXIF, alpha and 16 bit."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from refine.io.decode import reason
from refine.io.exif import EXIF_HEAD, descriptive
from refine.io.formats import FORMATS
from refine.io.metadata import by_pillow, png_chunks, tiff_tags, warn_of_lost
from refine.io.picture import Picture

_QUALITY: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 95, "subsampling": 0},
    "webp": {"lossless": True, "exact": True},  # exact: also the colors under full transparency
    "bmp": {},
}
_LONGEST_SIDE = {"jpg": 65500, "webp": 16383}
_LONGEST_EXIF = {"jpg": 65533}  # one JPEG segment, with EXIF_HEAD in it
_STRIP = 2**20  # px that are made ready for the file at a time
_LEVEL = 3  # of zlib: with PNG's "up" filter 8-20 % larger than Pillow's default, in a quarter of its time


def check_format(picture: Picture, format: str) -> None:
    """Refuse a format that would lose something of the picture; worth asking before a long computation.

    Args:
        picture: Picture to be written, 8 or 16 bits per channel.
        format: ``png``, ``tiff``, ``webp``, ``jpg`` or ``bmp``.

    Raises:
        ValueError: 16 bits in jpg, webp or bmp; alpha in jpg or bmp; too many pixels a side; more than 64 KiB
            of EXIF in jpg; an unknown format.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; use one of: {', '.join(FORMATS)}.")
    if picture.pixels.dtype == np.uint16 and format not in ("png", "tiff"):
        raise ValueError(f"{format} has 8 bits and the picture 16; use format=png or format=tiff.")
    if picture.alpha is not None and format in ("jpg", "bmp"):
        raise ValueError(f"{format} has no alpha and the picture has; use format=png, format=tiff or format=webp.")
    if (side := max(picture.size)) > (longest := _LONGEST_SIDE.get(format, side)):
        raise ValueError(f"{format} ends at {longest} pixels a side; got {side}. Use format=png or format=tiff.")
    if (length := len(picture.exif or b"")) > (longest := _LONGEST_EXIF.get(format, length)):
        raise ValueError(f"{format} holds at most {longest} bytes of EXIF; the picture has {length}. Use format=png.")


def encode(picture: Picture, format: str, name: str = "result") -> bytes:
    """The bytes of a file; the same picture gives the same bytes.

    Args:
        picture: Picture to write, 8 or 16 bits per channel.
        format: ``png``, ``tiff`` or ``bmp``; ``webp`` (lossless as well); ``jpg`` (quality 95, full chroma).
        name: Name of the result, for the warning of metadata that the format does not hold.

    Raises:
        ValueError: The format would lose something of the picture, see `check_format`.
    """
    check_format(picture, format)
    warn_of_lost(picture.metadata, format, name)
    if format == "png":
        return _png(picture)
    return _tiff(picture) if format == "tiff" else _by_pillow(picture, format)


def _png(picture: Picture) -> bytes:
    """One writer for all depths: Pillow writes no 16-bit color, OpenCV no profile, EXIF or gray with alpha."""
    planes = picture.planes
    height, width, channels = planes.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * planes.itemsize, kind, 0, 0, 0))]
    if picture.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc)))
    if picture.exif:
        chunks.append((b"eXIf", picture.exif.removeprefix(EXIF_HEAD)))
    chunks += [*png_chunks(picture.metadata), (b"IDAT", _png_rows(planes)), (b"IEND", b"")]
    parts = [
        (struct.pack(">I", len(d)), tag, d, struct.pack(">I", zlib.crc32(d, zlib.crc32(tag)))) for tag, d in chunks
    ]
    return b"".join([b"\x89PNG\r\n\x1a\n", *(piece for part in parts for piece in part)])


def _png_rows(planes: np.ndarray) -> bytes:
    """The pixels as PNG has them: each row minus the one above, deflated; in strips, which gives the same bytes."""
    deflate, packed = zlib.compressobj(_LEVEL), list[bytes]()
    height, width = planes.shape[:2]
    above = np.zeros((1, *planes.shape[1:]), planes.dtype)
    for top in range(0, height, count := max(1, _STRIP // width)):
        rows = np.concatenate([above, planes[top : top + count]])
        above = rows[-1:]
        rows = rows.astype(planes.dtype.newbyteorder(">")).reshape(len(rows), -1).view(np.uint8)
        filtered = np.pad(rows[1:], ((0, 0), (1, 0)), constant_values=2)  # 2 = "up"
        filtered[:, 1:] -= rows[:-1]
        packed.append(deflate.compress(filtered.data))
    return b"".join([*packed, deflate.flush()])


def _tiff(picture: Picture) -> bytes:
    """One strip, differences of neighbors, deflate; Pillow writes the header but knows no 16-bit color."""
    planes = picture.planes
    if planes.dtype == np.uint16 and planes.shape[2] == 2:
        planes = planes[..., [0, 0, 0, 1]]  # neither Pillow nor OpenCV reads 16-bit gray with alpha
    height, width, channels = planes.shape
    differences = planes.astype(planes.dtype.newbyteorder("<"), order="C")
    differences[:, 1:] -= planes[:, :-1]
    strip = zlib.compress(differences.data, _LEVEL)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in (tiff_tags(picture.metadata) | _tiff_notes(picture)).items():
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
        return {**descriptive(exif), **notes}
    except Exception as error:  # a result is worth writing without its notes
        warnings.warn(f"EXIF is not written to the TIFF: {reason(error)}.", stacklevel=4)
        return notes


def _by_pillow(picture: Picture, format: str) -> bytes:
    notes: dict[str, Any] = {"icc_profile": picture.icc, "exif": picture.exif or b""}
    if format == "bmp" and any(notes.values()):
        warnings.warn("bmp holds neither color profile nor EXIF; to keep them use format=png.", stacklevel=3)
    notes |= by_pillow(picture.metadata, format)
    planes = picture.planes
    image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
    image.save(file := io.BytesIO(), FORMATS[format], **notes, **_QUALITY[format])
    return file.getvalue()
