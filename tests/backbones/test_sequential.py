"""Several cuts at once: an offset at each, zero at the start."""

import copy
import pickle

import pytest
import torch

from refine.api import load
from refine.backbones.aot_gan import AOTGAN, AOTGANConfig
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.fold import fold
from refine.backbones.lama.fourier import Pair
from refine.backbones.lama.generator import LaMaConfig
from refine.core.pyramid import make_level
from refine.core.types import Features

pytestmark = pytest.mark.filterwarnings("ignore:.*RANDOM weights")
FFC = LaMaConfig(width=8, downsamplings=2, blocks=3, global_channels=24)
LOCAL = LaMaConfig(width=8, downsamplings=2, blocks=3, global_channels=0)
REGULAR = LaMaConfig(kind="regular", width=8, downsamplings=2, blocks=3)


def some_level():
    image = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    return make_level(image, (image[:, :1] > 0.7).float(), 8)


@pytest.mark.parametrize("sizes", [FFC, LOCAL, REGULAR])
@pytest.mark.parametrize("cut", [0, 3, [1], [0, 2], [3, 1, 0]])
def test_any_cuts_leave_the_network_as_it_is(sizes, cut):
    backbone, level = LaMa("random", cut, sizes=sizes, channels_last=False), some_level()
    features = backbone.front(level)
    assert tuple(features.z) == backbone.layers
    with torch.no_grad():
        x = torch.cat([level.image * (1 - level.mask), level.mask], 1)
        assert torch.equal(backbone.rear(features), backbone.model(x))
        assert torch.equal(backbone.whole(level), backbone.model(x))


@pytest.mark.parametrize(
    ("sizes", "cut", "layers"),
    [
        (FFC, 1, ("local", "global")),
        (FFC, [1], ("local", "global")),
        (FFC, [2, 0], ("local.0", "global.0", "local.2", "global.2")),
        (LOCAL, [0, 3], ("local.0", "local.3")),
        (REGULAR, [0, 3], ("features.0", "features.3")),
    ],
)
def test_names_say_which_cut(sizes, cut, layers):
    assert LaMa("random", cut, sizes=sizes).layers == layers


def test_offsets_add_where_the_network_is_opened():
    backbone, level = LaMa("random", [0, 2], sizes=FFC), some_level()
    features = backbone.front(level)
    assert not features.z["local.2"].any()
    assert not features.z["global.2"].any()
    moved = {name: torch.randn_like(tensor) for name, tensor in features.z.items()}
    with torch.no_grad():
        x = backbone.model[4:6](Pair(moved["local.0"], moved["global.0"]))
        expected = backbone.model[6:](Pair(x.local + moved["local.2"], x.rest + moved["global.2"]))
        torch.testing.assert_close(backbone.rear(Features(moved)), expected)


def test_two_cuts_refine_at_least_as_far_as_one(tiny_weights):
    image = some_level().image[:1].repeat(1, 1, 2, 2)
    mask = torch.zeros_like(image[:, :1])
    mask[..., 14:50, 20:60] = 1
    tiny = ["backbone=lama", f"backbone.weights={tiny_weights}", "backbone.native_size=32", "refiner.steps=3"]
    one = load(*tiny, "objective.erosion=0")(image, mask).levels[-1]
    both = load(*tiny, "objective.erosion=0", "backbone.cut=[0,1]")
    assert both.optimize == ("local.0", "global.0", "local.1", "global.1")
    result = both(image, mask).levels[-1]
    torch.testing.assert_close(result.losses[0], one.losses[0])
    assert result.losses[-1] < one.losses[-1] < one.losses[0]


@pytest.mark.parametrize("cut", [[0, 4], [1, 1], [], [0.5], "01", None])
def test_cuts_outside_the_trunk_are_refused(cut):
    with pytest.raises(ValueError, match="3 residual blocks"):
        LaMa("random", cut, sizes=FFC)


@pytest.mark.parametrize("sizes", [FFC, REGULAR])
def test_a_rear_that_ran_knows_nothing_of_a_network_changed_since(sizes):
    backbone, level = LaMa("random", [0, 2], sizes=sizes, fold=False, channels_last=False), some_level()
    for norm in (module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_var.fill_(0.5)
    before = backbone.rear(backbone.front(level))
    stages = backbone.stages
    assert all(a is b for a, b in zip(stages, backbone.stages, strict=True))  # a checkpoint knows them by identity
    fold(backbone.model)
    after = backbone.rear(backbone.front(level))
    assert torch.equal(after, backbone.whole(level))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda backbone: pickle.loads(pickle.dumps(backbone))])
def test_a_copy_runs_its_own_network(duplicate):
    backbone, level = LaMa("random", [0, 2], sizes=FFC), some_level()
    features = backbone.front(level)
    before = backbone.rear(features)
    other = duplicate(backbone)
    with torch.no_grad():
        next(iter(other.model[-2].parameters())).zero_()
    assert torch.equal(other.rear(features), other.whole(level))
    assert torch.equal(backbone.rear(features), before)


def test_copies_with_another_cut_leave_the_network_its_stages():
    backbone, level = AOTGAN("random", [0, 2], sizes=AOTGANConfig(8, 2, (1, 2)), channels_last=False), some_level()
    before = backbone.rear(backbone.front(level))
    for _, opened in backbone.cuts_available():
        assert torch.equal(opened.rear(opened.front(level)), before)
    assert torch.equal(backbone.rear(backbone.front(level)), before)
