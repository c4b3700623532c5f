"""An image that does not fit is refined once more with less memory and the same pixels."""

import pytest
import torch
from torch import nn

from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.generator import LaMaConfig
from refine.core.backbone import FrontRear
from refine.core.choices import CHOICES
from refine.core.memory import OutOfMemory, exact_ways, fastest_way, refine_in_memory
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.core.types import Features
from refine.inference.module import InpaintingModule


class Greedy(FrontRear):
    """A rear that runs out of memory ``failures`` times when a gradient is wanted."""

    layers = ("z",)
    multiple_of = 8
    native_size = 32

    def __init__(self, failures, error=None):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.failures, self.error = failures, error or torch.OutOfMemoryError("CUDA out of memory. Tried ...")
        self.freeze()

    def front(self, level):
        return Features({"z": level.image})

    def rear(self, features):
        if torch.is_grad_enabled() and self.failures:
            self.failures -= 1
            raise self.error
        return self.convolution(features.z["z"])


def refiner(*args, **settings):
    torch.manual_seed(0)
    return Refiner(Greedy(*args), Pyramid(32), MultiscaleL1(3), steps=2, **settings)


def scene():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:44, 20:44] = 1
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), mask


OF_TORCH = [RuntimeError("[enforce fail] DefaultCPUAllocator: can't"), RuntimeError("could not create a primitive")]


@pytest.mark.parametrize("error", [None, MemoryError(), *OF_TORCH])
def test_the_second_attempt_gives_the_same_pixels_and_leaves_the_refiner_alone(error):
    expected = refiner(0)(*scene()).image
    short = refiner(1, error)
    with pytest.warns(UserWarning, match=r"photo: out of memory on cpu; once more with refiner.gradient_checkpointing"):
        result = refine_in_memory(short, *scene(), key="photo")
    assert torch.equal(result.image, expected)
    assert not short.gradient_checkpointing


def test_what_is_no_want_of_memory_is_not_tried_again():
    error = RuntimeError("could not create a primitive descriptor for a convolution")
    with pytest.raises(RuntimeError, match="primitive descriptor"):
        refine_in_memory(refiner(1, error), *scene())


@pytest.mark.filterwarnings("ignore:.*once more")
@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({}, "refiner.precision=bf16 or refiner.window=auto, or a number of px"),
        ({"window": 64, "context": 8, "precision": "bf16"}, "a smaller refiner.window"),
    ],
)
def test_what_does_not_fit_at_all_is_a_sentence_with_what_to_set(settings, advice):
    with pytest.raises(OutOfMemory, match=f"64x64 px: out of memory on cpu, .*: {advice}; or set device=cpu"):
        refine_in_memory(refiner(9, **settings), *scene())


@pytest.mark.filterwarnings("ignore:.*(once more|RANDOM)")
@pytest.mark.parametrize("rung", [0, 1, 2, 3])
def test_every_rung_saves_what_the_one_before_could_not(rung, monkeypatch):
    """Memory runs out in all ways before the given one; after the last, the image fails with a sentence."""
    sizes = LaMaConfig(width=4, downsamplings=2, blocks=1, global_channels=12)
    made = Refiner(LaMa("random", native_size=32, sizes=sizes), Pyramid(32), MultiscaleL1(3), steps=2)
    ways = [way for _, way in exact_ways(made)]
    settings = [(way.gradient_checkpointing, way.backbone.strips) for way in ways]
    assert settings == [(False, False), (True, False), (True, True)]
    expected, tried, refine = made(*scene()).image, [], Refiner._refine_level

    def short_of_memory(self, *args):
        tried.append((self.gradient_checkpointing, self.backbone.strips))
        if settings.index(tried[-1]) < rung:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried ...")
        return refine(self, *args)

    monkeypatch.setattr(Refiner, "_refine_level", short_of_memory)
    if rung < len(ways):
        assert torch.equal(refine_in_memory(made, *scene()).image, expected)
        assert tried == settings[: rung + 1]
    else:
        with pytest.raises(OutOfMemory, match=r"with refiner.gradient_checkpointing=true backbone.strips=true too"):
            refine_in_memory(made, *scene())
    assert not made.gradient_checkpointing and not made.backbone.strips


def test_other_errors_are_no_matter_of_memory():
    with pytest.raises(RuntimeError, match="shapes differ"):
        refine_in_memory(refiner(1, RuntimeError("shapes differ")), *scene())


@pytest.mark.filterwarnings("ignore:.*once more")
def test_one_image_that_does_not_fit_leaves_the_run_alone():
    from refine.core.types import Refinement, Sample

    module = InpaintingModule(refiner(2))
    failed, done = (module.predict_step(Sample(key, *scene()), index) for index, key in enumerate("ab"))
    assert failed.key == "a" and failed.reason.startswith("OutOfMemory: 64x64 px")
    assert isinstance(done, Refinement)


def test_on_a_gpu_with_a_limit_autograd_comes_first_then_the_rules(monkeypatch):
    """With frozen=auto; the order is that of the memory they take."""
    monkeypatch.setitem(CHOICES, "cpu", CHOICES["cuda"])
    automatic = refiner(0, graph=False)
    ways = list(exact_ways(fastest_way(automatic)))
    assert [name for name, _ in ways] == ["", "refiner.frozen=true", "refiner.gradient_checkpointing=true"]
    assert [(way.rules, way.gradient_checkpointing) for _, way in ways] == [(False, False), (True, False), (True, True)]
    results = [way(*scene()).image for _, way in ways]
    assert all(torch.equal(result, results[0]) for result in results)
    assert automatic.rules  # the refiner itself, where no limit is known


@pytest.mark.parametrize("frozen", [True, False, "auto"])
def test_elsewhere_and_without_auto_the_way_is_the_one_configured(frozen):
    configured = refiner(0, frozen=frozen)
    assert fastest_way(configured) is configured
    assert configured.rules == bool(frozen)
    assert [name for name, _ in exact_ways(configured)] == ["", "refiner.gradient_checkpointing=true"]


def test_another_way_is_refused():
    with pytest.raises(ValueError, match=r"refiner\.frozen must be auto, true or false; got 'maybe'"):
        refiner(0, frozen="maybe")
