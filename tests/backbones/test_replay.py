"""Any network, cut at named layers: the same as the whole, bit for bit, and said clearly where it cannot be."""

import math
from collections import namedtuple
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from refine.api import load
from refine.autograd.selective import Frozen
from refine.backbones.aot_gan import AOTGAN
from refine.backbones.aot_gan import AOTGANConfig as aot_sizes
from refine.backbones.conformance import contract
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.generator import LaMaConfig, build
from refine.backbones.migan.adapter import MIGAN
from refine.backbones.migan.generator import MIGANConfig as migan_sizes
from refine.backbones.replay.adapter import Replay
from refine.core.types import Features, Level

pytestmark = pytest.mark.filterwarnings("ignore:.*RANDOM weights")
Pair = namedtuple("Pair", ["first", "second"])
SIZES = [(24, 32), (40, 24), (64, 48)]


def conv(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


class UNet(nn.Module):
    """Skips, and activations in place that change what the skips hold."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([conv(4, 8), conv(8, 16, 2), conv(16, 16, 2)])
        self.act = nn.ReLU(inplace=True)
        self.up = nn.ModuleDict({"2": conv(32, 16), "1": conv(24, 8)})
        self.last = conv(8, 3)

    def forward(self, x):
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
            self.act(x)  # its return value is not used
        x = F.interpolate(x, scale_factor=2)
        x = self.act(self.up["2"](torch.cat([x, skips[1]], 1)))
        x = F.interpolate(x, scale_factor=2).mul_(0.5)
        x = self.act(self.up["1"](torch.cat([x, skips[0]], 1)))
        return torch.sigmoid(self.last(x))


class Structures(nn.Module):
    """Layers that return tuples, dicts, named tuples and dataclasses, with integers and unused tensors among them."""

    @dataclass
    class Out:
        features: Tensor
        side: int

    class ToTuple(nn.Sequential):
        def forward(self, x):
            x = super().forward(x)
            return x, x.argmax(1), torch.zeros_like(x)

    class ToDict(nn.Sequential):
        def forward(self, pair):
            y = super().forward(pair[0])
            return {"a": y, "rest": Pair(y + 1, [pair[1]])}

    class ToData(nn.Module):
        def forward(self, d):
            return Structures.Out(d["a"] + d["rest"].first * 0.5 + d["rest"].second[0].unsqueeze(1) * 0.01, 7)

    def __init__(self):
        super().__init__()
        self.tuple, self.dict, self.data = self.ToTuple(conv(4, 6)), self.ToDict(conv(6, 6)), self.ToData()
        self.last = conv(6, 3)

    def forward(self, x):
        return {"image": [self.last(self.data(self.dict(self.tuple(x))).features)]}


class Dropping(nn.Module):
    """Random before the cut, inside and outside of submodules, and behind it, though in eval mode."""

    class Dropout(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, training=True)

    def __init__(self):
        super().__init__()
        self.first, self.dropout, self.second, self.last = conv(4, 8), self.Dropout(), conv(8, 8), conv(8, 3)

    def forward(self, x):
        x = self.dropout(self.first(x + 0.1 * torch.randn_like(x)))
        x = self.second(x + 0.1 * torch.rand_like(x))
        return self.last(self.dropout(x + torch.randn_like(x)))


class Looped(nn.Module):
    """One layer called as often as the image is large; whether it is called at all depends on values."""

    def __init__(self):
        super().__init__()
        self.first, self.body, self.last = conv(4, 8), nn.Sequential(conv(8, 8), nn.ReLU(inplace=True)), conv(8, 3)
        self.identity = nn.Identity()

    def forward(self, x):
        x = self.identity(self.first(x))
        for _ in range(2 + x.shape[-1] // 24):
            x = x + self.body(x)
        if x.mean() > 100:
            return self.last(x) * 0
        return self.last(x)


class Shared(nn.Module):
    """A layer with two names, called past its parent."""

    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x) * 2

    def __init__(self):
        super().__init__()
        self.one = self.Wrapper(conv(4, 4))
        self.two = nn.ModuleList([self.Wrapper(self.one.inner)])
        self.last = conv(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.two[0](self.one(x))))


def made(network_class, cut, **arguments):
    torch.manual_seed(0)
    return Replay(network_class(), cut, multiple_of=8, minimum_side=24, **arguments)


def level(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator)
    return Level(image, (torch.rand(2, 1, height, width, generator=generator) > 0.7).float(), (height, width))


CASES = [
    (UNet, "down.0", {}),
    (UNet, "down.2", {}),
    (UNet, "act#2", {}),
    (UNet, "act#3", {}),
    (UNet, "up.2", {}),
    (UNet, ["up.1", "down.1", "act#4"], {}),
    (Structures, "tuple", {"output": ["image", 0]}),
    (Structures, "dict", {"output": ["image", 0]}),
    (Structures, "data", {"output": ["image", 0]}),
    (Structures, ["data", "tuple.0", "dict"], {"output": ["image", 0]}),
    (Dropping, "first", {}),
    (Dropping, "dropout", {}),
    (Dropping, "second", {}),
    (Dropping, ["first", "second"], {}),
    (Looped, "identity", {}),
    (Looped, "body", {}),
    (Looped, "body#2", {}),
    (Looped, "body.0#3", {}),
    (Looped, ["body#1", "body#3", "first"], {}),
    (Shared, "one.inner", {}),
    (Shared, "one.inner#2", {}),
    (Shared, "two.0.inner", {}),
    (Shared, ["one", "two.0"], {}),
]


@pytest.mark.parametrize(("network", "cut", "arguments"), CASES)
def test_front_and_rear_are_the_whole_bit_for_bit(network, cut, arguments):
    backbone = made(network, cut, **arguments)
    levels = [level(*size, seed) for seed, size in enumerate(SIZES)]
    wholes = [backbone.whole(one) for one in levels]
    features = [backbone.front(one) for one in levels]  # all fronts first: nothing is kept on the adapter
    state = torch.get_rng_state()
    for one, whole in zip(features, wholes, strict=True):
        before = {name: tensor.clone() for name, tensor in one.z.items()}
        assert tuple(one.z) == backbone.layers
        assert torch.equal(backbone.rear(one), whole)
        assert torch.equal(backbone.rear(one), whole)
        assert all(torch.equal(one.z[name], tensor) for name, tensor in before.items())
    assert torch.equal(state, torch.get_rng_state())
    assert not any("forward" in module.__dict__ for module in backbone.modules())


@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[9], CASES[-1]])
def test_passes_the_contract(case):
    network, cut, arguments = case
    assert not [finding for finding in contract.check(made(network, cut, **arguments)) if finding.failed]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_draws_the_same_on_cuda():
    backbone = made(Dropping, ["first", "second"]).to("cuda")
    one = level(24, 32)
    one = Level(one.image.cuda(), one.mask.cuda(), one.size)
    whole, features, state = backbone.whole(one), backbone.front(one), torch.cuda.get_rng_state()
    torch.testing.assert_close(backbone.rear(features), whole)
    assert torch.equal(state, torch.cuda.get_rng_state())


def test_names_follow_what_the_layer_returns():
    assert made(Structures, "dict", output=["image", 0]).layers == ("dict.a", "dict.rest.first")
    assert made(Structures, "tuple", output=["image", 0]).layers == ("tuple.0",)  # the others get no gradient
    assert made(Structures, "data", output=["image", 0]).layers == ("data.features",)
    assert made(Looped, ["body#3", "first"]).layers == ("first", "body#3")
    assert made(Shared, "two.0.inner").layers == ("one.inner",)


def test_a_cut_in_place_reaches_what_shares_its_memory():
    backbone = made(UNet, "act#2")
    features = backbone.front(level(24, 24))
    moved = backbone.rear(Features({"act#2": torch.zeros_like(features.z["act#2"])}, features.context))
    network, one = backbone.network, level(24, 24)
    with torch.no_grad():  # as if the second activation had said 0: the skip is 0 as well
        zero = network.down[1](torch.zeros(2, 8, 24, 24)) * 0
        first = network.down[0](torch.cat([one.image * (1 - one.mask), one.mask], 1)).relu()
        x = torch.cat([F.interpolate(network.down[2](zero).relu(), scale_factor=2), zero], 1)
        x = F.interpolate(network.up["2"](x).relu(), scale_factor=2) * 0.5
        expected = network.last(network.up["1"](torch.cat([x, first], 1)).relu()).sigmoid()
    torch.testing.assert_close(moved, expected)


def test_offsets_add_to_the_named_layers():
    backbone = made(Looped, ["body#1", "body#3"])
    one = level(24, 24)
    features = backbone.front(one)
    assert not features.z["body#3"].any()
    offset = torch.randn_like(features.z["body#3"])
    net = backbone.network
    with torch.no_grad():
        x = net.first(torch.cat([one.image * (1 - one.mask), one.mask], 1))
        for call in range(3):
            x = x + net.body(x) + (offset if call == 2 else 0)
        expected = net.last(x)
    moved = backbone.rear(Features({**features.z, "body#3": offset}, features.context))
    torch.testing.assert_close(moved, expected)


def lama(kind):
    sizes = LaMaConfig(kind=kind, width=8, downsamplings=2, blocks=3, global_channels=24 if kind == "ffc" else 0)
    adapter = LaMa("random", sizes=sizes, channels_last=False)
    return adapter, Replay(adapter.model, str(sizes.first_block - 1), multiple_of=4, minimum_side=8)


def aot_gan():
    adapter = AOTGAN("random", cut=2, sizes=aot_sizes(width=8, blocks=3, rates=(1, 2)), channels_last=False)
    network = nn.Sequential(adapter.network, nn.Tanh())
    adapter.network.forward = lambda x: adapter.network.decoder(adapter.network.middle(adapter.network.encoder(x)))
    white = {"image_range": [-1, 1], "fill": 1, "output_range": [-1, 1]}
    return adapter, Replay(network, "0.middle.1", **white, multiple_of=4, minimum_side=12)


def migan():
    adapter = MIGAN("random", cut=8, sizes=migan_sizes((12, 8, 6)))

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = adapter.network

        def forward(self, x):
            skips = {}
            for r in (16, 8, 4):
                x, skips[r] = self.network.encoder.get_submodule(f"b{r}")(x)
            rgb = None
            for r in (4, 8, 16):
                x, rgb = self.network.synthesis.get_submodule(f"b{r}")(x, rgb, skips[r])
            return {"rgb": rgb}

    known = {"inputs": ["known", "image"], "mask_range": [-0.5, 0.5], "image_range": [-1, 1], "fill": 0}
    answer = {"output": "rgb", "output_range": [-1, 1], "multiple_of": 4, "minimum_side": 16}
    return adapter, Replay(Whole(), "network.synthesis.b8", **known, **answer)


@pytest.mark.parametrize("pair", [lambda: lama("ffc"), lambda: lama("regular"), aot_gan, migan])
def test_equals_the_adapters_written_by_hand_in_value_and_gradient(pair):
    one = level(32, 48)
    outcomes = []
    for backbone in pair():
        features = backbone.front(one)
        z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
        prediction = backbone.rear(Features(z, features.context))
        gradients = torch.autograd.grad((prediction - 0.3).abs().sum(), list(z.values()))
        outcomes.append([prediction, *z.values(), *gradients])
    for by_hand, replayed in zip(*outcomes, strict=True):
        torch.testing.assert_close(replayed, by_hand, rtol=0, atol=0)


@pytest.mark.parametrize(("network", "cut", "arguments"), CASES)
def test_gradients_are_the_same_by_the_rules_for_frozen_networks(network, cut, arguments):
    backbone = made(network, cut, **arguments)
    features = backbone.front(level(24, 32))
    outcomes = []
    for rules in (nullcontext, Frozen):
        z = {name: tensor.clone().requires_grad_() for name, tensor in features.z.items()}
        with rules():
            prediction = backbone.rear(Features(z, features.context))
        outcomes.append(torch.autograd.grad(prediction.square().sum(), list(z.values())))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_keeps_only_what_the_rear_asks_for():
    backbone = Replay(build(LaMaConfig(width=8, downsamplings=2, blocks=2, global_channels=24)), "5", multiple_of=4,
                      minimum_side=8)  # fmt: skip
    kept = [call.output for call in backbone.front(level(32, 32)).context.calls]
    tensors = [tensor for output in kept for tensor in (output if isinstance(output, tuple) else [output])]
    assert sum(tensor.untyped_storage().nbytes() for tensor in tensors if tensor is not None) < 200


def test_works_under_inference_mode_and_in_a_refinement():
    backbone = made(UNet, "down.1")
    with torch.inference_mode():
        one = level(24, 32)
        assert torch.equal(backbone.rear(backbone.front(one)), backbone.whole(one))


def test_arguments_enter_as_they_are_said_to():
    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, known, picture):
            self.seen = known, picture
            return (self.layer(picture) * 2 - 1,)

    backbone = Replay(Probe(), "layer", inputs={"known": "known", "picture": "image"}, image_range=[-1, 1],
                      mask_range=[-0.5, 0.5], fill=None, output=0, output_range=[-1, 1], minimum_side=4)  # fmt: skip
    one = level(8, 8)
    prediction = backbone.whole(one)
    known, picture = backbone.network.seen
    assert torch.equal(known, 0.5 - one.mask)
    assert torch.equal(picture, one.image * 2 - 1)
    torch.testing.assert_close(prediction, backbone.network.layer(picture))
    backbone = Replay(nn.Sequential(nn.Conv2d(5, 3, 1)), "0", inputs=["hole", "ones", "image"], fill=7, minimum_side=4)
    (x,), _ = backbone.io_spec.arguments(one)
    filled = one.image * (1 - one.mask) + 7 * one.mask
    assert torch.equal(x, torch.cat([one.mask, torch.ones_like(one.mask), filled], 1))


class Detached(nn.Sequential):
    def forward(self, x):
        return self[1](self[0](x).detach())


class Remembering(nn.Module):
    """Hands features past its submodules' outputs."""

    class Writer(nn.Module):
        def __init__(self, holder):
            super().__init__()
            self.holder, self.layer = holder, conv(4, 4)

        def forward(self, x):
            self.holder.append(x.mean())
            return self.layer(x)

    def __init__(self):
        super().__init__()
        self.holder = []
        self.writer, self.body, self.last = self.Writer(self.holder), conv(4, 4), conv(4, 3)

    def forward(self, x):
        x = self.body(self.writer(x))
        return self.last(x) * self.holder[-1]


class NotFinite(nn.Module):
    def forward(self, x):
        return x * math.nan


class Training(nn.Sequential):
    """Puts itself into training mode."""

    def forward(self, x):
        return super().train().forward(x)


class OfTheBatch(nn.Module):
    """Normalizes by the images at hand."""

    def __init__(self):
        super().__init__()
        self.conv = conv(4, 3)

    def forward(self, x):
        return F.batch_norm(self.conv(x), None, None, training=True)


class Partial(nn.Module):
    """A partial convolution: hands on features and where they are valid."""

    def __init__(self):
        super().__init__()
        self.conv = conv(3, 4, 2)

    def forward(self, x, valid):
        valid = F.max_pool2d(valid, 3, 2, 1)
        return self.conv(x) * valid, valid


class PartialNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = Partial(), conv(5, 3)

    def forward(self, image, known):
        features, valid = self.first(image, known)
        return self.last(F.interpolate(torch.cat([features, valid], 1), scale_factor=2))


class Branched(nn.Sequential):
    """Answers with a dict, and takes keywords."""

    def __init__(self):
        super().__init__()
        self.first, self.last = conv(4, 8), conv(8, 3)

    def forward(self, picture, mask=None):
        x = picture if mask is None else torch.cat([picture, mask], 1)
        coarse = self.last(self.first(x).relu())
        return {"coarse": coarse, "fine": (coarse * 2, 3)}


class Checkpointed(Branched):
    """Computes a part again in the backward pass, where replay has no say."""

    def forward(self, x):
        return checkpoint(lambda x: self.last(self.first(x).relu()).tanh(), x, use_reentrant=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cut": "down.7"}, "has no layer 'down.7' to cut at; nearest: down"),
        ({"cut": "lats"}, "nearest: last"),
        ({"cut": "down"}, "layer 'down' is called 0 times in one run"),
        ({"cut": "act#9"}, "layer 'act' is called 5 times"),
        ({"cut": "act#0"}, "calls counted from 1"),
        ({"cut": []}, "expected one layer"),
        ({"cut": None}, "expected one layer"),
        ({"cut": ["last", "last"]}, "several different"),
        ({"cut": "last", "output": "image"}, "a Tensor of shape .* without 'image'"),
        ({"cut": "last", "output": [0, 0]}, "a Tensor of shape"),
        ({"cut": "last", "inputs": ["image", "mask"]}, "expected some of image, hole, known, ones"),
        ({"cut": "last", "image_range": [1, 0]}, "image_range"),
        ({"cut": "0", "network": Detached(conv(4, 4), conv(4, 3))}, "no gradient reaches layer '0'"),
        ({"cut": "body", "network": Remembering()}, "differs from the whole network"),
        ({"cut": "0", "network": nn.Sequential(conv(4, 4, 2), conv(4, 3))}, "Set backbone.multiple_of"),
        ({"cut": "0", "network": None}, "set backbone.network"),
        ({"cut": "0", "network": dict}, "expected a torch.nn.Module"),
        ({"cut": "last", "network": "mine.UNet"}, "network made a str; expected .*_target_: <package>"),
        ({"cut": "last", "image_range": 1}, "image_range=1: expected two numbers"),
        ({"cut": "last", "network": Checkpointed()}, "fails when it is cut at last .*Cut elsewhere"),
        ({"cut": "last", "network": Branched()}, "returns: a dict of 'coarse', 'fine'. Set backbone.output"),
        ({"cut": "last", "network": Branched(), "output": "best"}, "a dict of 'coarse', 'fine' without 'best'"),
        (
            {"cut": "0", "network": nn.Sequential(conv(4, 3), NotFinite())},
            "values that are not finite, of noise",
        ),
        ({"cut": "0", "network": Training(conv(4, 4), nn.BatchNorm2d(4), conv(4, 3))}, "runs in training mode"),
        ({"cut": "conv", "network": OfTheBatch(), "minimum_side": 1, "multiple_of": 1}, "runs in training mode"),
    ],
)
def test_says_what_cannot_be_cut(arguments, message):
    with pytest.raises(ValueError, match=message):
        Replay(**{"network": UNet(), "multiple_of": 8, "minimum_side": 24, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"network": nn.Sequential(nn.MaxPool2d(2), conv(4, 3))},
            r"at 1x1 .*It takes 2x2: set backbone.minimum_side=2",
        ),
        ({"network": nn.Sequential(conv(5, 3))}, r"got 4 channels .*called with \(B,4,H,W\): set backbone.inputs"),
        ({"concatenate": False, "network": nn.Sequential(conv(4, 3))}, r"called with \(B,3,H,W\), \(B,1,H,W\)"),
        (
            {"cut": "last", "inputs": {"x": "image"}, "network": Branched()},
            r"unexpected .*called with x=\(B,3,H,W\)",
        ),
    ],
)
def test_says_what_a_network_needs_where_it_fails(arguments, message):
    with pytest.raises(ValueError, match=message):
        Replay(**{"cut": "0", **arguments})


class Soft(nn.Module):
    """Gives nothing but 0 and 1 on noise."""

    def forward(self, x):
        return (x * 0).clamp(0, 1) + x[:, 3:].expand_as(x)


def test_a_cut_of_nothing_but_a_mask_moves_the_mask():
    replay = Replay(nn.Sequential(Soft(), conv(4, 3)), "0", multiple_of=8)
    assert replay.layers == ("0",)


def test_the_mask_beside_the_features_of_a_partial_convolution_is_not_optimized():
    replay = Replay(PartialNet(), "first", inputs=["image", "known"], concatenate=False, multiple_of=2)
    assert replay.layers == ("first.0",)
    features = replay.front(level(16, 16))
    torch.testing.assert_close(replay.rear(features), replay.whole(level(16, 16)), rtol=0, atol=0)


def test_a_network_that_torch_compiled_is_cut_as_the_one_it_was_made_of():
    plain = UNet()
    replay = Replay(torch.compile(plain), "up.2", multiple_of=8, minimum_side=24)
    assert replay.network is plain


def test_torchscript_is_refused_with_the_way_to_its_weights():
    with pytest.raises(ValueError, match=r"TorchScript, whose layers cannot be reached. .* backbone.weights"):
        Replay(torch.jit.script(nn.Sequential(conv(4, 3))), "0")


class Attentive(nn.Module):
    """Built of torch's own transformer, which without gradients runs past its submodules."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 16, 4, 4), nn.ConvTranspose2d(16, 3, 4, 4)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)

    def forward(self, x):
        x = self.first(x)
        return self.last(self.body(x.flatten(2).mT).mT.reshape(x.shape))


@pytest.mark.parametrize("cut", ["body.layers.0", "body.layers.1.linear1", ["first", "body.layers.0.linear2"]])
def test_cuts_within_a_transformer(cut):
    before = torch.backends.mha.get_fastpath_enabled()
    backbone = made(Attentive, cut)
    one = level(24, 32)
    assert torch.equal(backbone.rear(backbone.front(one)), backbone.whole(one))
    features = backbone.front(one)
    z = {name: tensor.clone().requires_grad_() for name, tensor in features.z.items()}
    assert torch.equal(backbone.rear(Features(z, features.context)).detach(), backbone.whole(one))
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_keyword_inputs_by_yaml_alone(tmp_path, monkeypatch):
    (tmp_path / "their_package.py").write_text("from torch import cat, nn\n\n\n" + BRANCHED)
    (tmp_path / "theirs.yaml").write_text(
        "defaults: [replay]\nname: theirs\nnative_size: 32\ncut: first\noutput: [fine, 0]\n"
        "inputs: {mask: known, picture: image}\nnetwork: {_target_: their_package.Theirs, width: 6}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    backbone = load(f"backbone={tmp_path / 'theirs.yaml'}").backbone
    one = level(24, 32)
    said = backbone.network(picture=one.image * (1 - one.mask), mask=1 - one.mask)
    assert torch.equal(backbone(one.image, one.mask), said["fine"][0].detach())
    assert not [finding for finding in contract.check(backbone) if finding.failed]


BRANCHED = """
class Theirs(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Conv2d(4, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, *, picture, mask):
        coarse = self.last(self.first(cat([picture, mask], 1)))
        return {"coarse": coarse, "fine": (coarse * 2, 3)}
"""


def test_by_yaml_alone(tmp_path):
    torch.manual_seed(3)
    network = build(LaMaConfig(width=8, downsamplings=2, blocks=2, global_channels=24))
    torch.save({"generator": {f"model.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "w.pt")
    (tmp_path / "mine.yaml").write_text(
        "defaults: [replay]\nname: mine\nnative_size: 32\nmultiple_of: 4\nminimum_side: 8\ncut: ['4', '5']\n"
        "network:\n  _target_: refine.backbones.lama.generator.build\n  sizes:\n    "
        "_target_: refine.backbones.lama.LaMaConfig\n"
        "    width: 8\n    downsamplings: 2\n    blocks: 2\n    global_channels: 24\n"
    )
    refiner = load(f"backbone={tmp_path / 'mine.yaml'}", f"backbone.weights={tmp_path / 'w.pt'}", "refiner.steps=2")
    assert refiner.optimize == ("4.local", "4.rest", "5.local", "5.rest")
    one = level(64, 64)
    x = torch.cat([one.image * (1 - one.mask), one.mask], 1)
    torch.testing.assert_close(refiner.backbone(one.image, one.mask), network.eval()(x).detach())
    assert len(refiner(one.image, one.mask).levels) == 2
