"""Resolution, XMP, text and so on go from file to file, or are named when they cannot."""

import io
import struct

import numpy as np
import pytest
from image_bytes import random_planes
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from refine.io.encode import encode
from refine.io.picture import read_picture

XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


@pytest.fixture
def png(tmp_path):
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100000))
    info.add_text("Title", "mine")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.fromarray(random_planes(3)).save(tmp_path / "a.png", pnginfo=info, dpi=(300, 150))
    return read_picture(str(tmp_path / "a.png"))


def opened(data: bytes) -> Image.Image:
    (image := Image.open(io.BytesIO(data))).load()
    return image


def test_png_to_png_keeps_all(png):
    info = opened(encode(png, "png")).info
    assert info["gamma"] == 1 and info["Title"] == "mine" and info["dpi"] == pytest.approx((300, 150), abs=0.02)
    assert info["xmp"] == XMP


@pytest.mark.parametrize(
    ("format", "lost"), [("tiff", "gAMA, text"), ("jpg", "gAMA, text"), ("webp", "dpi, gAMA, text")]
)
def test_what_a_format_cannot_hold_is_named_in_one_line(png, format, lost):
    with pytest.warns(UserWarning, match=f"{format} does not hold this metadata of the image: {lost}") as told:
        info = opened(encode(png, format)).info
    assert len(told) == 1 and info["xmp"] == XMP
    if format != "webp":
        assert tuple(map(float, info["dpi"])) == pytest.approx((300, 150), abs=0.02)


def test_geotiff_tags_stay_in_a_tiff(tmp_path):
    geo = {33550: (0.5, 0.5, 0.0), 33922: (0.0, 0.0, 0.0, 9.0, 48.0, 0.0)}
    Image.fromarray(random_planes(3)).save(tmp_path / "a.tiff", tiffinfo=geo)
    picture = read_picture(str(tmp_path / "a.tiff"))
    tags = opened(encode(picture, "tiff")).tag_v2
    assert {tag: tags[tag] for tag in geo} == geo
    with pytest.warns(UserWarning, match="png does not hold this metadata of the image: GeoTIFF"):
        encode(picture, "png")


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "bmp"])
def test_a_plain_photo_has_none(tmp_path, format):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f"a.{format}")
    assert format == "bmp" or read_picture(str(tmp_path / f"a.{format}")).metadata == {}


IPTC = b"\x1c\x02\x78\x00\x05hello"


@pytest.fixture
def jpeg(tmp_path):
    """A JPEG with a comment, and IPTC among Photoshop's resources, as news agencies send."""
    content = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
    segment = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    Image.fromarray(random_planes(3)).save(tmp_path / "a.jpg", comment=b"by hand", extra=segment)
    return read_picture(str(tmp_path / "a.jpg"))


def test_comment_and_iptc_of_a_jpeg(jpeg):
    info = opened(encode(jpeg, "jpg")).info
    assert info["comment"] == b"by hand" and info["photoshop"] == {0x0404: IPTC}
    with pytest.warns(UserWarning, match="png does not hold this metadata of the image: IPTC.") as told:
        assert opened(encode(jpeg, "png")).info["Comment"] == "by hand"
    assert len(told) == 1
    with pytest.warns(UserWarning, match="tiff does not hold this metadata of the image: comment."):
        assert opened(encode(jpeg, "tiff")).tag_v2[33723] == IPTC


def test_iptc_of_a_tiff(jpeg, tmp_path):
    with pytest.warns(UserWarning, match="comment"):
        (tmp_path / "a.tiff").write_bytes(encode(jpeg, "tiff"))
    picture = read_picture(str(tmp_path / "a.tiff"))
    assert opened(encode(picture, "jpg")).info["photoshop"] == {0x0404: IPTC}
    assert opened(encode(picture, "tiff")).tag_v2[33723] == IPTC


def test_color_by_code_points_stays_in_a_png(tmp_path):
    info = PngInfo()
    info.add(b"cICP", bytes([9, 16, 0, 1]))  # BT.2020, perceptual quantizer
    Image.fromarray(random_planes(3)).save(tmp_path / "a.png", pnginfo=info)
    picture = read_picture(str(tmp_path / "a.png"))
    data = encode(picture, "png")
    assert data.index(b"cICP" + bytes([9, 16, 0, 1])) < data.index(b"IDAT")
    with pytest.warns(UserWarning, match="jpg does not hold this metadata of the image: cICP"):
        encode(picture, "jpg")
