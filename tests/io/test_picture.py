"""Files <-> tensors: what was in the file is still there afterwards, and what is no image says so."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps

from refine.io.decode import UnreadableImage
from refine.io.encode import encode
from refine.io.files import write_atomic
from refine.io.picture import SUFFIXES, Picture, as_mask, fill, mask_to_tensor, read_mask, read_picture, to_tensor

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


@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_known_pixels_and_notes_survive_filling_encoding_and_reading(tmp_path, format, dtype, channels):
    original = picture_of(random_planes(channels, dtype), icc=ICC, exif=exif_bytes())
    mask = np.random.default_rng(1).random(original.size) < 0.3
    filled = fill(original, torch.rand(1, 3, *original.size, generator=torch.Generator().manual_seed(2)), mask)
    (file := tmp_path / f"a.{format}").write_bytes(encode(filled, format))
    back = read_picture(file)

    grey_as_color = format == "tiff" and dtype == np.uint16 and channels == 2  # no reader knows 16-bit LA in TIFF
    expected = np.repeat(filled.pixels, 3, axis=2) if grey_as_color else filled.pixels
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.pixels, expected)
    np.testing.assert_array_equal(filled.pixels[~mask], original.pixels[~mask])
    assert (filled.pixels[mask] != original.pixels[mask]).mean() > 0.9
    if channels in (2, 4):
        np.testing.assert_array_equal(back.alpha, original.alpha)
    else:
        assert back.alpha is None
    assert back.icc == ICC
    assert_keeps_notes(back.exif)


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


def test_ycbcr_tiff_becomes_rgb(tmp_path):
    Image.new("RGB", (9, 8), (200, 30, 60)).convert("YCbCr").save(tmp_path / "a.tif")
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
    with pytest.raises(UnreadableImage, match="4294836225 pixels"):
        read_picture(tmp_path / "a.png")


def test_what_is_no_file_is_refused_with_the_reason(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    reasons = {"folder": "not a file", "loop": "symbolic links", "pipe": "not a file", "missing": "No such file"}
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImage, match=rf"{name}\.png.*{reason}"):
            read_picture(tmp_path / f"{name}.png")


def test_forbidden_file_is_refused_with_the_reason(tmp_path, monkeypatch):
    file = save(tmp_path / "secret.png", random_planes(3))

    def forbid(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(file), "read_bytes", forbid)  # chmod would not stop a test that runs as root
    with pytest.raises(UnreadableImage, match=r"secret\.png.*Permission denied"):
        read_picture(file)


def test_every_suffix_leads_to_a_format_that_reads_back(tmp_path):
    assert set(SUFFIXES) == {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
    planes = np.full((6, 7, 3), (10, 128, 250), np.uint8)
    for suffix, format in SUFFIXES.items():
        (file := tmp_path / f"a{suffix}").write_bytes(encode(picture_of(planes), format))
        assert np.abs(read_picture(file).pixels.astype(int) - planes).max() <= (2 if format == "jpg" else 0)


def test_contents_decide_not_the_suffix(tmp_path):
    planes = random_planes(3, np.uint16)
    (tmp_path / "a.jpg").write_bytes(encode(picture_of(planes), "png"))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.jpg").pixels, planes)


@pytest.mark.parametrize("name", ["Zürich 東京 🙂.png", "a=b,(c)[d]#e&f~%.png", " .png", "x" * 250 + ".png"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_file_name_works(tmp_path, name, dtype):
    planes = random_planes(3, dtype)
    write_atomic(tmp_path / name, encode(picture_of(planes), "png"), tmp_path)
    np.testing.assert_array_equal(read_picture(tmp_path / name).pixels, planes)
    assert read_picture(str(tmp_path / name)).size == (23, 31)


@pytest.mark.parametrize("format", ["png", "tiff", "webp", "bmp", "jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_pixel(tmp_path, format, channels):
    picture = picture_of(np.full((1, 1, channels), 200, np.uint8))
    (tmp_path / "a").write_bytes(encode(fill(picture, torch.zeros(1, 3, 1, 1), np.ones((1, 1), bool)), format))
    assert (read_picture(tmp_path / "a").pixels == 0).all()


def test_tensor_is_exact_and_grey_is_repeated():
    tensor = to_tensor(picture_of(np.array([[[0, 51, 255]]], np.uint8)))
    assert (tensor.shape, tensor.dtype) == ((1, 3, 1, 1), torch.float32)
    assert tensor.flatten().tolist() == [0.0, np.float32(0.2), 1.0]
    gray = to_tensor(picture_of(random_planes(1, np.uint16)))
    assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 0], gray[:, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_integer_survives_the_way_through_a_tensor(dtype, channels):
    values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(16, -1, 1).repeat(channels, axis=2)
    blank = picture_of(np.zeros_like(values))
    filled = fill(blank, to_tensor(picture_of(values)), np.ones(blank.size, bool))
    np.testing.assert_array_equal(filled.pixels, values)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.499 / 255, 0), (0.501 / 255, 1), (254.499 / 255, 254), (254.501 / 255, 255), (1.5, 255)]
)
def test_values_are_rounded_not_cut(value, expected):
    picture = picture_of(np.full((1, 2, 3), 7, np.uint8))
    filled = fill(picture, torch.full((1, 3, 1, 2), value), np.array([[True, False]]))
    assert filled.pixels.tolist() == [[[expected] * 3, [7] * 3]]


def test_grey_takes_the_luma():
    color = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    filled = fill(picture_of(np.zeros((1, 1, 1), np.uint8)), color, np.ones((1, 1), bool))
    assert filled.pixels.item() == round((0.299 + 0.587 * 0.5 + 0.114 * 0.25) * 255)


def test_fill_leaves_the_original_alone_and_refuses_what_does_not_fit():
    picture = picture_of(random_planes(3))
    before = picture.pixels.copy()
    fill(picture, torch.zeros(1, 3, 23, 31), np.ones((23, 31), bool))
    np.testing.assert_array_equal(picture.pixels, before)
    for image, mask in [
        (torch.zeros(1, 3, 23, 30), np.ones((23, 31), bool)),
        (torch.zeros(1, 3, 23, 31), np.ones((31, 23), bool)),
        (torch.zeros(1, 3, 23, 31), np.ones((23, 31), np.uint8)),
    ]:
        with pytest.raises(ValueError, match=r"\(23, 31\).*got"):
            fill(picture, image, mask)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_fill_refuses_what_is_not_finite_where_it_is_used(channels, broken):
    picture, image = picture_of(random_planes(channels)), torch.zeros(1, 3, 23, 31)
    mask = np.zeros((23, 31), bool)
    mask[2, 3:7] = True
    image[0, 1, 9, 9] = broken
    fill(picture, image, mask)
    image[0, 1:, 2, 4] = broken
    with pytest.raises(ValueError, match=r"finite in the hole; got NaN or infinity in 1 of its 4 pixels"):
        fill(picture, image, mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_threshold_is_a_share_of_full_brightness(dtype, channels):
    top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    values = np.array([[0, 0.25, 0.75, 1]]) * top
    values = values.astype(dtype) if channels is None else values.astype(dtype)[..., None].repeat(channels, axis=2)
    assert as_mask(values).tolist() == [[False, False, True, True]]
    assert as_mask(values, threshold=1).tolist() == [[False, False, False, True]]
    assert as_mask(values, threshold=0.2).tolist() == [[False, True, True, True]]
    assert as_mask(values, invert=True).tolist() == [[True, True, False, False]]


def test_threshold_includes_its_own_value_and_bool_passes():
    assert as_mask(np.array([[127, 128]], np.uint8)).tolist() == [[False, True]]
    assert as_mask(np.array([[50, 51]], np.uint8), threshold=0.2).tolist() == [[False, True]]
    assert as_mask(np.array([[False, True]])).tolist() == [[False, True]]


def test_transparent_is_no_hole():
    values = np.full((1, 2, 4), 255, np.uint8)
    values[0, 0, 3] = 0
    assert as_mask(values).tolist() == [[False, True]]
    assert as_mask(values[..., 2:]).tolist() == [[False, True]]


@pytest.mark.parametrize("radius", [1, 2, 5, 9])
def test_dilation_is_round_and_as_wide_as_asked(radius):
    dot = np.zeros((41, 41), bool)
    dot[20, 20] = True
    grown = as_mask(dot, dilate=radius)
    ys, xs = np.nonzero(grown)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (20 - radius, 20 + radius, 20 - radius, 20 + radius)
    assert np.hypot(ys - 20, xs - 20).max() <= radius + 0.75
    assert grown[20, 20 - radius : 21 + radius].all()


def test_inversion_comes_before_dilation():
    values = np.full((9, 9), 255, np.uint8)
    values[4, 4] = 0
    assert as_mask(values, invert=True, dilate=1).sum() == 5


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((2, 2)), {"threshold": 0}, r"threshold must be in \(0, 1\].*got 0"),
        (np.zeros((2, 2)), {"threshold": 128}, "got 128"),
        (np.zeros((2, 2)), {"dilate": -1}, "dilate must be 0 or more.*-1"),
        (np.full((2, 2), 255.0), {}, r"\[0, 1\]; got \[255.0, 255.0\]"),
        (np.full((2, 2), np.nan), {}, "nan"),
        (np.full((2, 2), -0.1), {}, "-0.1"),
        (np.zeros((2, 2), np.int64), {}, "int64"),
        (np.zeros((2, 2, 5)), {}, r"\(2, 2, 5\)"),
        (np.zeros(4), {}, r"\(4,\)"),
    ],
)
def test_mask_errors_say_what_was_got(values, options, message):
    with pytest.raises(ValueError, match=message):
        as_mask(values, **options)


def test_mask_of_integers_0_and_1_warns():
    with pytest.warns(UserWarning, match="255"):
        assert not as_mask(np.eye(3, dtype=np.uint8)).any()


def test_masks_from_files(tmp_path):
    strokes = np.zeros((20, 30, 4), np.uint8)
    strokes[4:9, 5:15] = 255
    expected = strokes[..., 3] > 0
    save(tmp_path / "strokes.png", strokes)
    save(tmp_path / "gray.jpg", strokes[..., :1], "JPEG", quality=60)
    save(tmp_path / "black.png", 255 - strokes[..., :3])
    (tmp_path / "deep.png").write_bytes(png_16(strokes[..., :1].astype(np.uint16) * 257))
    Image.fromarray(expected).save(tmp_path / "bits.png")
    for name in ("strokes.png", "gray.jpg", "deep.png", "bits.png"):
        mask = read_mask(tmp_path / name)
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, expected, err_msg=name)
    np.testing.assert_array_equal(read_mask(tmp_path / "black.png", invert=True), expected)
    assert read_mask(tmp_path / "strokes.png", dilate=2)[2:11, 10].all()


def test_mask_as_a_tensor():
    tensor = mask_to_tensor(np.array([[True, False, False]])[:, ::-1])
    assert (tensor.shape, tensor.dtype) == ((1, 1, 1, 3), torch.float32)
    assert tensor.flatten().tolist() == [0.0, 0.0, 1.0]


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
    (target := tmp_path / "a").write_bytes(b"old")
    (scratch := tmp_path / "scratch").mkdir()
    write_atomic(target, b"new", scratch)
    assert target.read_bytes() == b"new"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_write_atomic_cleans_up_when_it_fails(tmp_path, monkeypatch, step):
    (target := tmp_path / "a").write_bytes(b"old")
    (scratch := tmp_path / "scratch").mkdir()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new", scratch)
    assert target.read_bytes() == b"old"
    assert list(scratch.iterdir()) == []
