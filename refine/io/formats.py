"""Which image formats are read, which are written, and how a file is opened as one of them and nothing else.

Reading takes pictures of pixels. Left out are formats for which Pillow starts another program or draws (EPS, WMF, PDF),
and files that are no single picture: layers (PSD), icons in several sizes (ICO, CUR, ICNS), textures (DDS, BLP, FTEX),
films (FLI, MPEG), measurements (FITS, GRIB, HDF5).
"""

import contextlib
import importlib
import os
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

FORMATS: Mapping[str, str] = MappingProxyType(
    {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP"}
)
"""Name of a format that is written -> Pillow's name of it."""

WRITTEN: Mapping[str, str] = MappingProxyType(
    {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff", ".bmp": "bmp"}
)
"""Suffix of a file to write, in lower case -> the name of its format."""

_READ = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "QOI": (".qoi",),
    "PCX": (".pcx",),
    "SGI": (".sgi",),
    "HEIF": (".heic", ".heif", ".hif"),  # by the plug-in pillow-heif
    "TGA": (".tga",),  # the last: it has no signature
}
READ = frozenset(suffix for suffixes in _READ.values() for suffix in suffixes)
"""Suffixes of the files that are taken for images, in lower case."""

MEGAPIXELS = 179.0
"""Largest image that is read unless more is allowed, MP, since a small file may hold more than the memory does."""

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


class UnreadableImage(ValueError):
    """A file that cannot be read as an image; the message names it and says why, in one line."""


def open_image(stream: BinaryIO, megapixels: float = MEGAPIXELS) -> Image.Image:
    """Open a file as one of the formats that are read; its contents decide which, not its suffix.

    Args:
        stream: Stream of the file, which can seek; Pillow reads the header now and the pixels later.
        megapixels: Largest image, MP.

    Raises:
        UnreadableImage: The image is larger, or the file is HEIC and the plug-in is not installed.
        Exception: The file is none of these formats or is damaged; decoders raise nearly any kind.
    """
    image = _open_any(stream)
    if image.width * image.height > megapixels * 1e6:
        image.close()
        raise UnreadableImage(
            f"it is {image.width}x{image.height}, {image.width * image.height / 1e6:.4g} megapixels, and up to "
            f"{megapixels:g} are read, in case a file is an attack; if you trust it, let refine predict take more by "
            "data.megapixels="
        )
    return image


def _open_any(stream: BinaryIO) -> Image.Image:
    try:
        return _open(stream)
    except UnidentifiedImageError:
        stream.seek(0)
        head = stream.read(12)
        if head[4:8] != b"ftyp" or head[8:] not in _HEIF_BRANDS:
            raise
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        raise UnreadableImage(
            "it is HEIC, which takes a plug-in: pip install pillow-heif, or convert it to PNG"
        ) from None
    stream.seek(0)
    return _open(stream)


def _open(stream: BinaryIO) -> Image.Image:
    Image.init()  # a build of Pillow may lack a format, and a plug-in bring one
    with PILLOWS_LIMIT.lifted():
        return Image.open(stream, formats=[format for format in _READ if format in Image.OPEN])


class _PillowsLimit:
    """Pillow has one limit for the whole process, so it is lifted only while some thread reads a file here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._limit: int | None = None

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Inside, Pillow opens and decodes images of any size."""
        with self._lock:
            if not self._readers:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    Image.MAX_IMAGE_PIXELS = self._limit

    def restore(self) -> None:
        """Put the limit back in a process that was forked while another thread was reading."""
        if self._readers:
            Image.MAX_IMAGE_PIXELS = self._limit
        self._lock, self._readers = threading.Lock(), 0  # the lock may have been held


PILLOWS_LIMIT = _PillowsLimit()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PILLOWS_LIMIT.restore)
