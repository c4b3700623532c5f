"""What a user gives: a photo, a mask file, strokes of a brush -> a sample as ``refine predict`` reads it."""

import io
import math
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from refine.app.notices import noticed
from refine.core.types import Sample
from refine.data.dataset import PairDataset
from refine.data.pairs import Failure, ImageMaskPair
from refine.inference.panels import HOLE, shown_size
from refine.io.encode import check_format, encode
from refine.io.formats import FORMATS, WRITTEN, open_image
from refine.io.mask import MaskOptions, examine_mask
from refine.io.picture import Picture, read_picture
from refine.io.transparency import doubt, invisible

_FORMATS = {name: format for format, name in FORMATS.items()} | {"MPO": "jpg"}
_GROUND = 200  # gray behind what is transparent
_OPAQUE = 128  # of 255, from which on a stroke of the brush is hole


@dataclass(frozen=True, eq=False)
class Upload:
    """A file that came through the browser; a :class:`refine.io.files.File` that lies in memory.

    Attributes:
        name: Name of the file, without folders.
        data: Bytes of the file.
    """

    name: str
    data: bytes

    @property
    def stem(self) -> str:
        """Name without suffix."""
        return PurePath(self.name).stem

    def open(self, mode: Literal["rb"], /) -> io.BufferedReader:
        """Open it to read bytes."""
        return io.BufferedReader(io.BytesIO(self.data))

    def read_bytes(self) -> bytes:
        """All its bytes."""
        return self.data

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as it was uploaded, and what the page shows of it.

    Attributes:
        upload: The file, which alone is refined.
        size: ``(height, width)``, px.
        bits: Bits per channel, 8 or 16.
        format: Format of the download.
        transparent: ``(H, W)`` bool, pixels that are fully transparent; None where there are none.
        shown: ``(h, w, 3)`` uint8, reduced to the page's size.
        notes: What is to be said about the file.
    """

    upload: Upload
    size: tuple[int, int]
    bits: int
    format: str
    transparent: np.ndarray | None
    shown: np.ndarray
    notes: list[str] = field(default_factory=list)

    @property
    def result_name(self) -> str:
        """Name of the download: ``<stem>_inpainted`` with the photo's own suffix where its format is kept."""
        suffix = PurePath(self.upload.name).suffix
        kept = WRITTEN.get(suffix.lower()) == self.format
        return f"{self.upload.stem}_inpainted{suffix if kept else '.' + self.format}"


def read_photo(upload: Upload, megapixels: float, side: int, format: str) -> Photo:
    """Read a photo; its header alone decides whether it is too large.

    Args:
        upload: File of the photo.
        megapixels: Largest photo.
        side: Longest side on the page, px.
        format: Format of the download where the photo's own is not written, or would lose something.

    Raises:
        UnreadableImage: The file is no image that can be read.
        ValueError: The photo is too large.
    """
    height, width, own = _header(upload) or (0, 0, "")
    if width * height > megapixels * 1e6:
        raise ValueError(
            f"{upload.name} is {width}x{height}, {width * height / 1e6:.0f} megapixels; this page takes up to "
            f"{megapixels:g} (megapixels=). Use refine predict for larger photos."
        )
    with noticed() as notes:
        picture = read_picture(upload, megapixels)
    try:
        check_format(picture, own := _FORMATS.get(own, format))
    except ValueError:  # such as 16 bits of JPEG 2000
        own = format
    bits = 8 * picture.pixels.itemsize
    return Photo(upload, picture.size, bits, own, invisible(picture), _shown(picture, side), notes)


def read_hole(upload: Upload, photo: Photo, options: MaskOptions) -> tuple[np.ndarray, list[str]]:
    """Read a mask file.

    Args:
        upload: File of the mask.
        photo: Photo that it belongs to.
        options: How it is read.

    Returns:
        ``(H, W)`` bool, True = hole; and what is to be said about it.

    Raises:
        UnreadableImage: The file is no image that can be read.
        ValueError: It has another size than the photo, or looks like a photo itself.
    """
    header = _header(upload)
    if header and sorted(header[:2]) != sorted(photo.size):  # EXIF may turn it, which shows when it is decoded
        raise _other_size(upload, header[:2], photo)
    mask = read_picture(upload, math.inf)  # it has as many pixels as the photo, or is no image
    if mask.size != photo.size:
        raise _other_size(upload, mask.size, photo)
    picture = read_picture(photo.upload, math.inf)  # as it was read before
    reading = examine_mask(mask, upload.name, options, picture)
    found = doubt(reading.hole, picture, options.invert)
    return reading.hole, [text for text in (reading.note, found and f"the mask {found}") if text]


def painted_hole(strokes: np.ndarray | None, photo: Photo) -> np.ndarray:
    """Where the brush was, at the size of the photo.

    Args:
        strokes: ``(h, w)`` uint8 opacity of the strokes, of the size of ``photo.shown``; None for none.
        photo: Photo that was painted on.

    Returns:
        ``(H, W)`` bool, True = hole.

    Raises:
        ValueError: The strokes have another size.
    """
    if strokes is None or not strokes.any():
        return np.zeros(photo.size, bool)
    (height, width), (shown_height, shown_width) = strokes.shape, photo.shown.shape[:2]
    if (height, width) != (shown_height, shown_width):
        raise ValueError(
            f"the strokes are {width}x{height}, but the photo on the page is {shown_width}x{shown_height}: load the "
            "page again and paint once more."
        )
    return np.asarray(cv2.resize(strokes, photo.size[::-1], interpolation=cv2.INTER_LINEAR) >= _OPAQUE)


def drawn(strokes: np.ndarray) -> np.ndarray:
    """Strokes as a layer of the page's editor, ``(h, w, 4)`` uint8 RGBA.

    Args:
        strokes: ``(h, w)`` uint8 opacity.
    """
    colors = np.full((*strokes.shape, 3), np.rint(np.array(HOLE) * 255), np.uint8)
    return np.dstack([colors, strokes])


def make_sample(photo: Photo, hole: np.ndarray) -> Sample:
    """The sample of ``refine predict`` for a photo of this name and a mask file with this hole.

    Args:
        photo: Photo that is to be refined.
        hole: ``(H, W)`` bool, True = hole.

    Raises:
        ValueError: The two do not fit together.
    """
    mask = Upload("of the hole", encode(Picture(hole[..., None].astype(np.uint8) * 255), "png"))
    pair = ImageMaskPair(photo.upload.stem, photo.upload, mask)
    sample = PairDataset([pair], MaskOptions(channel="luminance"), photo.format, megapixels=math.inf)[0]
    if isinstance(sample, Failure):
        raise ValueError(sample.reason)
    return sample


def with_hole(photo: Photo, hole: np.ndarray | None) -> np.ndarray:
    """The photo as it is shown, with a hole marked, ``(h, w, 3)`` uint8.

    Args:
        photo: Photo that is to be refined.
        hole: ``(H, W)`` bool, True = hole; None for none.
    """
    if hole is None or not hole.any():
        return photo.shown
    height, width = photo.shown.shape[:2]
    share = cv2.resize(hole.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)[..., None]
    return np.asarray(np.rint(photo.shown * (1 - share) + np.array(HOLE) * 255 * share), np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    """A picture for the page.

    Args:
        pixels: ``(h, w, 3)`` uint8.
    """
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=92, subsampling=0)
    return file.getvalue()


def _header(upload: Upload) -> tuple[int, int, str] | None:
    """Height and width, px, and Pillow's name of the format, with no pixel decoded; None for what is no image."""
    try:
        with open_image(io.BytesIO(upload.data), math.inf) as image:
            return image.height, image.width, image.format or ""
    except Exception:  # decoders answer damaged files with nearly any exception; read_picture says why
        return None


def _other_size(mask: Upload, size: tuple[int, int], photo: Photo) -> ValueError:
    return ValueError(
        f"the mask {mask.name} is {size[1]}x{size[0]}, but the photo {photo.upload.name} is "
        f"{photo.size[1]}x{photo.size[0]}. Masks are never resized: make them the same size."
    )


def _shown(picture: Picture, side: int) -> np.ndarray:
    """``(h, w, 3)`` uint8; what is transparent shows a gray ground."""
    height, width = shown_size(picture.size, side)
    scale = np.iinfo(picture.pixels.dtype).max / 255
    planes = cv2.resize(picture.planes, (width, height), interpolation=cv2.INTER_AREA)
    planes = np.atleast_3d(planes).astype(np.float32) / scale
    colors = np.repeat(planes[..., :1], 3, axis=2) if planes.shape[2] < 3 else planes[..., :3]
    if picture.alpha is not None:
        colors = _GROUND + (colors - _GROUND) * planes[..., -1:] / 255
    return np.asarray(np.rint(colors).clip(0, 255), np.uint8)
