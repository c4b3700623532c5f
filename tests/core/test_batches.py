"""Images of one size that are refined together, as on CUDA, on a CPU."""

import functools

import pytest
import torch
from toys import Shift

from refine.core.choices import CHOICES
from refine.core.objective import MultiscaleL1
from refine.core.optimization import keeps_images_apart
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.core.types import Features, Refinement

pytestmark = pytest.mark.filterwarnings("ignore::refine.core.notices.NothingRefined")


class Conditioned(Shift):
    """z follows the image and a condition that its name seeds; counts its batches."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def conditions(self, sample, levels):
        return [{"shade": torch.full((1, 1, 1, 1), index * float(sample.key))} for index in range(len(levels))]

    def front(self, level):
        self.batches.append(level.image.shape[0])
        z = super().front(level).z
        return Features(z | {"plane": z["plane"] + 0.1 * level.image + level.conditions["shade"]})


@pytest.fixture
def as_on_cuda(monkeypatch):
    monkeypatch.setitem(CHOICES, "cpu", CHOICES["cuda"])


def scenes():
    """Four images with holes of their own; the last is too thin for the erosion of 5 px."""
    generator = torch.Generator().manual_seed(3)
    image, mask = torch.rand(4, 3, 64, 64, generator=generator), torch.zeros(4, 1, 64, 64)
    mask[0, :, 10:50, 10:50] = 1
    mask[1, :, 20:44, 4:60] = 1
    mask[2] = 1
    mask[3, :, 30:33] = 1
    return image, mask


def refiner(**settings):
    settings = {"steps": 30, "lr": 0.03, "tolerance": 0.1, "graph": False} | settings
    return Refiner(Conditioned(), Pyramid(32), MultiscaleL1(5), **settings)


KEYS = ["0", "0.1", "0.05", "0.3"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"keep": "last", "tolerance": 0},
        {"keep_detail": 1.0},
        {"lr": 0.8, "tolerance": 0},
        {"optimizer": functools.partial(torch.optim.SGD, momentum=0.5), "lr": 100.0},
    ],
)
def test_images_together_are_those_alone(as_on_cuda, settings):
    """Each with its own loss, best iterate and end."""
    image, mask = scenes()
    backbone = (made := refiner(**settings)).backbone
    together = made(image, mask, key=KEYS)
    assert backbone.batches == [4, 4]
    ends = set()
    for b, key in enumerate(KEYS):
        alone = refiner(**settings)(image[b : b + 1], mask[b : b + 1], key=key)
        result = together.alone(b)
        torch.testing.assert_close(result.image, alone.image, atol=1e-6, rtol=0)
        for got, expected in zip(result.levels, alone.levels, strict=True):
            assert got.losses.shape == expected.losses.shape
            torch.testing.assert_close(got.losses, expected.losses, atol=1e-6, rtol=1e-5)
            for name in ("updates", "kept", "skipped", "guided_fraction"):
                assert torch.equal(getattr(got, name), getattr(expected, name)), name
        ends.add(int(alone.levels[1].updates))
    assert 0 in ends and (len(ends) > 2 or not made.tolerance[0])


def test_gradients_do_not_mix(as_on_cuda):
    """What one image is compared with moves nothing of another."""
    image, mask = scenes()
    first = refiner()(image, mask, key=KEYS)
    image[1], mask[1] = 1 - image[1], mask[0]
    second = refiner()(image, mask, key=KEYS)
    others = [0, 2, 3]
    assert torch.equal(first.image[others], second.image[others])
    assert not torch.equal(first.image[1], second.image[1])


def test_listeners_are_told_which_image_it_is(as_on_cuda):
    image, mask = scenes()
    heard = []
    together = refiner()(image, mask, key=KEYS, on_step=heard.append)
    for b in range(4):
        losses = [step.loss for step in heard if step.image == b]
        expected = together.alone(b).levels[1].losses[:, 0].tolist()
        assert losses == expected or (b == 3 and losses == [0.0])
    own = next(step for step in heard if step.image == 2)
    assert own.prediction().shape == (1, 3, 64, 64)


@pytest.mark.parametrize("how", ["windows", "lbfgs", "no hole", "cpu"])
def test_images_that_must_not_meet_are_refined_alone(as_on_cuda, monkeypatch, how):
    image, mask = scenes()
    settings = {}
    if how == "windows":
        settings = {"window": "auto", "context": 8}
    if how == "lbfgs":  # whose steps follow all elements together
        settings = {"optimizer": functools.partial(torch.optim.LBFGS, max_iter=1), "tolerance": 0, "steps": 2}
    if how == "no hole":
        mask[1] = 0
    if how == "cpu":
        monkeypatch.undo()
    made = refiner(**settings)
    together = made(image, mask, key=KEYS)
    assert set(made.backbone.batches) == {1}
    for b, key in enumerate(KEYS):
        alone = refiner(**settings)(image[b : b + 1], mask[b : b + 1], key=key)
        assert torch.equal(together.image[b : b + 1], alone.image)  # in every bit, as ever on a CPU


@pytest.mark.parametrize("steps", [0, 3])
def test_a_stack_comes_apart_again(steps):
    image, mask = scenes()
    made = refiner(steps=steps, tolerance=0)
    alone = [made(image[b : b + 1], mask[b : b + 1], key=key) for b, key in enumerate(KEYS)]
    for b, result in enumerate(alone):
        got = Refinement.stack(alone).alone(b)
        assert torch.equal(got.image, result.image)
        assert got.levels[1].losses.tolist() == result.levels[1].losses.tolist()


def test_only_known_optimizers_keep_images_apart():
    assert keeps_images_apart(functools.partial(functools.partial(torch.optim.Adam, eps=1e-6), lr=1))
    assert not keeps_images_apart(functools.partial(torch.optim.LBFGS, max_iter=1))
    assert not keeps_images_apart(lambda tensors, lr: torch.optim.Adam(tensors, lr=lr))
