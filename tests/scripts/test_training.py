import csv
from pathlib import Path

import cv2
import lightning
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file

from refine.api import load
from refine.backbones import aot_gan
from refine.backbones.lama.generator import LaMaConfig, build
from refine.core.types import Level
from training import data, losses, module, networks, scenes, train_mini

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "steps=3",
    "interval=1",
    "threads=1",
    "trainer.accelerator=cpu",
    "network.width=4",
    "network.blocks=1",
    "data.crop=32",
    "data.batch=2",
    "data.scenes=2",
    "data.scene_size=48",
    "data.held_out=1",
    "data.scales=2",
    "data.holes=3",
    "loss.from=0.5",
    "optimizer.calibration=1",
    "loss.width=4",
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), scenes.render(100 + i, 40))
    return folder


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base=None):
        return compose("train_mini", [*TINY, *overrides])


def curves(out: Path) -> list[dict[str, str]]:
    with (out / "curves.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "steps_per_s")} for row in csv.DictReader(file)]


def test_a_killed_run_resumes_without_a_break(tmp_path, photos, monkeypatch):
    whole, killed = (
        config("network.kind=regular", "name=r", f"photos={photos}", f"out={tmp_path / name}")
        for name in ("whole", "killed")
    )
    train_mini.train(whole)

    def kill(self, path, *args, **kwargs):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:  # in the second epoch, its row and weights written, its checkpoint not
        real = lightning.Trainer.save_checkpoint
        patch.setattr(
            lightning.Trainer,
            "save_checkpoint",
            lambda self, path: (real if self.current_epoch == 0 else kill)(self, path),
        )
        with pytest.raises(RuntimeError, match="killed"):
            train_mini.train(killed)
    assert len(curves(tmp_path / "killed")) == 2
    train_mini.train(killed)
    assert curves(tmp_path / "killed") == curves(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / "r.safetensors") for name in ("killed", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert "model.10.conv_block.1.weight" in ours


def test_an_aot_gan_is_trained_as_its_adapter_runs_it(tmp_path, photos):
    options = ("network.kind=aot_gan", "network.rates=[1,2]", "name=a", f"photos={photos}", "trainer.precision=32-true")
    train_mini.train(config(*options, f"out={tmp_path / 'out'}"))
    weights = tmp_path / "out" / "a.safetensors"
    assert "middle.0.fuse.1.weight" in load_file(weights)  # the official names
    backbone = load("backbone=aot_gan", f"backbone.weights={weights}").backbone
    assert backbone.sizes == aot_gan.AOTGANConfig(4, 1, (1, 2))
    image, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    mask[..., 8:20, 8:20] = 1
    level = Level(image, mask, (32, 32))
    torch.testing.assert_close(backbone.whole(level), networks.predict(backbone.network, image, mask))


def test_without_norms_there_is_nothing_to_calibrate():
    def never():
        raise AssertionError("a batch was made")
        yield

    networks.calibrate(networks.generator(aot_gan.AOTGANConfig(4, 1, (1, 2)), None), never())


def test_starting_weights_are_taken(tmp_path):
    sizes = LaMaConfig("regular", 4, 2, 1, 0)
    model = build(sizes)
    networks.save_weights(model, tmp_path / "start.safetensors")
    started = networks.generator(sizes, str(tmp_path / "start.safetensors"))
    assert torch.equal(started[1].weight, model[1].weight)


def test_calibration_measures_what_the_norms_see():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1)).eval()
    batches = [torch.full((2, 1, 2, 2), 1.0), torch.full((2, 1, 2, 2), 3.0)]
    networks.calibrate(model, batches)
    assert model[0].running_mean.item() == pytest.approx(2)
    assert not model.training and model[0].momentum == 0.1


def test_frozen_norms_keep_their_statistics_and_the_average_takes_them(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(module.Training, "_calibrate", lambda self, model: calls.append(model is self.average))
    train_mini.train(config(f"out={tmp_path}", "optimizer.freeze_norms=0.6"))  # after two of three steps
    assert calls == [True, True, False]  # the average at two validations, then the model once
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    stats = [key for key in state if key.startswith("model.") and "running" in key]
    assert stats and all(torch.equal(state[key], state[key.replace("model.", "average.", 1)]) for key in stats)


def test_the_rate_warms_up_and_ends_at_zero():
    schedule = module.Schedule(steps=1000, warmup=100)
    rates = [schedule.rate(step) for step in range(1001)]
    assert rates[0] < 0.02 and max(rates) > 0.95 and rates[1000] == pytest.approx(0, abs=1e-12)
    assert np.argmax(rates) == pytest.approx(100, abs=3)


def test_transforms_stay_float32_under_autocast():
    unit = networks.generator(LaMaConfig("ffc", 4, 1, 1, 4), None)[3].conv1.ffc.convg2g.fu
    with torch.autocast("cpu", torch.bfloat16):
        assert unit(torch.rand(1, 2, 8, 8, dtype=torch.bfloat16)).dtype == torch.float32


def test_the_losses_count_the_hole_alone():
    image, mask = torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 2:4, 2:4] = 1
    prediction = torch.where(mask > 0, torch.full_like(image, 0.1), torch.full_like(image, 0.9))
    assert losses.in_hole((prediction - image).abs(), mask).item() == pytest.approx(0.1)
    assert losses.hole_psnr(prediction, image, mask).item() == pytest.approx(20, abs=1e-3)


def test_errors_say_what_to_change(tmp_path, photos):
    with pytest.raises(ValueError, match=r"got 0 files .* Set photos to such a folder"):
        data.read_photos(str(tmp_path / "nothing"), 32)
    with pytest.raises(ValueError, match=r"got 3 photos, expected 1 to 2 .* Change data.held_out"):
        data.split_photos(data.read_photos(str(photos), 32), 3)


def test_photos_held_out_are_not_trained_on(photos):
    every = data.read_photos(str(photos), 32)
    training, held_out = data.split_photos(every, 1)
    assert len(training) == 2 and len(held_out) == 1
    assert not any(np.array_equal(held_out[0], photo) for photo in training)


def bank(photos: list[np.ndarray], drawn: list[np.ndarray], *overrides: str) -> data.Bank:
    return data.Bank(photos, drawn, 5, config(*overrides).data)


def is_part_of(crop: np.ndarray, image: np.ndarray) -> bool:
    side = crop.shape[0]
    rows, columns = (range(n - side + 1) for n in image.shape[:2])
    return any(np.array_equal(crop, image[y : y + side, x : x + side]) for y in rows for x in columns)


def test_crops_are_parts_of_photos_and_upright_or_mirrored():
    photo = np.random.default_rng(0).integers(0, 256, (36, 40, 3), np.uint8)
    images, masks = bank([photo], [], "data.scales=1").batch(7, 8)
    crops = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    upright = [is_part_of(crop, photo) for crop in crops]
    mirrored = [is_part_of(crop[:, ::-1], photo) for crop in crops]
    assert any(upright) and any(mirrored) and all(a or b for a, b in zip(upright, mirrored, strict=True))
    assert masks.shape == (8, 1, 32, 32) and set(masks.unique().tolist()) == {0.0, 1.0}


def test_scenes_are_turned_too():
    scene = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    images, _ = bank([], [scene], "data.scales=1").batch(0, 32)
    crops = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    turns = {
        (k, m) for k in range(4) for m in (1, -1) for crop in crops if np.array_equal(crop, np.rot90(scene[:, ::m], k))
    }
    assert turns == {(0, 1), (0, -1), (1, 1), (1, -1), (3, 1), (3, -1)}  # never upside down


def test_a_batch_follows_from_its_number_and_the_share_of_photos_is_kept():
    dark, light = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    made = bank([dark], [light], "data.photo_share=0.75")
    first, again, other = made.batch(3, 200), made.batch(3, 200), made.batch(4, 200)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    assert 0.15 < first[0].mean() < 0.35  # of the crops a quarter is light


def test_scales_are_shrunk_images_and_never_smaller_than_a_crop():
    photo = np.random.default_rng(0).integers(0, 256, (80, 160, 3), np.uint8)
    made = bank([photo], [], "data.scales=3", "data.zoom=4")
    assert made.places[0, :, 1:].tolist() == [[80, 160], [40, 80], [32, 64]]
    whole = cv2.resize(photo, (80, 40), interpolation=cv2.INTER_AREA)
    start = made.places[0, 1, 0]
    assert np.array_equal(made.pixels[start : start + 40 * 80].numpy().reshape(40, 80, 3), whole)


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match=r"neither photos nor scenes. Set photos to a folder, or data.scenes"):
        bank([], [])


def test_scenes_are_rendered_once_and_workers_make_the_same(tmp_path):
    alone = data.read_scenes(2, 1, 32, tmp_path / "a", 0)
    beside = data.read_scenes(2, 1, 32, tmp_path / "b", 1)
    assert all(np.array_equal(a, b) for a, b in zip(alone, beside, strict=True))
    before = [path.stat().st_mtime_ns for path in sorted((tmp_path / "a").iterdir())]
    data.read_scenes(2, 1, 32, tmp_path / "a", 0)
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "a").iterdir())] == before and len(before) == 2


def test_even_upsampling_keeps_constant_maps_constant_and_changes_nothing_twice():
    torch.manual_seed(0)
    up = torch.nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1)
    constant = torch.rand(1, 3, 1, 1).expand(1, 3, 6, 6)
    inside = up(constant)[..., 2:-2, 2:-2]
    assert (inside - inside.mean((-2, -1), keepdim=True)).abs().max() > 0.01  # a grid
    networks.even_upsampling(torch.nn.Sequential(up))
    inside = up(constant)[..., 2:-2, 2:-2]
    torch.testing.assert_close(inside, inside.mean((-2, -1), keepdim=True).expand_as(inside), atol=1e-6, rtol=0)
    before = up.weight.clone()
    networks.even_upsampling(up)
    torch.testing.assert_close(up.weight, before, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="no transposed convolutions; set it to false"):
        networks.even_upsampling(torch.nn.Conv2d(1, 1, 3))


def test_even_upsampling_is_kept_through_a_training(tmp_path):
    train_mini.train(config(f"out={tmp_path}", "network.even_upsampling=true", "name=e", "network.downsamplings=2"))
    state = load_file(tmp_path / "e.safetensors")
    kernels = [state[name] for name in state if name.count(".") == 2 and state[name].ndim == 4]  # no FFC, no block
    ups = [kernel for kernel in kernels if kernel.shape[-1] == 3]
    assert len(ups) == 2
    for kernel in ups:
        sums = [kernel[..., a, :][..., b].sum((-2, -1)) for a in ([1], [0, 2]) for b in ([1], [0, 2])]
        assert all(torch.allclose(sums[0], other, atol=1e-5) for other in sums[1:])


def test_a_budget_of_seconds_sets_the_rate_and_ends_the_training(tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    train_mini.train(config(f"out={tmp_path}", "time=100", "interval=4", "steps=1"))
    rows = curves(tmp_path)
    assert int(rows[-1]["step"]) <= 10 and float(rows[-1]["rate"]) == 0
    spent = torch.load(tmp_path / "last.ckpt", weights_only=False)["spent"]
    assert spent >= 100


def test_perceptual_loss_is_zero_for_the_truth_and_sees_texture(tmp_path):
    state, channels = {}, [(3, 3, 1), (3, 4, 3), (4, 4, 3), (4, 8, 3), (8, 8, 3), (8, 8, 3)]
    torch.manual_seed(0)
    for i, (inputs, outputs, kernel) in enumerate(channels):
        conv = torch.nn.Conv2d(inputs, outputs, kernel)
        state |= {f"{i}.weight": conv.weight.detach(), f"{i}.bias": conv.bias.detach()}
    torch.save(state, tmp_path / "vgg.pth")
    loss = losses.Perceptual(str(tmp_path / "vgg.pth"))
    image = torch.rand(1, 3, 32, 32)
    flat = image.mean((-2, -1), keepdim=True).expand_as(image).clone().requires_grad_()
    assert loss(image, image) == 0
    value = loss(flat, image)
    value.backward()
    assert value > 0 and flat.grad.abs().max() > 0
    assert [f.shape[1:] for f in loss.features(image)] == [(4, 32, 32), (8, 16, 16), (8, 8, 8)]


def test_without_the_weights_of_a_vgg_the_perceptual_loss_says_what_to_set(tmp_path):
    with pytest.raises(ValueError, match=r"set loss.vgg to the file of its weights"):
        losses.Perceptual(None)
    torch.save({"0.weight": torch.zeros(4, 3, 3, 3), "0.bias": torch.zeros(4)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth: got convolutions with kernels of \[3\] px, expected one of 1 px"):
        losses.Perceptual(str(tmp_path / "other.pth"))
