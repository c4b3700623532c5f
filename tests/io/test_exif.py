"""EXIF: orientation is applied, all else is kept."""

import struct

import numpy as np
import pytest
from image_bytes import (
    EXIF_IFD,
    ICC,
    ORIENTATION,
    TAKEN,
    assert_keeps_notes,
    exif_bytes,
    exif_of,
    picture_of,
    png_16,
    random_planes,
    save,
    tiff_16,
)
from PIL import ExifTags, Image, ImageOps

from refine.io.encode import encode
from refine.io.picture import read_picture


def transposed(image, orientation):
    image.getexif()[ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_and_only_its_tag_removed(tmp_path, format, orientation):
    file = save(tmp_path / "a", random_planes(3), format, exif=exif_of(orientation), icc_profile=ICC)
    picture = read_picture(file)
    source = Image.open(file) if format in ("JPEG", "WEBP") else Image.fromarray(random_planes(3))
    np.testing.assert_array_equal(picture.pixels, transposed(source, orientation))
    assert picture.size == ((31, 23) if orientation > 4 else (23, 31))
    assert picture.icc == ICC
    assert_keeps_notes(picture.exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bits(tmp_path, orientation):
    planes = random_planes(3, np.uint16)
    chunk = (b"eXIf", exif_bytes(orientation).removeprefix(b"Exif\0\0"))
    (tmp_path / "a.png").write_bytes(png_16(planes, chunk))
    (tmp_path / "a.tif").write_bytes(tiff_16(planes, photometric=2, extra=[(ORIENTATION, [orientation])]))
    png, tiff = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "a.tif")
    upper = transposed(Image.fromarray((planes >> 8).astype(np.uint8)), orientation)
    lower = transposed(Image.fromarray((planes & 255).astype(np.uint8)), orientation)
    np.testing.assert_array_equal(png.pixels, upper * np.uint16(256) + lower)
    np.testing.assert_array_equal(tiff.pixels, png.pixels)
    assert_keeps_notes(png.exif)


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff"])
def test_exif_and_profile_reach_the_written_file(tmp_path, format):
    (file := tmp_path / "a").write_bytes(encode(picture_of(random_planes(3), icc=ICC, exif=exif_bytes()), format))
    with Image.open(file) as image:
        assert image.info["icc_profile"] == ICC
        assert image.getexif().get_ifd(EXIF_IFD)[TAKEN] == "2020:01:02 03:04:05"
    assert_keeps_notes(read_picture(file).exif)


def test_exif_of_orientation_alone_vanishes(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert read_picture(save(tmp_path / "a.jpg", random_planes(3), "JPEG", exif=exif.tobytes())).exif is None


def test_preview_of_the_original_is_cut_off(tmp_path):
    exif = bytearray(exif_bytes(3))
    order = "<" if exif[6:8] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", exif, 14)
    struct.pack_into(order + "I", exif, 16 + 12 * count, len(exif) - 6)  # a second directory, at the end
    exif += struct.pack(order + "HHHII", 1, 256, 4, 1, 160) + bytes(4)
    picture = read_picture(save(tmp_path / "a.jpg", random_planes(3), "JPEG", exif=bytes(exif)))
    before, after = Image.Exif(), Image.Exif()
    before.load(bytes(exif))
    after.load(picture.exif)
    assert before.get_ifd(ExifTags.IFD.IFD1) == {256: 160}
    assert after.get_ifd(ExifTags.IFD.IFD1) == {}
    assert_keeps_notes(picture.exif)


def test_damaged_exif_does_not_cost_the_pixels(tmp_path):
    file = save(tmp_path / "a.png", planes := random_planes(3), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with pytest.warns(UserWarning, match=r"a\.png"):
        picture = read_picture(file)
    np.testing.assert_array_equal(picture.pixels, planes)
    assert picture.exif is None
