"""`refine layers`: networks whose numbers can be worked out by hand."""

import json
import math

import pytest
import torch
from generated import refine
from torch import nn

from refine.analysis.cuts import graph_bytes, survey
from refine.analysis.receptive_field import smallest_square
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.generator import LaMaConfig
from refine.backbones.migan.adapter import MIGAN
from refine.backbones.migan.generator import MIGANConfig as MIGANSizes
from refine.backbones.replay.adapter import Replay
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid, make_level
from refine.core.refiner import Refiner

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*RANDOM weights"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),  # within torch's forward derivatives
]


class Boxes(nn.Module):
    """4 -> 8 channels at stride 4, then a 1x1 convolution, then each value spreads over 4x4 px and 5x5 more."""

    def __init__(self, spread=5):
        super().__init__()
        self.down = nn.Conv2d(4, 8, 4, 4)
        self.mix = nn.Conv2d(8, 3, 1)
        self.up = nn.ConvTranspose2d(3, 3, 4, 4, groups=3, bias=False)
        self.box = nn.Conv2d(3, 3, spread, padding=spread // 2, groups=3, bias=False)
        for layer in (self.up, self.box):
            nn.init.constant_(layer.weight, 0.1)

    def forward(self, x):
        return self.box(self.up(self.mix(self.down(x))))


def boxes(**changes):
    return Replay(Boxes(**changes), "down", multiple_of=4)


class PartialBoxes(Boxes):
    """Hands nothing on of what lies in the hole, as a partial convolution."""

    def forward(self, image, known):
        features = self.down(torch.cat([image, known], 1)) * nn.functional.avg_pool2d(known, 4).floor()
        return self.box(self.up(self.mix(features)))


def test_where_nothing_reaches_on_from_inside_the_hole_a_position_beside_it_tells_the_field():
    arguments = {"inputs": ["image", "known"], "concatenate": False, "multiple_of": 4}
    (cut,) = [cut for cut in survey(Replay(PartialBoxes(), "down", **arguments), 64, repeats=1) if cut.cut == "down"]
    assert cut.receptive_field == 8


def test_shapes_shares_and_footprint_by_hand():
    torch.manual_seed(0)
    cuts = {cut.cut: cut for cut in survey(boxes(), 64, repeats=1)}
    assert list(cuts) == ["down", "mix", "up", "box"]
    assert cuts["down"].shapes == {"down": (8, 16, 16)}
    # per position of 16x16: down 4*8*16, mix 8*3; up 3*16; box 3*25*16
    parts = {"down": 512, "mix": 24, "up": 48, "box": 1200}
    weights = {"down": 4 * 8 * 16 + 8, "mix": 27, "up": 48, "box": 75}
    for i, name in enumerate(parts):
        assert cuts[name].flops == pytest.approx(sum(list(parts.values())[i + 1 :]) / sum(parts.values()))
        assert cuts[name].parameters == pytest.approx(sum(list(weights.values())[i + 1 :]) / sum(weights.values()))
    # a 4x4 block smeared by 5x5 is a trapezoid over 8 px: (1 2 3 4 4 3 2 1)/20, the middle 6 of which hold 0.9 squared
    assert cuts["down"].receptive_field == 8
    assert cuts["up"].receptive_field == 5
    assert cuts["box"].receptive_field == 1
    assert all(cut.seconds > 0 and cut.live_mib >= 0 for cut in cuts.values())


def test_receptive_fields_shrink_towards_the_prediction():
    network = LaMa("random", sizes=LaMaConfig("ffc", 8, 2, 3, 24))
    reach = [cut.receptive_field for cut in survey(network, 64, repeats=1)]
    assert len(reach) == 4
    assert reach[0] > reach[-1]


@pytest.mark.parametrize(
    ("influence", "center", "side"),
    [
        (torch.eye(9)[4][:, None] * torch.eye(9)[4], (4.5, 4.5), 1),
        (torch.ones(9, 9), (4.5, 4.5), 9),
        (torch.ones(8, 8), (4.0, 4.0), 8),
        (torch.ones(9, 5), (0.5, 0.5), 9),  # at most the map
        (torch.zeros(9, 9), (4.5, 4.5), None),
        (torch.full((3, 3), math.nan), (1.5, 1.5), None),
    ],
)
def test_smallest_square(influence, center, side):
    assert smallest_square(influence, center) == side


def test_live_memory_is_what_autograd_keeps():
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    weight = torch.rand(3, 3, 3, 3)
    prediction = nn.functional.conv2d(x, weight, padding=1).sigmoid().sqrt()
    size = 3 * 8 * 8 * 4
    assert (
        graph_bytes(prediction, [x, weight]) == 2 * size
    )  # what sigmoid and sqrt keep, the prediction being one of them
    assert graph_bytes(prediction, []) == 3 * size + weight.numel() * 4


def test_cuts_of_a_trunk_refine_and_share_weights():
    network = LaMa("random", cut=[0, 1], sizes=LaMaConfig("ffc", 8, 2, 2, 24))
    level = make_level(torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32), 4)
    opened = dict(network.cuts_available())
    assert list(opened) == ["0", "1", "2", "[0,1]"]
    assert opened.pop("[0,1]") is network
    for cut, other in opened.items():
        alone = LaMa("random", cut=int(cut), sizes=LaMaConfig("ffc", 8, 2, 2, 24))
        assert other.layers == alone.layers == ("local", "global")
        assert torch.equal(other.front(level).z["global"], alone.front(level).z["global"])
        assert next(other.parameters()) is next(network.parameters())
    assert network.cuts == (0, 1) and network.layers == ("local.0", "global.0", "local.1", "global.1")
    Refiner(opened["2"], Pyramid(16), MultiscaleL1(3), steps=1)(level.image, level.mask)


def test_cuts_of_migan_are_its_resolutions():
    network = MIGAN("random", cut=4, sizes=MIGANSizes((12, 8, 6)))
    cuts = list(survey(network, 32, repeats=1))
    assert [cut.cut for cut in cuts] == ["4", "8"]
    assert cuts[0].shapes == {"features": (12, 8, 8), "rgb": (3, 8, 8)}
    assert cuts[0].context_mib > cuts[1].context_mib > 0
    assert network.cuts == (4,)


class Looped(nn.Module):
    """A layer called twice, one never, one detached, one that hands on what it got, and a Sequential."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True))
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.never = nn.Conv2d(4, 4, 1)
        self.statistics = nn.Conv2d(4, 3, 1)
        self.leave = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = self.again(self.again(self.enter(x)).tanh())
        return self.leave(x) + self.statistics(x).detach() * 0.1


def test_places_of_any_network():
    names = [name for name, _ in Replay(Looped(), "enter").cuts_available()]
    assert names == ["enter.0", "enter", "again", "again#2", "leave"]


def test_large_networks_are_listed_by_their_outer_layers(monkeypatch):
    monkeypatch.setattr("refine.backbones.replay.cut_points.MOST", 5)
    assert [name for name, _ in Replay(Looped(), "enter").cuts_available()] == ["enter", "again", "again#2", "leave"]


class Squashed(nn.Module):
    """Its second layer has no spatial axes."""

    def __init__(self):
        super().__init__()
        self.maps, self.code, self.leave = nn.Conv2d(4, 4, 1), nn.Linear(4, 4), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = self.maps(x)
        return self.leave(x + self.code(x.mean((2, 3)))[..., None, None])


def test_what_is_no_map_has_no_receptive_field():
    cuts = {cut.cut: cut for cut in survey(Replay(Squashed(), "maps"), 16, repeats=1)}
    assert cuts["code"].shapes == {"code": (4,)}
    assert cuts["code"].receptive_field is None
    assert cuts["maps"].receptive_field is not None


def test_the_command_for_machines(tiny_weights):
    outcome = refine("layers", "backbone=lama", f"backbone.weights={tiny_weights}", "size=20", "repeats=1", "json=true")
    assert outcome.status == 0 and outcome.err == ""
    said = json.loads(outcome.out)
    assert (said["backbone"], said["size"], said["device"]) == ("lama", 20, "cpu")
    assert [cut["cut"] for cut in said["cuts"]] == ["0", "1"]
    assert said["cuts"][0]["shapes"] == {"local": [4, 5, 5], "global": [12, 5, 5]}
    assert 0 < said["cuts"][0]["flops"] < 1


@pytest.mark.parametrize("name", ["aot_gan", "migan"])
def test_the_command_for_readers(name):
    outcome = refine("layers", f"backbone={name}", "tiny=true", "size=32", "repeats=1")
    assert outcome.status == 0
    for text in (f"backbone {name} at 32 px on cpu", "features ", " %", "receptive", "s/update"):
        assert text in outcome.out


@pytest.mark.filterwarnings("ignore:.*RANDOM weights")
@pytest.mark.parametrize(
    ("overrides", "cut", "tensors"),
    [
        (["backbone=mini", "backbone.cut=[2,0]"], "[0,2]", ["local.0", "global.0", "local.2", "global.2"]),
        (
            ["backbone=migan", "backbone.tiny.cut=[4,8]", "tiny=true"],
            "[4,8]",
            ["features.4", "rgb.4", "features.8", "rgb.8"],
        ),
        (["backbone=replay", "tiny=true"], "[3,5]", ["3.local", "3.rest", "5.local", "5.rest"]),
    ],
)
def test_several_cuts_at_once_are_the_last_row(overrides, cut, tensors):
    outcome = refine("layers", *overrides, "size=32", "repeats=1", "json=true")
    *alone, joint = json.loads(outcome.out)["cuts"]
    assert joint["cut"] == cut
    assert list(joint["shapes"]) == tensors
    assert all(not cut["cut"].startswith("[") for cut in alone)
    first = next(cut for cut in alone if cut["cut"] == joint["cut"][1])
    assert joint["flops"] == pytest.approx(first["flops"]) and joint["live_mib"] > 0


def test_in_a_pipe_no_name_is_folded(tmp_path, monkeypatch):
    name = f"a_layer_with_a_long_name_{'x' * 80}"
    (tmp_path / "long_names.py").write_text(
        "from collections import OrderedDict\nfrom torch import nn\n\ndef make():\n"
        f"    layers = {{'{name}': nn.Conv2d(4, 4, 1), 'last': nn.Conv2d(4, 3, 1)}}\n"
        "    return nn.Sequential(OrderedDict(layers))\n"
    )
    (tmp_path / "mine.yaml").write_text(
        f"defaults: [replay]\nname: mine\nnative_size: 32\ncut: {name}\nweights: random\n"
        "network: {_target_: long_names.make, _partial_: true}\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="RANDOM weights"):
        outcome = refine("layers", "backbone=mine.yaml", "size=16", "repeats=1")
    (row,) = [line for line in outcome.out.splitlines() if name in line]
    assert "4x16x16" in row and " % " in row


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backbone=cv2_ns"], "backbone 'cv2_ns' has no feature map to cut at"),
        (["backbone=aot_gan"], "backbone 'aot_gan' needs its weights"),
        (["size=0"], "size=0: expected a number greater than 0"),
        (["repeats=true"], "repeats=True: expected a whole number"),
        (["tiny=perhaps"], "tiny=perhaps: expected true or false"),
        (["plot=x.jpeg"], "plot=x.jpeg: expected a file ending in one of .png .pdf .svg"),
        (["device=cuda:77"], "device=cuda:77"),
    ],
)
def test_what_makes_no_sense(overrides, message):
    outcome = refine("layers", *overrides)
    assert outcome.status == 2 and message in outcome.err


def test_a_plot_without_matplotlib_is_refused_before_the_work(monkeypatch):
    monkeypatch.setattr("refine.analysis.plots.find_spec", lambda name: None)
    outcome = refine("layers", "plot=x.png")
    assert outcome.status == 2 and "pip install 'refine-inpainting[plots]'" in outcome.err


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_plot(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    file = tmp_path / "new folder" / f"a, b=c.{suffix}"
    assert refine("layers", "backbone=lama", "tiny=true", "size=16", "repeats=1", f"plot={file}").status == 0
    assert file.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml"}[suffix])
