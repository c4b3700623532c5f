"""What a file says about its picture besides pixels, profile and EXIF: resolution, XMP, IPTC, comment, chunks, tags."""

import struct
import warnings
from collections.abc import Mapping
from typing import Any

from PIL import Image, TiffImagePlugin

_CHUNKS = {b"tEXt": "text", b"zTXt": "text", b"iTXt": "text"} | {
    name.encode(): name for name in ("cICP", "gAMA", "cHRM", "sRGB")
}
_XMP_HEAD = b"XML:com.adobe.xmp\0"
_XMP_TAG = 700
_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
_IPTC_TAG, _IPTC_RESOURCE = 33723, 0x0404  # of a TIFF, and among Photoshop's resources of a JPEG
_LONGEST = {"xmp": 65000, "IPTC": 65000, "comment": 65000}  # bytes; one JPEG segment
_HELD = {
    "png": {"dpi", "xmp", "cICP", "gAMA", "cHRM", "sRGB", "text", "comment"},
    "tiff": {"dpi", "xmp", "IPTC", "GeoTIFF"},
    "jpg": {"dpi", "xmp", "IPTC", "comment"},
    "webp": {"xmp"},
    "bmp": {"dpi"},
}


def read_metadata(image: Image.Image, data: bytes) -> dict[str, Any]:
    """The metadata of a file by its name; empty for a file without.

    Args:
        image: Image opened and loaded by Pillow.
        data: Bytes of the same file.

    Returns:
        ``dpi`` (horizontal, vertical), ``xmp``, ``IPTC`` and ``comment`` (bytes), ``cICP``, ``gAMA``, ``cHRM``,
        ``sRGB`` and ``text`` (lists of PNG chunks, each its type and bytes) and ``GeoTIFF`` (values by tag).
    """
    found: dict[str, Any] = {}
    density = image.format != "JPEG" or image.info.get("jfif_unit") in (1, 2)  # else Pillow's own guess
    dpi = tuple(float(value) for value in image.info.get("dpi", ())) if density else ()
    unset = image.format == "BMP" and {round(value) for value in dpi} == {96}  # what stands in a BMP by default
    if dpi and not unset and all(0 < value < 60000 for value in dpi):
        found["dpi"] = dpi
    if xmp := image.info.get("xmp"):
        found["xmp"] = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    if iptc := _iptc(image):
        found["IPTC"] = iptc
    if comment := image.info.get("comment"):
        found["comment"] = comment.encode() if isinstance(comment, str) else bytes(comment)
    if image.format == "PNG":
        for kind, content in _chunks(data):
            if kind in _CHUNKS and not content.startswith(_XMP_HEAD):
                found.setdefault(_CHUNKS[kind], []).append((kind, content))
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = {tag: image.tag_v2[tag] for tag in _GEO_TAGS if tag in image.tag_v2}
        found |= {"GeoTIFF": tags} if tags else {}
    return found


def held(metadata: Mapping[str, Any], format: str) -> dict[str, Any]:
    """The part of the metadata that a format can hold; arguments as :func:`warn_of_lost`."""
    long = {key for key, longest in _LONGEST.items() if format == "jpg" and len(metadata.get(key, b"")) > longest}
    return {key: value for key, value in metadata.items() if key in _HELD[format] - long}


def warn_of_lost(metadata: Mapping[str, Any], format: str, name: str) -> None:
    """Name what a format cannot hold.

    Args:
        metadata: Metadata of a picture.
        format: Format of the file that is written.
        name: Name of the result, for the warning.
    """
    if lost := [key for key in metadata if key not in held(metadata, format)]:
        warnings.warn(f"{name}: {format} does not hold this metadata of the image: {', '.join(lost)}.", stacklevel=3)


def png_chunks(metadata: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Chunks that stand before a PNG's pixels: type and bytes of each."""
    chunks = [chunk for name in ("cICP", "cHRM", "gAMA", "sRGB", "text") for chunk in metadata.get(name, ())]
    if "dpi" in metadata:
        across, down = (round(value / 0.0254) for value in metadata["dpi"])
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if "comment" in metadata:
        chunks.append((b"tEXt", b"Comment\0" + metadata["comment"].replace(b"\0", b"")))
    if "xmp" in metadata:
        chunks.append((b"iTXt", _XMP_HEAD + b"\0\0\0\0" + metadata["xmp"]))
    return chunks


def tiff_tags(metadata: Mapping[str, Any]) -> dict[int, Any]:
    """Tags of a TIFF by their numbers."""
    tags: dict[int, Any] = dict(metadata.get("GeoTIFF", {}))
    if "dpi" in metadata:
        tags |= {282: metadata["dpi"][0], 283: metadata["dpi"][1], 296: 2}
    if "xmp" in metadata:
        tags[_XMP_TAG] = metadata["xmp"]
    if "IPTC" in metadata:
        tags[_IPTC_TAG] = metadata["IPTC"]
    return tags


def by_pillow(metadata: Mapping[str, Any], format: str) -> dict[str, Any]:
    """What a format can hold, as arguments of Pillow's ``save``; arguments as :func:`warn_of_lost`."""
    arguments = held(metadata, format)
    if iptc := arguments.pop("IPTC", None):  # a segment with Photoshop's resources, of which this is one
        resource = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
        content = b"Photoshop 3.0\0" + resource
        arguments["extra"] = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    return arguments


def _iptc(image: Image.Image) -> bytes:
    """News metadata as it stands in the file: IPTC's records."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return bytes(image.tag_v2._tagdata.get(_IPTC_TAG, b""))  # raw, as Pillow's own reader: many say it is numbers
    resources = image.info.get("photoshop")
    return bytes(resources.get(_IPTC_RESOURCE, b"")) if isinstance(resources, dict) else b""


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks
