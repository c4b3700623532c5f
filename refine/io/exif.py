"""EXIF: the orientation to apply, and what a picture keeps of the rest: all but the preview image."""

import struct
import warnings
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from refine.io.decode import reason

EXIF_HEAD = b"Exif\0\0"
_SUBDIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# In a TIFF the file's own header is the EXIF: these tags tell about the photo, the others how its pixels are stored.
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, *_SUBDIRECTORIES)


def upright(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror pixels as EXIF's orientation says.

    Args:
        planes: ``(H, W, C)`` pixels as stored.
        orientation: EXIF tag 274, 1 to 8; other numbers change nothing.

    Returns:
        ``(H, W, C)`` or ``(W, H, C)`` view of the same pixels, upright.
    """
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        planes = planes[:, ::-1]
    return planes[::-1] if orientation in (3, 4, 7, 8) else planes


def upright_image(image: Image.Image) -> Image.Image:
    """A PIL image turned and mirrored as its EXIF orientation says, and without that tag; the same object if upright.

    Args:
        image: PIL image, as opened from a file or made in memory; it is not changed.
    """
    image.load()  # Pillow turns TIFFs while it loads them
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception as error:  # as with files: an image is worth filling without its notes
        warnings.warn(f"the EXIF of the PIL image is ignored: {reason(error)}.", stacklevel=4)
        return image


def orientation_and_exif(image: Image.Image, name: str) -> tuple[int, bytes | None]:
    """Orientation still to be applied, and EXIF without it; TIFFs, and only those, both decoders have turned.

    Args:
        image: Image opened by Pillow.
        name: Name of the file, for the warning that its EXIF is damaged.
    """
    try:
        exif, raw = image.getexif(), image.info.get("exif")
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            (kept := Image.Exif()).update(descriptive(exif))
            return 1, kept.tobytes() if kept else None
        return exif.get(ExifTags.Base.Orientation, 1), _without_orientation(raw) if raw else None
    except Exception as error:  # as with the pixels; but a photo is worth reading without its notes
        warnings.warn(f"the EXIF of {name!r} is ignored: {reason(error)}.", stacklevel=4)
        return 1, None


def descriptive(exif: Image.Exif) -> dict[int, Any]:
    """What a TIFF's header and EXIF have in common, as values Pillow can write."""
    tags = {tag: exif.get_ifd(tag) if tag in _SUBDIRECTORIES else exif[tag] for tag in _DESCRIPTIVE if tag in exif}
    # Pillow reads text as Latin-1 but writes "?" for all that is not ASCII; as bytes it survives.
    return {tag: value.encode("latin-1") if isinstance(value, str) else value for tag, value in tags.items()}


def _without_orientation(exif: bytes) -> bytes | None:
    """Cut one entry from the first directory, and the way to the second: the preview there shows the original.

    Every other byte stays where it is, because offsets point there; Pillow would also spoil text beyond ASCII.
    """
    exif = exif.removeprefix(EXIF_HEAD)
    order = "<" if exif[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, start)
    end = start + 2 + 12 * count
    entries = [exif[at : at + 12] for at in range(start + 2, end, 12)]
    kept = [entry for entry in entries if entry[:2] != struct.pack(order + "H", ExifTags.Base.Orientation)]
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept)
    return EXIF_HEAD + exif[:start] + directory.ljust(end + 4 - start, b"\0") + exif[end + 4 :] if kept else None
