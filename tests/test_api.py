"""``refine.load`` and ``refine.inpaint``: any kind of image in, the same kind out, known pixels exact."""

import inspect
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from generated import hole, pair, photo, save
from PIL import ExifTags, Image, ImageOps

import refine
from refine import api
from refine.backbones.lama.adapter import LaMa
from refine.config import ConfigError, InpaintConfig, compose
from refine.core.refiner import Refiner
from refine.io.picture import UnreadableImage
from refine.weights.checkpoint import UnusableWeights

HOLE = hole()


@pytest.fixture(autouse=True)
def empty_cache():
    """Each test loads its own model."""
    api._loaded.cache_clear()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(photo().astype(np.float32) / 255).permute(2, 0, 1)


def assert_filled(result: np.ndarray, original: np.ndarray, mask: np.ndarray = HOLE) -> None:
    """Known pixels exact, and the hole is not what it was."""
    assert result.dtype == original.dtype and result.shape == original.shape
    assert np.array_equal(result[~mask], original[~mask])
    assert not np.array_equal(result[mask], original[mask])


# load


def test_load_takes_the_command_lines_overrides(tiny):
    refiner = refine.load(*tiny, "refiner.steps=[3,1]", "preset=paper")
    assert isinstance(refiner, Refiner) and isinstance(refiner.backbone, LaMa)
    assert (refiner.steps, refiner.keep, refiner.objective.erosion) == ((3, 1), "last", 15)
    assert refiner.backbone.native_size == refiner.pyramid.smallest_side == 16


def test_a_loaded_refiner_works_in_memory(tiny, image):
    refiner = refine.load(*tiny)
    mask = torch.from_numpy(HOLE)[None, None].float()
    result = refiner(image[None], mask)
    assert [level.prediction.shape[-2:] for level in result.levels] == [(20, 24), (40, 48)]
    assert refiner.backbone(image[None], mask).shape == (1, 3, 40, 48)
    assert refiner.to("cpu") is refiner


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("refiner.step=1", ConfigError, "did you mean refiner.steps"),
        ("refiner.steps=-1", ValueError, "refiner.steps must be an integer >= 0"),
        ("refiner.optimize=[x]", ValueError, "has no layer 'x'; it exposes: local, global"),
        ("backbone.weights=/no/such.pt", UnusableWeights, "/no/such.pt"),
        ("backbone.weights=", UnusableWeights, "needs its weights"),
        ("device=warp", ValueError, "expected auto, cpu"),
    ],
)
def test_what_cannot_be_loaded(tiny, override, error, message):
    with pytest.raises(error, match=message):
        refine.load(*tiny, override)


def test_a_device_that_is_not_here(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=r"device=cuda: this machine or this build of torch has none"):
        refine.load(*tiny, "device=cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"device=cuda:2: this machine has 2 of these"):
        refine.load(*tiny, "device=cuda:2")


class Lacking(LaMa):
    """A LaMa on a device that is only pretended, and lacks an operation."""

    def to(self, device):
        self.pretended = torch.device(device)
        return self

    def forward(self, image, mask, conditions=None):
        if self.pretended.type != "cpu":
            raise NotImplementedError("The operator 'aten::_fft_r2c' is not implemented for the MPS device")
        return super().forward(image, mask, conditions)


@pytest.mark.parametrize("device", ["auto", "mps"])
def test_a_device_that_lacks_an_operation_gives_way_to_the_cpu(tiny, tiny_weights, monkeypatch, device):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning, match=r"device mps cannot run this network \(The operator.*using the CPU instead"):
        refiner = refine.load(*tiny, "+backbone.card={}", f"device={device}", f"backbone._target_={__name__}.Lacking")
    assert refiner.backbone.pretended == torch.device("cpu")


# Kinds


@pytest.mark.parametrize("kind", [str, Path])
def test_paths(tmp_path, tiny, kind):
    file = pair(tmp_path, "a")
    result = refine.inpaint(kind(file), kind(tmp_path / "a_mask.png"), *tiny)
    assert type(result) is type(kind(file)) and Path(result) == tmp_path / "a_inpainted.png"
    assert_filled(np.asarray(Image.open(result)), photo())
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a_inpainted.png", "a_mask.png"]


@pytest.mark.parametrize("name", ["x.tiff", "new/folder/b.WebP", "with ${x} = , [].png", "c.bmp"])
def test_path_with_an_output(tmp_path, tiny, name):
    result = refine.inpaint(
        pair(tmp_path / "in", "a"), tmp_path / "in" / "a_mask.png", *tiny, f"output={tmp_path / name}"
    )
    assert result == tmp_path / name
    assert_filled(np.asarray(Image.open(result)), photo())


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pil_images(tiny, mode):
    original = Image.fromarray(photo(channels=4)).convert(mode)
    original.info["icc_profile"] = b"profile"
    result = refine.inpaint(original, Image.fromarray(HOLE), *tiny)
    assert isinstance(result, Image.Image) and result.mode == mode and result.info["icc_profile"] == b"profile"
    colors = len(mode) - mode.endswith("A")
    got, expected = np.atleast_3d(np.asarray(result)), np.atleast_3d(np.asarray(original))
    assert_filled(got[..., :colors], expected[..., :colors])
    assert np.array_equal(got[..., colors:], np.where(HOLE[..., None], 255, expected[..., colors:]))


@pytest.mark.parametrize(("mode", "expected"), [("P", "RGB"), ("1", "L"), ("I;16", "I;16")])
def test_pil_images_of_other_modes_come_back_as_from_a_file(tiny, mode, expected):
    original = Image.fromarray(photo(channels=1, dtype=np.uint16)[..., 0] if mode == "I;16" else photo())
    original = original if mode == "I;16" else original.convert(mode)
    result = refine.inpaint(original, Image.fromarray(HOLE), *tiny)
    assert result.mode == expected
    assert_filled(np.asarray(result), np.asarray(original.convert(expected)))


def test_a_transparent_color_of_a_palette_becomes_alpha(tiny):
    original = Image.fromarray(photo()).convert("P")
    original.info["transparency"] = 3
    result = refine.inpaint(original, Image.fromarray(HOLE), *tiny)
    assert result.mode == "RGBA" and "transparency" not in result.info
    assert np.array_equal(np.asarray(result)[..., 3], np.where(HOLE, 255, np.asarray(original.convert("RGBA"))[..., 3]))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_pil_images_are_turned_upright_as_files_are(tmp_path, tiny, orientation):
    """Image and mask as stored on their side; the hole is meant where a viewer shows it."""
    (exif := Image.Exif())[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Artist] = "Ann"
    file = save(tmp_path / "a.png", photo(), exif=exif)
    turned = orientation > 4
    mask = hole(40, 48) if turned else HOLE
    from_file = np.asarray(Image.open(refine.inpaint(file, mask, *tiny)))
    with Image.open(file) as image:
        original = np.asarray(ImageOps.exif_transpose(image))
        result = refine.inpaint(image, mask, *tiny)
        assert image.getexif()[ExifTags.Base.Orientation] == orientation  # the caller's own is not changed
    assert_filled(np.asarray(result), original, mask)
    assert np.array_equal(np.asarray(result), from_file)
    assert dict(result.getexif()) == {ExifTags.Base.Artist: "Ann"}
    stored = save(tmp_path / "mask.png", HOLE, exif=exif)
    with Image.open(stored) as image:
        upright = np.asarray(ImageOps.exif_transpose(image)) > 0
        assert_filled(np.asarray(refine.inpaint(original, image, *tiny)), original, upright)


def test_sizes_that_differ_by_the_orientation_are_told_so(tiny):
    image = Image.fromarray(photo())
    image.getexif()[ExifTags.Base.Orientation] = 6
    with pytest.raises(ValueError, match=r"got \(48, 40\) and \(40, 48\).*upright, after their EXIF orientation"):
        refine.inpaint(image, HOLE, *tiny)


@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_masks_are_told(tiny, image, full):
    message = "the mask has all hole: nothing is known" if full else "the mask has no hole at all"
    for given in (Image.fromarray(photo()), photo(), image):
        with pytest.warns(UserWarning, match=message):
            refine.inpaint(given, np.full((40, 48), full), *tiny)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_programs_default_dtype_does_not_matter(tiny, dtype):
    expected = refine.inpaint(photo(), HOLE, *tiny)
    api._loaded.cache_clear()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        result = refine.inpaint(photo(), HOLE, *tiny)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(before)
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("overrides", [["preset=plain"], []])
def test_the_color_under_full_transparency_does_not_matter(tiny, overrides):
    results = []
    for under in ((0, 0, 0), (255, 0, 255)):
        values = np.dstack([photo(), np.full((40, 48), 255, np.uint8)])
        values[20:, :14] = (*under, 0)
        result = refine.inpaint(values, HOLE, *tiny, *overrides)
        assert np.array_equal(result[~HOLE], values[~HOLE])  # hidden colors are kept as well
        results.append(result[HOLE])
    assert np.array_equal(*results)
    assert (results[0][:, 3] == 255).all()


def test_transparency_as_the_mask(tmp_path, tiny):
    values = np.dstack([photo(), np.where(HOLE, 0, 255).astype(np.uint8)])
    result = refine.inpaint(values, "alpha", *tiny)
    assert_filled(result, values)
    assert (result[..., 3] == 255).all()
    path = refine.inpaint(save(tmp_path / "a.png", values), "alpha", *tiny)
    assert np.array_equal(np.asarray(Image.open(path)), result)


@pytest.mark.parametrize("image", [photo(), torch.zeros(3, 40, 48)])
def test_transparency_as_the_mask_needs_alpha(tiny, image):
    with pytest.raises(ValueError, match="alpha"):
        refine.inpaint(image, "alpha", *tiny)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_arrays(tiny, channels, dtype):
    original = photo(channels=channels or 1, dtype=dtype)
    original = original[..., 0] if channels is None else original
    before = original.copy()
    result = refine.inpaint(original, HOLE, *tiny)
    assert isinstance(result, np.ndarray)
    assert_filled(result, before)
    assert np.array_equal(original, before)
    if channels in (2, 4):
        assert np.array_equal(result[..., -1], np.where(HOLE, np.iinfo(dtype).max, original[..., -1]))


def test_arrays_need_not_be_contiguous(tiny):
    turned = photo(40, 48)[::-1].swapaxes(0, 1)
    assert_filled(refine.inpaint(turned, HOLE, *tiny), turned)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors(tiny, image, dtype):
    original = image.to(dtype)
    result = refine.inpaint(original, torch.from_numpy(HOLE), *tiny)
    assert result.dtype == dtype and result.shape == (3, 40, 48)
    assert torch.equal(result[:, ~HOLE], original[:, ~HOLE])
    assert not torch.equal(result[:, HOLE], original[:, HOLE])
    assert 0 <= result.min() and result.max() <= 1


def test_batches_of_tensors_with_one_mask_or_several(tiny, image):
    batch = torch.stack([image, image.flip(-1)])
    masks = torch.from_numpy(np.stack([HOLE, HOLE[::-1].copy()]))[:, None].float()
    result = refine.inpaint(batch, masks, *tiny)
    for one, original, mask in zip(result, batch, masks, strict=True):
        assert torch.allclose(one, refine.inpaint(original, mask, *tiny), atol=1e-4)
        assert torch.equal(one[:, mask[0] == 0], original[:, mask[0] == 0])
    shared = refine.inpaint(batch, masks[:1], *tiny)
    assert shared.shape == (2, 3, 40, 48) and torch.equal(shared[0], result[0])


MASKS = {
    "bool array": HOLE,
    "uint8 array": HOLE.astype(np.uint8) * 255,
    "uint16 array": HOLE.astype(np.uint16) * 65535,
    "float array": HOLE.astype(np.float64),
    "one channel": (HOLE * np.uint8(255))[..., None],
    "three channels": np.repeat((HOLE * np.uint8(255))[..., None], 3, axis=2),
    "PIL 1": Image.fromarray(HOLE),
    "PIL L": Image.fromarray(HOLE.astype(np.uint8) * 255),
    "PIL LA": Image.fromarray(HOLE.astype(np.uint8) * 255).convert("LA"),
    "PIL RGB": Image.fromarray(HOLE).convert("RGB"),
    "PIL P": Image.fromarray(HOLE).convert("RGB").convert("P"),
    "PIL I;16": Image.fromarray(HOLE.astype(np.uint16) * 65535),
    "dim 16 bits": Image.fromarray(np.where(HOLE, 65535, 300).astype(np.uint16)),
    "bool tensor": torch.from_numpy(HOLE),
    "float tensor 1HW": torch.from_numpy(HOLE).float()[None],
    "float tensor B1HW": torch.from_numpy(HOLE).float()[None, None],
    "half tensor": torch.from_numpy(HOLE).bfloat16(),
    "uint8 tensor": torch.from_numpy(HOLE) * torch.tensor(255, dtype=torch.uint8),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_any_kind_say_the_same(tiny, kind):
    assert_filled(refine.inpaint(photo(), MASKS[kind], *tiny), photo())


def test_mask_options_apply_to_every_kind(tiny, image):
    gray = np.where(HOLE, 100, 200).astype(np.uint8)
    for mask in (gray, Image.fromarray(gray), torch.from_numpy(gray)):
        assert_filled(refine.inpaint(photo(), mask, *tiny, "mask_invert=true"), photo())
    result = refine.inpaint(image, torch.from_numpy(gray / 255), *tiny, "mask_invert=true", "mask_threshold=0.6")
    assert torch.equal(result[:, ~HOLE], image[:, ~HOLE])
    grown = refine.inpaint(photo(), HOLE, *tiny, "mask_dilate=3")
    assert (grown != photo()).any(axis=2).sum() > HOLE.sum()


def test_masks_that_are_not_black_and_white(tiny):
    palette = Image.fromarray(HOLE.astype(np.uint8) + (np.cumsum(HOLE, axis=1) > 5) * HOLE)
    palette.putpalette([255, 255, 255, 128, 0, 0, 0, 0, 90] + [0] * 759)  # its background is the brightest
    with pytest.warns(UserWarning, match="indices 0, 1, 2 in use"):
        assert_filled(refine.inpaint(photo(), palette, *tiny), photo())
    assert_filled(refine.inpaint(photo(), HOLE.astype(np.uint8), *tiny), photo())
    mixed = np.dstack([photo(), np.where(HOLE, 0, 255).astype(np.uint8)])
    assert_filled(refine.inpaint(photo(), mixed, *tiny), photo())
    result = refine.inpaint(photo(), mixed, *tiny, "mask_channel=alpha")
    assert np.array_equal(result[HOLE], photo()[HOLE]) and not np.array_equal(result, photo())


def test_swapped_image_and_mask_are_recognized(tiny):
    with pytest.raises(ValueError, match=r"mask looks like a photo.*did you swap image and mask"):
        refine.inpaint(HOLE.astype(np.uint8) * 255, photo(), *tiny)


def test_empty_and_full_masks(tiny):
    assert np.array_equal(refine.inpaint(photo(), np.zeros_like(HOLE), *tiny), photo())
    assert refine.inpaint(photo(), np.ones_like(HOLE), *tiny).shape == photo().shape


# Same model, any mode


def test_the_model_is_loaded_once(tiny, monkeypatch):
    made = []
    original = api.make_refiner
    monkeypatch.setattr(api, "make_refiner", lambda config: made.append(config) or original(config))
    first = refine.inpaint(photo(), HOLE, *tiny)
    assert np.array_equal(refine.inpaint(photo(), HOLE, *tiny), first) and len(made) == 1
    refine.inpaint(photo(), HOLE, *tiny, "refiner.steps=1")
    assert len(made) == 2


def test_the_output_is_no_reason_to_load_again(tmp_path, tiny, monkeypatch):
    file, made = pair(tmp_path, "a"), []
    original = api.make_refiner
    monkeypatch.setattr(api, "make_refiner", lambda config: made.append(config) or original(config))
    for number in range(2):
        refine.inpaint(file, tmp_path / "a_mask.png", *tiny, f"output={tmp_path / f'{number}.png'}")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes() and len(made) == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_loaded_and_used_in_any_mode(tiny, image, mode):
    expected = refine.inpaint(image, HOLE, *tiny)
    api._loaded.cache_clear()
    with mode():
        assert torch.equal(refine.inpaint(image.clone(), HOLE, *tiny), expected)
    assert torch.equal(refine.inpaint(image, HOLE, *tiny), expected)  # weights loaded there serve here


def test_nothing_is_said_when_all_is_well(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refine.inpaint(photo(), HOLE, *tiny)


# Mistakes


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (photo().astype(np.float32), ValueError, r"must be uint8 or uint16.*got float32 \(40, 48, 3\).*float tensor"),
        (photo().astype(np.int64), ValueError, "got int64"),
        (photo(channels=3)[None], ValueError, r"got uint8 \(1, 40, 48, 3\)"),
        (np.zeros((40, 48, 5), np.uint8), ValueError, r"\(40, 48, 5\)"),
        (np.zeros(5, np.uint8), ValueError, r"\(5,\)"),
        (Image.new("CMYK", (48, 40)), ValueError, "got CMYK. Convert it first"),
        ([[1, 2]], TypeError, "got list"),
        (None, TypeError, "got NoneType"),
        ("no/such.png", UnreadableImage, "cannot read 'no/such.png': No such file"),
        (torch.zeros(40, 48), ValueError, r"must be float \(B,3,H,W\)"),
        (torch.zeros(4, 40, 48), ValueError, r"must be float \(B,3,H,W\).*\(1,4,40,48\)"),
        (torch.zeros(3, 40, 48, dtype=torch.uint8), ValueError, "must be float"),
        (torch.full((3, 40, 48), 255.0), ValueError, r"must be RGB in \[0,1\].*Divide"),
        (torch.full((3, 40, 48), torch.nan), ValueError, r"must be RGB in \[0,1\]"),
        (photo(50, 40), ValueError, r"one size; got \(40, 50\) and \(40, 48\)"),
        (torch.zeros(3, 50, 48), ValueError, "must have one size"),
    ],
)
def test_images_without_sense(tiny, image, error, message):
    with pytest.raises(error, match=message):
        refine.inpaint(image, HOLE, *tiny)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (HOLE.astype(np.float32) * 255, ValueError, r"must have values in \[0, 1\]; got \[0.0, 255.0\]"),
        (HOLE.astype(np.int64), ValueError, "got int64"),
        (np.zeros((2, 2, 40, 48)), ValueError, "mask must be"),
        (torch.zeros(3, 40, 48), ValueError, "mask must be"),
        ("no/such.png", UnreadableImage, "cannot read 'no/such.png'"),
        (None, ValueError, "mask must be"),
        (hole(8, 8), ValueError, r"got \(40, 48\) and \(8, 8\)"),
    ],
)
def test_masks_without_sense(tiny, image, mask, error, message):
    with pytest.raises(error, match=message):
        refine.inpaint(photo(), mask, *tiny)


def test_masks_that_fit_no_batch(tiny, image):
    masks = torch.zeros(3, 1, 40, 48)
    with pytest.raises(ValueError, match="must have one size"):
        refine.inpaint(torch.stack([image, image]), masks, *tiny)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x.gif", r"x.gif: expected a file ending in one of .png"),
        ("noending", "expected a file ending in"),
        ("", "expected a file ending in"),
        ("x.jpg", "jpg has no alpha"),
    ],
)
def test_outputs_without_sense_cost_no_time(tmp_path, tiny, monkeypatch, output, message):
    file = save(tmp_path / "a.png", photo(channels=4))
    monkeypatch.setattr(Refiner, "__call__", lambda *_, **__: pytest.fail("worked before looking at the output"))
    with pytest.raises(ValueError, match=message):
        refine.inpaint(file, HOLE, *tiny, f"output={tmp_path / output}")
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["a.png", "a_mask.png", "sub/../a.png"])
def test_an_output_never_replaces_an_input(tmp_path, tiny, name):
    file, mask = pair(tmp_path, "a"), tmp_path / "a_mask.png"
    (tmp_path / "sub").mkdir()
    before = file.read_bytes(), mask.read_bytes()
    with pytest.raises(ValueError, match="would overwrite an input"):
        refine.inpaint(file, mask, *tiny, f"output={tmp_path / name}")
    assert (file.read_bytes(), mask.read_bytes()) == before


def test_an_output_without_a_path_is_refused(tmp_path, tiny):
    with pytest.raises(ValueError, match="only an image given as a path"):
        refine.inpaint(photo(), HOLE, *tiny, f"output={tmp_path / 'a.png'}")


def test_the_format_names_the_result(tmp_path, tiny):
    result = refine.inpaint(pair(tmp_path, "a"), HOLE, *tiny, "format=tiff")
    assert result == tmp_path / "a_inpainted.tiff" and Image.open(result).format == "TIFF"


@pytest.mark.parametrize("override", ["mask_threshold=2", "mask_invert=no", "mask_dilate=-1"])
def test_mask_options_without_sense(tiny, override):
    with pytest.raises(ConfigError, match="expected"):
        refine.inpaint(photo(), HOLE, *tiny, override)


def test_make_refiner_ignores_what_is_about_the_backbone(tiny):
    config = InpaintConfig.compose([*tiny, "+backbone.card.more=1"])
    assert api.make_refiner(config).backbone.layers == ("local", "global")


@pytest.mark.parametrize(
    ("keyword", "value", "override"),
    [
        ("weights", "a = b, [c].zip", "backbone.weights=a = b, [c].zip"),
        ("cut", "feature_5", "backbone.cut=feature_5"),
        ("native_size", 64, "backbone.native_size=64"),
        ("preset", "paper", "preset=paper"),
        ("steps", 3, "refiner.steps=3"),
        ("steps", (4, 2), "refiner.steps=[4,2]"),
        ("lr", [0.01, 1e-5], "refiner.lr=[0.01,0.00001]"),
        ("optimize", ["local"], "refiner.optimize=[local]"),
        ("precision", "bf16", "refiner.precision=bf16"),
        ("device", "cuda:1", "device='cuda:1'"),
    ],
)
def test_keywords_say_what_overrides_say(keyword, value, override):
    typed = compose("predict", api.as_overrides(["big_lama"], {keyword: value}))
    assert typed == compose("predict", ["backbone=big_lama", override])


def test_every_keyword_of_load_is_a_setting():
    parameters = [p.name for p in inspect.signature(refine.load).parameters.values() if p.kind == p.KEYWORD_ONLY]
    assert parameters == list(api.KEYWORDS)


def test_load_with_keywords(tiny):
    refiner = refine.load(*tiny, steps=1, device="cpu")
    assert refiner.steps == (1,)


def test_inpaint_with_keywords(tiny):
    assert np.array_equal(
        refine.inpaint(photo(), HOLE, *tiny, steps=0), refine.inpaint(photo(), HOLE, *tiny, "refiner.steps=0")
    )
    with pytest.raises(TypeError, match="no keyword 'stepz'"):
        refine.inpaint(photo(), HOLE, *tiny, stepz=0)


# What a program runs into


def test_settings_of_the_command_line_are_refused(tiny):
    for override in ("memory=8GiB", "data.megapixels=200", "threads=2", "masks=thick", "+x=1"):
        with pytest.raises(ConfigError, match=r"this is for the command line; from Python there are backbone"):
            refine.load(*tiny, override)
    with pytest.raises(ConfigError, match=r"no setting 'steps'; did you mean refiner\.steps"):
        refine.load(*tiny, "steps=30")
    with pytest.raises(TypeError, match=r"overrides are text, such as .refiner\.steps=30.; got 3"):
        refine.load("mini", 3)


def test_keywords_take_what_programs_have(tiny):
    refiner = refine.load(*tiny, steps=np.int64(3), lr=[np.float64(0.1), 0.2], device=torch.device("cpu"))
    assert refiner.steps == (3,) and refiner.lr == (0.1, 0.2)
    with pytest.raises(TypeError, match="precision must be a number, a text or a list of such; got dtype"):
        refine.load(*tiny, precision=torch.bfloat16)


@pytest.mark.parametrize("setting", ["gradient_checkpointing", "compile", "deterministic", "tf32"])
def test_switches_are_true_or_false(tiny, setting):
    name = setting if setting == "deterministic" else f"refiner.{setting}"
    with pytest.raises(ConfigError, match=f"{setting}=maybe: expected true or false"):
        refine.load(*tiny, f"{name}=maybe")


def test_a_refiner_of_arrays_says_which_function_takes_them(tiny):
    image, mask = photo(), hole()
    with pytest.raises(TypeError, match=r"must be tensors; got ndarray and ndarray.*use refine\.inpaint"):
        refine.load(*tiny)(image, mask)
    image, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    with pytest.raises(ValueError, match="key must be one name or one per image, 2; got 1"):
        refine.load(*tiny)(image, mask, key=["a"])


def test_a_color_that_stands_for_no_color_is_transparent_in_a_pil_image_too(tmp_path, tiny):
    pixels = photo()
    pixels[4:12, 4:12] = (255, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=(255, 0, 255))
    with Image.open(tmp_path / "a.png") as keyed:
        result = refine.inpaint(keyed, hole(), *tiny)
    path = refine.inpaint(tmp_path / "a.png", hole(), *tiny)
    assert result.mode == "RGBA" and "transparency" not in result.info
    with Image.open(path) as expected:
        assert np.array_equal(np.asarray(result), np.asarray(expected.convert("RGBA")))


def test_threads_that_come_at_once_load_one_network(tiny, monkeypatch):
    made = []
    monkeypatch.setattr(api, "make_refiner", lambda config: made.append(time.sleep(0.1)) or SimpleNamespace())
    api._loaded.cache_clear()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: api._cached(tuple(tiny)), range(4)))
    api._loaded.cache_clear()
    assert len(made) == 1 and all(each is found[0] for each in found)


def test_loads_at_once_leave_the_default_dtype(tiny):
    torch.set_default_dtype(torch.float64)
    try:
        with ThreadPoolExecutor(4) as threads:
            dtypes = [refiner.backbone.dtype for refiner in threads.map(lambda _: refine.load(*tiny), range(8))]
        assert torch.get_default_dtype() == torch.float64 and set(dtypes) == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)
