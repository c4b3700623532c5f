"""Pixels, pictures, EXIF, and image files written independently of the code under test."""

import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

from refine.io.picture import Picture

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION, ARTIST, EXIF_IFD, TAKEN = 0x0112, 0x013B, 0x8769, 0x9003


def random_planes(channels, dtype=np.uint8, height=23, width=31, seed=0):
    values = np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)
    return values if dtype == np.uint16 else (values >> 8).astype(np.uint8)


def picture_of(planes, **notes):
    colors = 3 if planes.shape[2] > 2 else 1
    return Picture(planes[..., :colors], planes[..., colors] if planes.shape[2] > colors else None, **notes)


def exif_of(orientation=None):
    exif, loaded = Image.Exif(), Image.Exif()
    exif.get_ifd(EXIF_IFD)[TAKEN] = "2020:01:02 03:04:05"
    exif[ORIENTATION] = orientation or 1
    loaded.load(exif.tobytes())  # otherwise Pillow leaves the inner directory out of a TIFF
    loaded[ARTIST] = b"Jos\xc3\xa9"
    if orientation is None:
        del loaded[ORIENTATION]
    return loaded


def exif_bytes(orientation=None):
    return exif_of(orientation).tobytes()


def assert_keeps_notes(exif):
    loaded = Image.Exif()
    loaded.load(exif)
    assert ORIENTATION not in loaded
    assert loaded[ARTIST].encode("latin-1") == b"Jos\xc3\xa9"
    assert loaded.get_ifd(EXIF_IFD)[TAKEN] == "2020:01:02 03:04:05"


def save(path, planes, format="PNG", **options):
    Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes).save(path, format, **options)
    return path


def png_16(planes, *extra, size=None):
    """A 16-bit PNG written without any filter, independent of the code under test."""
    height, width, channels = planes.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in planes)
    head = struct.pack(">IIBBBBB", *(size or (width, height)), 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    )


def tiff_16(planes, photometric, planar=1, extra=(), order=">"):
    """An uncompressed 16-bit TIFF, independent of the code under test."""
    height, width, channels = planes.shape
    data = (planes if planar == 1 else planes.transpose(2, 0, 1)).astype(order + "u2").tobytes()
    strips = 1 if planar == 1 else channels
    entries = [
        (256, [width]), (257, [height]), (258, [16] * channels), (259, [1]), (262, [photometric]),
        (273, [8 + i * len(data) // strips for i in range(strips)]), (277, [channels]), (278, [height]),
        (279, [len(data) // strips] * strips), (284, [planar]),
    ]  # fmt: skip
    entries = sorted([*entries, *extra])
    where = 8 + len(data)
    table, tail = struct.pack(order + "H", len(entries)), b""
    behind = where + 2 + 12 * len(entries) + 4
    for tag, values in entries:
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, tail = struct.pack(order + "I", behind + len(tail)), tail + packed
        table += struct.pack(order + "HHI", tag, 4, len(values)) + packed
    return (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", where) + data + table + bytes(4) + tail
