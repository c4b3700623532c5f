"""Every format that is read, with all its bits or a sentence; none of those that run programs or draw."""

import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from image_bytes import picture_of, random_planes
from PIL import ExifTags, Image

from refine.config import compose
from refine.io.decode import read_size
from refine.io.encode import encode
from refine.io.formats import MEGAPIXELS, PILLOWS_LIMIT, READ, WRITTEN, UnreadableImage
from refine.io.picture import read_picture

RAMP = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(48, axis=0)
PILLOW = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
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
    "TGA": (".tga",),
}
HEIF = {".heic", ".heif", ".hif"}


def test_the_list_is_complete():
    assert {suffix for suffixes in PILLOW.values() for suffix in suffixes} | HEIF == READ
    assert set(WRITTEN) <= READ


@pytest.mark.parametrize("format", PILLOW)
def test_every_format_is_read(tmp_path, format):
    Image.fromarray(RAMP).save(file := tmp_path / "a", format)
    picture = read_picture(file)
    assert picture.alpha is None and picture.pixels.shape == RAMP.shape
    lossy = format in ("JPEG", "MPO", "AVIF", "WEBP")
    assert np.abs(picture.pixels.astype(int) - RAMP).max() <= (4 if lossy else 0)
    with file.open("rb") as stream:
        assert read_size(stream) == RAMP.shape[:2]


def pnm(kind: str, planes: np.ndarray, top: int) -> bytes:
    head = f"{kind} # a comment\n# 7\n{planes.shape[1]}  {planes.shape[0]}\n{top}\n".encode()
    return head + planes.astype(">u2" if top > 255 else np.uint8).tobytes()


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_pnm_keeps_every_bit(tmp_path, channels):
    planes = random_planes(channels, np.uint16)
    (file := tmp_path / "a.pnm").write_bytes(pnm({1: "P5", 3: "P6"}[channels], planes, 65535))
    np.testing.assert_array_equal(read_picture(file).planes, planes)


def test_pnm_of_few_steps_is_brought_to_full_scale(tmp_path):
    planes = random_planes(3) >> 4
    (file := tmp_path / "a.ppm").write_bytes(pnm("P6", planes, 15))
    np.testing.assert_array_equal(read_picture(file).planes, planes * 17)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_jpeg_2000_keeps_every_bit(tmp_path, channels):
    planes = random_planes(channels, np.uint16, 80, 90)
    bgr = planes if channels == 1 else planes[..., [2, 1, 0, 3][:channels]]
    (file := tmp_path / "a.jp2").write_bytes(
        cv2.imencode(".jp2", bgr, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    )
    np.testing.assert_array_equal(read_picture(file).planes, planes)


def odd(kind: str) -> bytes:
    deep, stream = random_planes(3, np.uint16, 80, 90), io.BytesIO()
    if kind == "10-bit AVIF":
        return cv2.imencode(".avif", deep >> 6, [cv2.IMWRITE_AVIF_DEPTH, 10])[1].tobytes()
    if kind == "16-bit SGI":
        Image.fromarray(RAMP[..., 0]).save(stream, "SGI", bpc=2)
    if kind == "1-bit JPEG 2000":  # an 8-bit one whose header is changed
        Image.fromarray(RAMP).save(stream, "JPEG2000", no_jp2=True)
        data = bytearray(stream.getvalue())
        data[42:51:3] = b"\0\0\0"
        return bytes(data)
    texts = {
        "12-bit PGM": pnm("P5", deep[..., :1] >> 4, 4095),
        "PGM up to 40000": pnm("P5", deep[..., :1] // 2, 40000),
        "PFM": b"Pf\n2 1\n-1.0\n" + np.array([0, 1], np.float32).tobytes(),
    }
    return texts.get(kind, stream.getvalue())


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("10-bit AVIF", "its 10-bit"),
        ("16-bit SGI", "this kind of 16-bit file is not supported"),
        ("1-bit JPEG 2000", "its 1-bit"),
        ("12-bit PGM", "its 12-bit"),
        ("PGM up to 40000", "its 15-bit"),
        ("PFM", "its 32-bit"),
    ],
)
def test_depths_that_would_lose_bits_are_refused(tmp_path, kind, said):
    (file := tmp_path / "odd").write_bytes(odd(kind))
    with pytest.raises(UnreadableImage, match=f"odd.*{said}.*convert it to"):
        read_picture(file)


@pytest.mark.parametrize("format", ["EPS", "PDF", "ICO", "DDS", "XBM"])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path, format):
    image = Image.fromarray(RAMP[..., 0] > 99) if format == "XBM" else Image.fromarray(RAMP)
    image.save(tmp_path / "a.png", format)
    with pytest.raises(UnreadableImage, match="no image of a supported kind"):
        read_picture(tmp_path / "a.png")


HEIC = b"\0\0\0\x18ftypheic" + bytes(12)


def test_heic_without_the_plug_in_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (file := tmp_path / "a.heic").write_bytes(HEIC)
    with pytest.raises(UnreadableImage, match=r"a\.heic.*pip install pillow-heif"):
        read_picture(file)


@pytest.mark.parametrize(("depth", "works"), [(8, True), (10, False)])
def test_heic_is_read_by_the_plug_in_that_is_installed(tmp_path, monkeypatch, depth, works):
    def opener(stream, name):  # any picture does, which says it is a HEIF
        image = Image.open(io.BytesIO(encode(picture_of(RAMP), "png")), formats=["PNG"])
        image.format = "HEIF"
        return image

    def register():
        monkeypatch.setitem(Image.OPEN, "HEIF", (opener, lambda head: head[4:12] == b"ftypheic"))

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    (file := tmp_path / "a.heic").write_bytes(HEIC + b"hvcC\1" + bytes(16) + bytes([0xF8 | depth - 8]))
    if works:
        np.testing.assert_array_equal(read_picture(file).pixels, RAMP)
    else:
        with pytest.raises(UnreadableImage, match="its 10-bit"):
            read_picture(file)


def test_a_real_heic_by_the_real_plug_in(tmp_path):
    """Its decoder turns the picture upright itself, so that EXIF's orientation must not turn it once more."""
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 6, "somebody"
    pillow_heif.from_pillow(Image.fromarray(RAMP)).save(file := tmp_path / "a.heic", quality=90, exif=exif.tobytes())
    picture = read_picture(file)
    upright = np.rot90(RAMP, -1)
    assert picture.pixels.shape == upright.shape and picture.alpha is None
    assert np.abs(picture.pixels.astype(int) - upright).max() <= 6
    with file.open("rb") as stream:
        assert read_size(stream) == upright.shape[:2]
    with Image.open(io.BytesIO(encode(picture, "png"))) as written:
        assert written.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert written.getexif()[ExifTags.Base.Artist] == "somebody"


@pytest.mark.parametrize("layout", [{}, {"compression": "zlib", "tile": (32, 32)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1), (np.uint16, 3)])
def test_big_tiff(tmp_path, dtype, channels, layout):
    """TIFF with 64-bit offsets, which files beyond 4 GiB need."""
    tifffile = pytest.importorskip("tifffile")
    planes = random_planes(channels, dtype, 70, 90)
    values, kind = (planes, "rgb") if channels == 3 else (planes[..., 0], "minisblack")
    tifffile.imwrite(tmp_path / "a.tif", values, bigtiff=True, photometric=kind, **layout)
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II+\0"
    assert np.array_equal(read_picture(tmp_path / "a.tif").planes, planes)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "GIF"])
def test_pillows_limit_is_neither_obeyed_nor_changed(tmp_path, format, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # the process's own, which refuses above 200 pixels
    Image.fromarray(RAMP).save(file := tmp_path / "a", format)
    assert read_picture(file).size == RAMP.shape[:2]
    with pytest.raises(UnreadableImage, match=r"it is 64x48, 0\.003072 megapixels, and up to 0\.003 are read"):
        read_picture(file, megapixels=0.003)
    with file.open("rb") as stream:
        assert read_size(stream, megapixels=0.003) == (0, 0)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_threads_that_read_at_once_leave_pillows_limit(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    Image.fromarray(RAMP).save(file := tmp_path / "a", "TIFF")
    with ThreadPoolExecutor(4) as threads:
        assert {picture.size for picture in threads.map(read_picture, [file] * 40)} == {RAMP.shape[:2]}
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_process_that_is_forked_while_a_file_is_read_has_pillows_limit():
    with PILLOWS_LIMIT.lifted():
        reader, writer = os.pipe()
        if not os.fork():
            os.write(writer, str(Image.MAX_IMAGE_PIXELS).encode())
            os._exit(0)
        assert Image.MAX_IMAGE_PIXELS is None
    os.close(writer)
    with open(reader) as answer:
        assert answer.read() == str(Image.MAX_IMAGE_PIXELS) != "None"
    os.wait()


def test_the_limit_is_that_of_the_settings():
    assert compose("predict")["data"]["megapixels"] == MEGAPIXELS
