"""Which image formats are read, which are written, and how a file is opened as one of them and nothing else.

Reading takes pictures of pixels. Left out are formats for which Pillow starts another program or draws (EPS, WMF, PDF),
and files that are no single picture: layers (PSD), icons in several sizes (ICO, CUR, ICNS), textures (DDS, BLP, FTEX),
films (FLI, MPEG), measurements (FITS, GRIB, HDF5).
"""

import importlib
import warnings
from collections.abc import Mapping
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

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


class UnreadableImage(ValueError):
    """A file that cannot be read as an image; the message names it and says why, in one line."""


def allow(megapixels: float) -> None:
    """Let this process open images up to a size; Pillow's own limit is 179 MP, with a warning from half of that.

    Args:
        megapixels: Largest image, MP. A small file may hold more than the memory does.
    """
    Image.MAX_IMAGE_PIXELS = round(megapixels * 5e5)  # Pillow warns above it and refuses above twice as much
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def open_image(stream: BinaryIO) -> Image.Image:
    """Open a file as one of the formats that are read; its contents decide which, not its suffix.

    Args:
        stream: Stream of the file, which can seek; Pillow reads the header now and the pixels later.

    Raises:
        UnreadableImage: The file is HEIC and the plug-in is not installed.
        Exception: The file is none of these formats or is damaged; decoders raise nearly any kind.
    """
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
    return Image.open(stream, formats=[format for format in _READ if format in Image.OPEN])
