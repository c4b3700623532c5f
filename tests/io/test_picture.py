"""Image files <-> tensors: what was in the file is still there afterwards; filling a hole."""

import os

import numpy as np
import pytest
import torch
from image_bytes import ICC, assert_keeps_notes, exif_bytes, picture_of, random_planes, save

from refine.io.encode import encode
from refine.io.files import write_atomic
from refine.io.formats import WRITTEN, UnreadableImage
from refine.io.picture import fill, mask_to_tensor, read_picture, to_tensor


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
        np.testing.assert_array_equal(back.alpha, np.where(mask, np.iinfo(dtype).max, original.alpha))
    else:
        assert back.alpha is None
    assert back.icc == ICC
    assert_keeps_notes(back.exif)


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
    assert set(WRITTEN) == {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
    planes = np.full((6, 7, 3), (10, 128, 250), np.uint8)
    for suffix, format in WRITTEN.items():
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


def test_mask_as_a_tensor():
    tensor = mask_to_tensor(np.array([[True, False, False]])[:, ::-1])
    assert (tensor.shape, tensor.dtype) == ((1, 1, 1, 3), torch.float32)
    assert tensor.flatten().tolist() == [0.0, 0.0, 1.0]
