"""Masks of every kind -> the hole, and what is said of those that are not black and white."""

import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
from image_bytes import picture_of, png_16, save
from PIL import Image

from refine.io.mask import MaskWarning, as_mask, as_picture, examine_mask, read_mask
from refine.io.mask_kinds import LooksLikePhoto

HEIGHT, WIDTH = 32, 40
HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[8:20, 10:24] = True
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 756  # black, red, green, olive


@pytest.fixture(autouse=True)
def _silent():
    """Nothing is said unless the test expects it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def painted(ground, hole) -> np.ndarray:
    """``(H, W, C)`` uint8 of one value, or list of values, around the hole and another in it."""
    return np.where(HOLE[..., None], np.atleast_1d(hole), np.atleast_1d(ground)).astype(np.uint8)


def photo(channels=3) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).normal(0, 6, (HEIGHT, WIDTH))
    planes = [40 + 170 * x / WIDTH + noise, 40 + 170 * y / HEIGHT + noise, 120 + noise]
    return np.stack(planes[:channels], -1).clip(0, 255).astype(np.uint8)


def soft(radius=12, rim=4, top=255) -> np.ndarray:
    """A disk whose brightness falls to zero over ``rim`` px."""
    y, x = np.mgrid[:64, :64]
    return (np.clip((radius + rim - np.hypot(x - 32, y - 32)) / max(rim, 1e-9), 0, 1) * top).astype(np.uint8)


@pytest.mark.parametrize(
    ("ground", "hole"),
    [(0, 1), (0, 15), (0, 255), (25, 200), (0, 90), (20, 250), ([0, 0, 0], [255, 0, 0]), ([0, 0, 90], [255, 255, 0])],
)
def test_of_two_values_the_brighter_is_hole_whatever_the_scale(tmp_path, ground, hole):
    values = painted(ground, hole)
    for mask in (read_mask(save(tmp_path / "a.png", values)), as_mask(values), as_mask(values / np.float32(255))):
        np.testing.assert_array_equal(mask, HOLE)
    np.testing.assert_array_equal(as_mask(values.astype(np.uint16)), HOLE)
    np.testing.assert_array_equal(as_mask(values, invert=True), ~HOLE)


def test_of_two_palette_colors_the_brighter_is_hole(tmp_path):
    for palette, indices in ((VOC, HOLE), ([255, 255, 255, 0, 0, 0], ~HOLE)):
        image = Image.fromarray(indices.astype(np.uint8))
        image.putpalette(palette)
        image.save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), HOLE)


def test_half_precision_is_read_as_any_float():
    values = np.zeros((64, 64))
    values[8:24, 8:24], values[32:40, 32:40] = 0.2, 0.4
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always", MaskWarning)
        expected, half = as_mask(values), as_mask(values.astype(np.float16))
    assert expected.any() and np.array_equal(half, expected)


def test_two_values_that_hardly_differ_are_told():
    with pytest.warns(MaskWarning, match="two values, 250, 254, that hardly differ; the brighter is taken"):
        np.testing.assert_array_equal(as_mask(painted(250, 254)), HOLE)
    assert as_mask(painted(250, 254), channel="luminance").all()


@pytest.mark.parametrize(
    ("ground", "hole", "note"),
    [
        (100, 200, "two values, 100, 200, neither of them black; the brighter is taken for the hole. mask_invert=true"),
        ([255, 0, 0], [255, 255, 255], "two values, 76, 255, neither of them black"),
    ],
)
def test_two_values_of_which_either_may_be_meant_are_told(ground, hole, note):
    with pytest.warns(MaskWarning, match=note):
        np.testing.assert_array_equal(as_mask(painted(ground, hole)), HOLE)
    np.testing.assert_array_equal(as_mask(painted(ground, hole), invert=True), ~HOLE)  # that is decided


def test_a_hole_of_nearly_the_whole_image_is_told():
    values = painted(255, 0)
    with pytest.warns(MaskWarning, match=r"is hole in 87% of its pixels, .* mask_invert=true"):
        np.testing.assert_array_equal(as_mask(values), ~HOLE)
    np.testing.assert_array_equal(as_mask(values, invert=True), HOLE)


def test_another_threshold_cuts_luminance_times_alpha_without_a_look():
    assert not as_mask(painted(0, 90), threshold=0.4).any()
    np.testing.assert_array_equal(as_mask(painted(0, 90), threshold=0.3), HOLE)
    values = np.dstack([photo(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    values[0, :, 3] = 0
    assert not as_mask(values, threshold=0.2)[0].any() and as_mask(values, threshold=0.2)[1:].any()


def test_erased_part_of_a_photo_is_hole():
    alpha = np.where(HOLE, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(as_mask(np.dstack([photo(), alpha])), HOLE)
    np.testing.assert_array_equal(as_mask(np.dstack([np.where(HOLE[..., None], 0, photo()), alpha])), HOLE)


@pytest.mark.parametrize("hidden", [0, 255])
def test_white_image_with_a_transparent_hole(hidden):
    values = painted([255, 255, 255, 255], [hidden, hidden, hidden, 0])
    with pytest.warns(MaskWarning, match=r"one color where it is opaque \(86.9%\).*the transparent one.*mask_channel"):
        np.testing.assert_array_equal(as_mask(values), HOLE)
    np.testing.assert_array_equal(as_mask(values, channel="alpha", invert=True), HOLE)


@pytest.mark.parametrize("brush", [(0, 0, 0, 255), (255, 0, 0, 255), (0, 0, 0, 128)])
def test_brush_on_a_transparent_ground(brush):
    with pytest.warns(MaskWarning, match=r"one color where it is opaque \(13.1%\).*the opaque one"):
        np.testing.assert_array_equal(as_mask(painted([0, 0, 0, 0], brush)), HOLE)


def test_white_brush_on_a_transparent_ground_is_ordinary_where_the_ground_is_black():
    np.testing.assert_array_equal(as_mask(painted([0, 0, 0, 0], [255, 255, 255, 255])), HOLE)
    with pytest.warns(MaskWarning, match="the opaque one, is taken"):
        np.testing.assert_array_equal(as_mask(painted([255, 255, 255, 0], [255, 255, 255, 255])), HOLE)


def test_black_and_white_with_a_transparent_part_keeps_what_is_white_and_opaque():
    values = painted([0, 0, 0, 255], [255, 255, 255, 255])
    values[:, 30:] = (255, 255, 255, 0)
    with pytest.warns(MaskWarning, match="white and opaque is taken"):
        np.testing.assert_array_equal(as_mask(values), HOLE)


def test_photo_cut_out_of_a_large_transparent_ground_is_told():
    with pytest.warns(MaskWarning, match=r"many colors where it is opaque \(13.1%\); what is transparent is taken"):
        np.testing.assert_array_equal(as_mask(np.dstack([photo(), HOLE.astype(np.uint8) * 255])), ~HOLE)


def test_constant_alpha_says_nothing():
    np.testing.assert_array_equal(as_mask(painted([0, 0, 0, 100], [255, 255, 255, 100])), HOLE)
    assert not as_mask(painted([0, 0, 0, 0], [255, 255, 255, 0])).any()


def labels() -> np.ndarray:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[4:10, 4:10], values[4:10, 20:30], values[20:28, 4:10] = 1, 2, 3
    return values


def test_palette_index_decides_not_its_color(tmp_path):
    image = Image.fromarray(labels())
    image.putpalette([*VOC[:9], 255, 255, 255, *VOC[12:]])
    image.save(tmp_path / "a.png")
    with pytest.warns(MaskWarning, match=r"a\.png has a palette with the indices 0, 1, 2, 3.*mask_channel=luminance"):
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), labels() > 0)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", channel="index"), labels() > 0)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", channel="luminance"), labels() == 3)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", channel="green", threshold=0.4), labels() >= 2)


def test_palette_of_grays_is_a_gray_image(tmp_path):
    image = Image.fromarray(np.where(HOLE, 0, 2).astype(np.uint8) + (soft()[16:48, 12:52] > 0))
    image.putpalette([255, 255, 255, 250, 250, 250, 0, 0, 0, 3, 3, 3])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), HOLE)


def test_gray_and_colored_labels():
    for values in (labels(), labels().astype(np.uint16), labels() * 40):
        with pytest.warns(MaskWarning, match=r"values 0, (1, 2, 3|40, 80, 120): labels; all but 0 are hole"):
            np.testing.assert_array_equal(as_mask(values), labels() > 0)
    colors = np.array(VOC[:12], np.uint8).reshape(4, 3)[labels()]
    with pytest.warns(MaskWarning, match="4 different colors; all but black are hole"):
        np.testing.assert_array_equal(as_mask(colors), labels() > 0)


def test_soft_red_brush_is_cut_halfway():
    values = np.dstack([soft(), soft() * 0, soft() * 0])
    with pytest.warns(MaskWarning, match="between 0% and 30% of white, cut halfway at 15%"):
        np.testing.assert_array_equal(as_mask(values), soft() >= 127.5)
    np.testing.assert_array_equal(as_mask(values, channel="red"), soft() >= 127.5)


def test_soft_rim_is_told_with_its_share_unless_the_hole_grows():
    share = f"{((soft() > 25.5) & (soft() < 229.5)).mean():.1%}"
    with pytest.warns(MaskWarning, match=f"is gray in {share} of its pixels, a soft rim of about 3 px.*mask_dilate"):
        np.testing.assert_array_equal(as_mask(soft()), soft() >= 127.5)
    assert as_mask(soft(), dilate=4)[soft() > 0].all()
    np.testing.assert_array_equal(as_mask(soft(rim=1)), soft(rim=1) >= 127.5)  # antialiasing is ordinary


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_threshold_zero_takes_every_pixel_that_is_not_zero(dtype):
    values = soft().astype(dtype)  # of 16 bits all of it is nearly black
    np.testing.assert_array_equal(as_mask(values, threshold=0, channel="luminance"), values > 0)
    assert as_mask(values / np.float32(65535), threshold=0).sum() == (values > 0).sum()
    faint = np.array([[[0, 0, 4], [0, 0, 5]]], np.uint8)  # luma 0.456 and 0.57, as 8 bits 0 and 1
    assert as_mask(faint, threshold=0, channel="luminance").tolist() == [[False, True]]


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_black_and_white_with_compression_noise_is_ordinary(tmp_path, quality, channels):
    values = (cv2.circle(np.zeros((160, 200), np.uint8), (90, 70), 45, 255, -1))[..., None].repeat(channels, axis=2)
    save(tmp_path / "a.jpg", values, "JPEG", quality=quality)
    reading = examine_mask(picture_of(np.atleast_3d(np.asarray(Image.open(tmp_path / "a.jpg")))), "a.jpg")
    assert reading.kind == reading.note == "" and (reading.hole != (values[..., 0] > 0)).mean() < 0.002


def test_photo_as_mask_is_an_error_unless_a_channel_is_named():
    with pytest.raises(LooksLikePhoto, match=r"looks like a photo: \d+% .*are swapped, exchange.*mask_channel=red"):
        as_mask(photo())
    np.testing.assert_array_equal(as_mask(photo(), channel="red"), photo()[..., 0] >= 127.5)
    scribbled = np.where(HOLE[..., None], (255, 0, 0), photo()).astype(np.uint8)
    with pytest.raises(LooksLikePhoto):
        as_mask(scribbled)
    np.testing.assert_array_equal(as_mask(scribbled, channel="red", threshold=1), HOLE)


def test_swapped_image_and_mask_are_recognized():
    with pytest.raises(LooksLikePhoto, match=r"mask b\.png looks like .*did you swap image and mask"):
        examine_mask(picture_of(photo()), "b.png", image=picture_of(painted(0, 255)))


def test_alpha_index_and_gray_as_named():
    values = np.dstack([photo(), HOLE.astype(np.uint8) * 255])
    np.testing.assert_array_equal(as_mask(values, channel="alpha"), HOLE)
    np.testing.assert_array_equal(as_mask(labels(), channel="index"), labels() > 0)
    np.testing.assert_array_equal(
        as_mask(replace(as_picture(photo()), indices=labels()), channel="index"), labels() > 0
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_threshold_is_a_share_of_full_brightness(dtype, channels):
    top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    values = np.array([[0, 0.25, 0.75, 1]]) * top
    values = values.astype(dtype) if channels is None else values.astype(dtype)[..., None].repeat(channels, axis=2)
    assert as_mask(values, threshold=0.4).tolist() == [[False, False, True, True]]
    assert as_mask(values, threshold=0.5, channel="luminance").tolist() == [[False, False, True, True]]
    assert as_mask(values, threshold=1).tolist() == [[False, False, False, True]]
    assert as_mask(values, threshold=0.2).tolist() == [[False, True, True, True]]
    assert as_mask(values, 0.4, invert=True).tolist() == [[True, True, False, False]]


def test_threshold_includes_its_own_value_and_bool_passes():
    assert as_mask(np.array([[127, 128]], np.uint8), channel="luminance").tolist() == [[False, True]]
    assert as_mask(np.array([[50, 51]], np.uint8), threshold=0.2).tolist() == [[False, True]]
    assert as_mask(np.array([[False, True]])).tolist() == [[False, True]]


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
        (np.zeros((2, 2)), {"threshold": -0.1}, r"threshold must be in \[0, 1\].*got -0.1"),
        (np.zeros((2, 2)), {"threshold": 128}, "got 128"),
        (np.zeros((2, 2)), {"channel": "yellow"}, "one of auto, luminance, alpha.*got 'yellow'"),
        (np.zeros((2, 2)), {"channel": "alpha"}, "mask has no alpha"),
        (np.zeros((2, 2, 3)), {"channel": "index"}, "mask has no palette"),
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
