"""What a GPU does otherwise than a CPU, on networks that come along; each test is tried on a CPU, with one of them."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from toys import scene

import refine
from refine.core.memory import refine_in_memory

MARKS = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]
NETWORKS = ["mini", "mini_regular", "mini_aot", "small"]
SETTINGS = ("pyramid.smallest_side=32", "refiner.steps=6", "objective.narrowest=null")
CLOSE = 5e-3  # largest difference of a pixel after all updates: rounding turns the sign of a few ReLUs' inputs


def on(*networks):
    """Device and network: all networks on a GPU, the first on a CPU."""
    cuda = [pytest.param("cuda", network, marks=MARKS) for network in networks]
    return pytest.mark.parametrize(("device", "network"), [("cpu", networks[0]), *cuda])


def photo(seed=0, height=64, width=64):
    """Smooth noise with a hole, so that the networks are near what they know."""
    image, mask = scene(height, width, seed=seed)
    return F.interpolate(F.avg_pool2d(image, 8), (height, width), mode="bicubic").clamp(0, 1), mask


def load(device, *overrides, network):
    return refine.load(f"backbone={network}", *SETTINGS, *overrides, device=device)


def apart(first, second):
    return (first.image.cpu() - second.image.cpu()).abs().max().item()


@on(*NETWORKS)
def test_a_device_gives_what_the_cpu_gives(device, network):
    expected = load("cpu", network=network)(*photo())
    result = load(device, network=network)(*photo())
    assert result.image.device.type == "cpu" and apart(result, expected) < CLOSE
    assert result.levels[1].losses[-1] < result.levels[1].losses[0]


@on(*NETWORKS)
def test_the_rules_give_what_ordinary_autograd_gives(device, network):
    results = [load(device, f"refiner.frozen={rules}", network=network)(*photo()) for rules in ("true", "false")]
    assert apart(*results) < CLOSE


@on(*NETWORKS)
def test_captured_updates_are_those_made_one_by_one(device, network):
    captured, eager = load(device, "refiner.graph=auto", network=network), load(device, network=network)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no CUDA graph")
        for seed, size in ((0, (64, 64)), (1, (64, 64)), (2, (64, 96)), (3, (64, 64))):
            assert apart(captured(*photo(seed, *size)), eager(*photo(seed, *size))) < CLOSE
    assert bool(captured.graphs._captured) == (device == "cuda")


class Asking(refine.MultiscaleL1):
    """A loss that asks the device a question, which no capture survives."""

    def prepare(self, level, guide):
        whole = super().prepare(level, guide)
        loss = whole.loss

        def asking(prediction):
            value = loss(prediction)
            return value * 1 if value.sum().item() >= 0 else value

        return refine.Comparison(asking, whole.guided_fraction, whole.has_pixels, whole.refined, whole.tensors)


@on("mini")
def test_where_a_capture_fails_all_goes_on_without(device, network):
    refiner = load(device, "refiner.graph=auto", network=network)
    refiner.objective = Asking(1)
    expected = load(device, network=network)
    expected.objective = refine.MultiscaleL1(1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        results = [refiner(*photo(seed)) for seed in range(2)]
    told = [str(warning.message) for warning in said if "no CUDA graph" in str(warning.message)]
    assert len(told) == (device == "cuda")
    assert all(apart(result, expected(*photo(seed))) < CLOSE for seed, result in enumerate(results))
    if device == "cuda":
        torch.cuda.empty_cache()  # refused where a capture was left half done
        assert torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.mark.parametrize("setting", ["refiner.precision=bf16", "refiner.tf32=true"])
@on("mini")
def test_fewer_bits_stay_near(device, network, setting):
    assert apart(load(device, setting, network=network)(*photo()), load(device, network=network)(*photo())) < 0.1


@on("mini", "mini_aot", "zits")
def test_repeatable_kernels_repeat_the_bytes(device, network):
    random = ("backbone.weights=random",) if network == "zits" else ()
    refiner = refine.load(
        f"backbone={network}", *random, *SETTINGS, "refiner.steps=2", "deterministic=true", device=device
    )
    assert refiner.backbone.device.type == device
    assert apart(*(refiner(*photo()) for _ in range(2))) == 0


@on("mini")
def test_a_batch_gives_what_single_images_give(device, network):
    refiner = load(device, network=network)
    photos = [photo(seed) for seed in range(3)]
    together = refiner(*(torch.cat(tensors) for tensors in zip(*photos, strict=True)))
    for index, one in enumerate(photos):
        assert apart(together.alone(index), refiner(*one)) < CLOSE


@on("small")
def test_memory_that_runs_out_is_answered(device, network):
    """On a card of which a little is allowed; on a CPU nothing runs out."""
    refiner = load(device, "refiner.frozen=false", network=network)
    image, mask = photo(0, *([256, 256] if device == "cuda" else [64, 64]))
    expected = refiner(image, mask)
    if device == "cpu":
        assert apart(refine_in_memory(refiner, image, mask), expected) == 0
        return
    held, whole = torch.cuda.memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.reset_peak_memory_stats()
    refiner(image, mask)
    needed = torch.cuda.max_memory_allocated() - held
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction((held + 0.7 * needed) / whole)
        with pytest.warns(UserWarning, match="out of memory on cuda.*refiner.gradient_checkpointing=true"):
            assert apart(refine_in_memory(refiner, image, mask), expected) < CLOSE
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
