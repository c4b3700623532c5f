"""Range and order of colors: each way of confusing them is found, in each family that has trained weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from refine.backbones.conformance.colors import NotJudged, colors
from refine.backbones.conformance.contract import CHECKS, run_check
from refine.config import compose
from refine.core.backbone import FrontRear
from refine.core.types import Features
from refine.factory import make_backbone
from refine.weights.checkpoint import hash_state

TRAINED = ["mini", "mini_regular", "mini_aot", "cv2_telea", "cv2_ns"]
CHECK = next(entry for entry in CHECKS if entry.function is colors)


@pytest.fixture(scope="module")
def trained():
    built = {}

    def load(name):
        if name not in built:
            built[name] = make_backbone(compose("check", [f"backbone={name}"]).backbone)
        return built[name]

    return load


class Confused(FrontRear):
    """A healthy backbone, shown or read wrongly."""

    def __init__(self, inner, show=lambda image: image, read=lambda prediction: prediction):
        super().__init__()
        self.inner, self.show, self.read = inner, show, read
        self.layers, self.multiple_of, self.native_size = inner.layers, inner.multiple_of, inner.native_size
        self.minimum_side, self.weights_hash = inner.minimum_side, inner.weights_hash
        self.freeze()

    def front(self, level):
        return self.inner.front(replace(level, image=self.show(level.image)))

    def rear(self, features):
        return self.read(self.inner.rear(features))


def flip(x):
    return x.flip(1)


@pytest.mark.parametrize("name", TRAINED)
def test_a_healthy_backbone_of_each_family_is_green(trained, name):
    assert colors(trained(name)) == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"show": flip}, "red and blue swapped: the network is shown BGR, or its BGR output is returned as RGB"),
        ({"read": flip}, "Convert both, tensor.flip(1), or neither"),
        ({"read": lambda x: 2 * x - 1}, "come back in [-1, 1]; expected [0, 1]"),
        ({"read": lambda x: 255 * x}, "Return output / 255"),
        ({"read": lambda x: (x + 1) / 2}, "The network takes [-1, 1] and is shown [0, 1]"),
        ({"show": flip, "read": lambda x: 2 * x - 1}, "or neither. colors come back in [-1, 1]"),
    ],
)
@pytest.mark.parametrize("name", TRAINED)
def test_what_is_confused_is_found_with_what_to_change(trained, name, arguments, told):
    finding = run_check(Confused(trained(name), **arguments), CHECK)
    assert told in finding.problem


@pytest.mark.filterwarnings("ignore:.*RANDOM weights")
def test_an_activation_left_in_its_range_is_found_with_random_weights_too():
    tiny = compose("check", ["backbone=aot_gan"]).backbone
    backbone = make_backbone(tiny, tiny=True)
    assert "cannot be judged" in run_check(backbone, CHECK).skipped
    backbone.leave = lambda output: output
    assert "Return (output + 1) / 2" in run_check(backbone, CHECK).problem


def test_a_network_that_ends_in_tanh_and_was_trained_on_unit_colors_is_fine(trained):
    assert colors(Confused(trained("mini"), read=lambda x: x.clamp(0, 0.999).atanh().tanh())) == ""


class HoleAlone(FrontRear):
    """Fills with the mean of the surroundings, and says nothing sensible of known pixels."""

    layers, multiple_of, native_size = ("mean",), 1, 32

    def __init__(self, order=(0, 1, 2)):
        super().__init__()
        self.order = list(order)
        self.noise = nn.Parameter(torch.rand(1, 3, 1, 1))
        self.weights_hash = hash_state(self.state_dict())
        self.freeze()

    def front(self, level):
        known = 1 - level.mask
        mean = (level.image * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
        return Features({"mean": mean[:, self.order]}, level.mask)

    def rear(self, features):
        return features.z["mean"] * features.context + (1 - features.context) * self.noise


def test_where_known_pixels_do_not_come_back_the_fill_of_plain_surroundings_tells():
    assert colors(HoleAlone()) == ""
    assert "red and blue swapped" in colors(HoleAlone((2, 1, 0)))


class RandomUNet(FrontRear):
    """Random weights and a skip from the image, which is the likeliest to look like something."""

    layers, multiple_of, native_size = ("z",), 1, 32

    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.last = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(12, 3, 1)
        self.weights_hash = hash_state(self.state_dict())
        self.freeze()

    def front(self, level):
        seen = torch.cat([level.image * (1 - level.mask), level.mask], 1)
        return Features({"z": self.first(seen).relu()}, seen)

    def rear(self, features):
        return self.last(torch.cat([features.z["z"], features.context], 1))


def test_random_weights_are_not_judged_and_never_blamed():
    for seed in range(40):
        finding = run_check(RandomUNet(seed), CHECK)
        assert not finding.problem
        assert "cannot be judged" in finding.skipped
    with pytest.raises(NotJudged), torch.no_grad():
        colors(RandomUNet(0))
