"""The bytes of a file -> its planes: every bit depth and color space, and what is no image says so."""

import cv2
import numpy as np
import pytest
from image_bytes import ICC, picture_of, png_16, random_planes, save, tiff_16
from PIL import Image

from refine.io.encode import encode
from refine.io.formats import UnreadableImage
from refine.io.picture import read_picture


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_opencv_writes_in_16_bits_is_read_alike(tmp_path, suffix, channels):
    planes = random_planes(channels, np.uint16)
    bgr = planes if channels == 1 else planes[..., [2, 1, 0, 3][:channels]]
    (file := tmp_path / f"a{suffix}").write_bytes(cv2.imencode(suffix, bgr)[1].tobytes())
    np.testing.assert_array_equal(read_picture(file).planes, planes)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_of_every_kind(tmp_path, channels):
    planes = random_planes(channels, np.uint16)
    (file := tmp_path / "a.png").write_bytes(png_16(planes))
    picture = read_picture(file)
    assert picture.pixels.shape[2] == (3 if channels > 2 else 1)
    np.testing.assert_array_equal(picture.planes, planes)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_with_a_transparent_color(tmp_path, channels):
    planes = random_planes(channels, np.uint16)
    (file := tmp_path / "a.png").write_bytes(png_16(planes, (b"tRNS", planes[4, 5].astype(">u2").tobytes())))
    picture = read_picture(file)
    np.testing.assert_array_equal(picture.pixels, planes)
    assert picture.alpha.dtype == np.uint16
    np.testing.assert_array_equal(picture.alpha == 0, (planes == planes[4, 5]).all(axis=2))
    assert set(np.unique(picture.alpha)) == {0, 65535}


def test_16_bit_tiff_with_white_as_zero_is_inverted(tmp_path):
    planes = random_planes(1, np.uint16)
    (file := tmp_path / "a.tif").write_bytes(tiff_16(planes, photometric=0, order="<"))
    np.testing.assert_array_equal(read_picture(file).pixels, 65535 - planes)


@pytest.mark.parametrize(
    ("channels", "photometric", "planar", "extra"),
    [(2, 1, 1, [(338, [2])]), (3, 2, 2, []), (4, 2, 1, [(338, [1])]), (4, 5, 1, []), (1, 1, 1, [(339, [2])])],
    ids=["gray+alpha", "separate planes", "premultiplied", "cmyk", "signed"],
)
def test_16_bit_tiff_that_decoders_get_wrong_is_refused(tmp_path, channels, photometric, planar, extra):
    (file := tmp_path / "odd.tif").write_bytes(tiff_16(random_planes(channels, np.uint16), photometric, planar, extra))
    with pytest.raises(UnreadableImage, match=r"odd\.tif.*convert it to"):
        read_picture(file)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_numbers_are_refused(tmp_path, mode):
    Image.new(mode, (5, 4)).save(tmp_path / "deep.tif")
    with pytest.raises(UnreadableImage, match=r"deep\.tif.*32-bit.*convert"):
        read_picture(tmp_path / "deep.tif")


def test_palette_becomes_rgb_and_its_transparency_alpha(tmp_path):
    image = Image.fromarray(random_planes(3)).quantize(8)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=3)
    opaque, clear = read_picture(tmp_path / "opaque.png"), read_picture(tmp_path / "clear.png")
    np.testing.assert_array_equal(opaque.pixels, np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(clear.pixels, opaque.pixels)
    assert opaque.alpha is None
    np.testing.assert_array_equal(clear.alpha, np.where(np.asarray(image) == 3, 0, 255))


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_color_of_8_bits_becomes_alpha(tmp_path, channels):
    planes = random_planes(channels)
    color = int(planes[4, 5, 0]) if channels == 1 else tuple(map(int, planes[4, 5]))
    picture = read_picture(save(tmp_path / "a.png", planes, transparency=color))
    np.testing.assert_array_equal(picture.pixels, planes)
    np.testing.assert_array_equal(picture.alpha, np.where((planes == planes[4, 5]).all(axis=2), 0, 255))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_grey(tmp_path, format):
    bits = random_planes(1) > 127
    Image.fromarray(bits[..., 0]).save(tmp_path / "a", format)
    np.testing.assert_array_equal(read_picture(tmp_path / "a").pixels, bits * np.uint8(255))


@pytest.mark.parametrize(("mode", "format"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF")])
def test_other_color_spaces_become_rgb_without_their_profile(tmp_path, mode, format):
    channels = 4 if mode == "CMYK" else 3
    Image.fromarray(random_planes(channels), mode=mode).save(tmp_path / "a", format, icc_profile=ICC)
    with pytest.warns(UserWarning, match=mode):
        picture = read_picture(tmp_path / "a")
    with Image.open(tmp_path / "a") as image:
        np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert (picture.icc, picture.alpha) == (None, None)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_deflate"])  # Pillow 12.3 reads no uncompressed ones
def test_ycbcr_tiff_becomes_rgb(tmp_path, compression):
    image = Image.new("RGB", (9, 8), (200, 30, 60)).convert("YCbCr")
    image.save(tmp_path / "a.tif", compression=compression)
    assert np.abs(read_picture(tmp_path / "a.tif").pixels.astype(int) - (200, 30, 60)).max() <= 2


@pytest.mark.parametrize("format", ["TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read_with_a_warning(tmp_path, format):
    frames = [Image.new("RGB", (6, 5), color) for color in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a", format, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.warns(UserWarning, match="2 frames"):
        picture = read_picture(tmp_path / "a")
    assert (picture.pixels == (255, 0, 0)).all()


def hostile(kind):
    photo, deep = encode(picture_of(random_planes(3)), "jpg"), random_planes(3, np.uint16, 64, 64)
    return {
        "empty": b"",
        "text": b"this is no image",
        "jpeg cut": photo[: len(photo) // 2],
        "png cut": encode(picture_of(random_planes(3)), "png")[:900],
        "webp cut": encode(picture_of(random_planes(3)), "webp")[:900],
        "bmp cut": encode(picture_of(random_planes(3)), "bmp")[:900],
        "16-bit png cut": png_16(deep)[:9000],
        "16-bit tiff cut": encode(picture_of(deep), "tiff")[:-3000],
        "16-bit raw tiff cut": tiff_16(deep, photometric=2)[:-900],
        "png signature": b"\x89PNG\r\n\x1a\n",
        "bomb": png_16(random_planes(1, np.uint16), size=(65535, 65535)),
        "gif": b"GIF89a\x01\0\x01\0\0\0\0;",
    }[kind]


KINDS = ["empty", "text", "jpeg cut", "png cut", "webp cut", "bmp cut", "16-bit png cut", "16-bit tiff cut",
         "16-bit raw tiff cut", "png signature", "bomb", "gif"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_file_is_refused_by_name_in_one_line(tmp_path, kind):
    (file := tmp_path / "höstile.png").write_bytes(hostile(kind))
    with pytest.raises(UnreadableImage, match=r"höstile\.png") as caught:
        read_picture(file)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_bomb_is_called_one(tmp_path):
    (tmp_path / "a.png").write_bytes(hostile("bomb"))
    with pytest.raises(UnreadableImage, match="it is 65535x65535, 4295 megapixels, and up to 179 are read"):
        read_picture(tmp_path / "a.png")
