"""A picture -> the bytes of a file: other readers see the same, and what would be lost is refused beforehand."""

import io
import sys

import cv2
import numpy as np
import pytest
from image_bytes import ARTIST, ICC, picture_of, random_planes
from PIL import Image

from refine.io.encode import check_format, encode
from refine.io.formats import WRITTEN
from refine.io.picture import read_picture


def exif_of(length):
    """EXIF of so many bytes, nearly all of them a name."""
    exif = Image.Exif()
    exif[ARTIST] = "x" * (length - 40)
    return exif.tobytes().ljust(length, b"\0")


@pytest.mark.parametrize(
    ("format", "dtype", "channels"),
    [
        *[("png", dtype, channels) for dtype in (np.uint8, np.uint16) for channels in (1, 3, 4)],
        *[("tiff", np.uint16, channels) for channels in (1, 3, 4)],
        *[("tiff", np.uint8, channels) for channels in (1, 3)],  # OpenCV multiplies 8-bit colors by alpha
    ],
)
def test_what_we_encode_opencv_reads_alike(format, dtype, channels):
    planes = random_planes(channels, dtype)
    read = cv2.imdecode(np.frombuffer(encode(picture_of(planes), format), np.uint8), cv2.IMREAD_UNCHANGED)
    expected = planes if channels == 1 else planes[..., [2, 1, 0, 3][:channels]]
    assert read.dtype == dtype
    np.testing.assert_array_equal(np.atleast_3d(read), expected)


@pytest.mark.parametrize("channels", [2, 4])
def test_webp_is_lossless_even_under_transparency(tmp_path, channels):
    planes = random_planes(channels)
    planes[:9, :, -1] = 0
    (tmp_path / "a.webp").write_bytes(encode(picture_of(planes), "webp"))
    back = read_picture(tmp_path / "a.webp")
    np.testing.assert_array_equal(back.pixels, np.broadcast_to(planes[..., :-1], back.pixels.shape))
    np.testing.assert_array_equal(back.alpha, planes[..., -1])


def test_jpeg_keeps_every_pixels_chroma():
    data = encode(picture_of(random_planes(3)), "jpg")
    with Image.open(io.BytesIO(data)) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("format", sorted(set(WRITTEN.values())))
def test_the_same_picture_gives_the_same_bytes(format):
    picture = (
        picture_of(random_planes(3), icc=ICC, exif=exif_of(99)) if format != "bmp" else picture_of(random_planes(3))
    )
    assert encode(picture, format) == encode(picture, format)


@pytest.mark.parametrize(
    ("channels", "dtype", "format", "instead"),
    [
        *[(3, np.uint16, format, "format=png") for format in ("jpg", "webp", "bmp")],
        *[(4, np.uint8, format, "format=png") for format in ("jpg", "bmp")],
        (3, np.uint8, "gif", "png, jpg, webp, tiff, bmp"),
    ],
)
def test_encoding_refuses_to_lose_anything(channels, dtype, format, instead):
    with pytest.raises(ValueError, match=instead):
        encode(picture_of(random_planes(channels, dtype)), format)


def test_formats_that_end_at_some_size_say_so_beforehand():
    wide = picture_of(np.zeros((1, 16384, 3), np.uint8))
    with pytest.raises(ValueError, match=r"16383 pixels a side; got 16384.*format=png"):
        check_format(wide, "webp")
    check_format(wide, "jpg")


def test_exif_that_jpg_cannot_hold_is_refused_beforehand():
    longest, longer = (picture_of(random_planes(3), exif=exif_of(length)) for length in (65533, 65534))
    with pytest.raises(ValueError, match=r"jpg holds at most 65533 bytes of EXIF; the picture has 65534.*format=png"):
        check_format(longer, "jpg")
    for picture, format in [(longest, "jpg"), (longer, "png"), (longer, "tiff"), (longer, "webp")]:
        check_format(picture, format)
        with Image.open(io.BytesIO(encode(picture, format))) as image:
            assert len(image.getexif()[ARTIST]) > 65000


def test_bmp_warns_that_it_has_no_profile():
    with pytest.warns(UserWarning, match="format=png"):
        encode(picture_of(random_planes(3), icc=ICC), "bmp")


@pytest.mark.parametrize("strip", [1, 100, 271])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 4)])
def test_a_large_png_is_packed_in_strips(tmp_path, monkeypatch, strip, dtype, channels):
    picture = picture_of(random_planes(channels, dtype, 41, 29))
    whole = encode(picture, "png")
    monkeypatch.setattr(sys.modules["refine.io.encode"], "_STRIP", strip)  # the package has a function of that name
    (tmp_path / "a.png").write_bytes(encode(picture, "png"))
    assert np.array_equal(read_picture(tmp_path / "a.png").planes, picture.planes)
    assert abs((tmp_path / "a.png").stat().st_size - len(whole)) <= 16
