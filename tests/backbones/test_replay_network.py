"""What a user gives as network: constants beside image and mask, random weights, programs of torch.export."""

import warnings
from functools import partial

import pytest
import torch
from generated import refine
from torch import nn

from refine.api import load
from refine.backbones.conformance.contract import check
from refine.backbones.lama.generator import LaMaConfig, build
from refine.backbones.replay.adapter import Replay
from refine.backbones.replay.network import looks_untrained
from refine.core.types import Level
from refine.weights.checkpoint import UnusableWeights, read_checkpoint

TIMED = """
import torch
from torch import nn

class Timed(nn.Module):
    '''As the U-Nets of diffusers: a time step beside the sample, and an answer in a tuple.'''

    def __init__(self, width):
        super().__init__()
        self.time, self.first = nn.Linear(1, width), nn.Conv2d(4, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        if not torch.is_tensor(timestep):
            timestep = torch.tensor([timestep], device=sample.device)
        self.seen = timestep, class_labels, return_dict
        time = self.time(timestep.to(sample.dtype).expand(len(sample))[:, None] / 1000)
        x = self.last((self.first(sample) + time[..., None, None]).tanh())
        return {"sample": x} if return_dict else (x,)
"""


@pytest.mark.filterwarnings("ignore:.*RANDOM weights")
@pytest.mark.parametrize(
    ("timestep", "dtype", "value"),
    [("500", torch.int64, 500), ("[500]", torch.int64, 500), ("[0.25]", torch.float32, 0.25)],
)
def test_a_constant_from_yaml(tmp_path, monkeypatch, timestep, dtype, value):
    (tmp_path / "timed_network.py").write_text(TIMED)
    (tmp_path / "timed.yaml").write_text(
        "defaults: [replay]\nname: timed\nnative_size: 32\ncut: first\noutput: 0\n"
        f"inputs: {{sample: [image, hole], timestep: {timestep}, class_labels: null, return_dict: false}}\n"
        "network: {_target_: timed_network.Timed, width: 6}\n"
    )
    monkeypatch.chdir(tmp_path)
    backbone = load(f"backbone={tmp_path / 'timed.yaml'}").backbone
    one = Level(torch.rand(2, 3, 24, 32), (torch.rand(2, 1, 24, 32) > 0.5).float(), (24, 32))
    sample = torch.cat([one.image * (1 - one.mask), one.mask], 1)
    expected = backbone.network(sample, torch.tensor([value]), return_dict=False)[0]
    assert torch.equal(backbone.whole(one), expected.detach())
    assert torch.equal(backbone.rear(backbone.front(one)), backbone.whole(one))
    seen, class_labels, return_dict = backbone.network.seen
    assert (seen.dtype, seen.tolist(), class_labels, return_dict) == (dtype, [value], None, False)
    assert not [finding for finding in check(backbone) if finding.failed]  # in double precision too


def test_constants_without_keywords_come_behind_the_tensor():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(4, 3, 1)

        def forward(self, x, factor, shift):
            return self.layer(x) * factor + shift

    backbone = Replay(Scaled(), "layer", "random", inputs=["image", 2, "hole", [0.5]], minimum_side=4)
    one = Level(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), (8, 8))
    (x, factor, shift), _ = backbone.io_spec.arguments(one)
    assert x.shape == (1, 4, 8, 8) and factor == 2 and torch.equal(shift, torch.tensor([0.5]))


@pytest.mark.parametrize(
    "inputs",
    [["image", "500"], [500], {"x": 1}, ["image", ["hole", 1]], {"sample": ["picture"]}, ["image", []], [[["image"]]]],
)
def test_inputs_that_make_no_sense(inputs):
    with pytest.raises(ValueError, match=r"expected some of image, hole.*Constants are numbers, true, false, null"):
        Replay(nn.Sequential(nn.Conv2d(4, 3, 1)), "0", "random", inputs=inputs)


def test_a_network_that_fails_is_told_its_constants():
    with pytest.raises(ValueError, match=r"called with \(B,4,H,W\), 500: set backbone.inputs"):
        Replay(nn.Sequential(nn.Conv2d(4, 3, 1)), "0", "random", inputs=["image", "hole", 500])


class WantsArguments(nn.Conv2d):
    def __init__(self):
        super().__init__(4, 3, 1)
        self.reset_parameters = self.somehow  # not the one of the constructor

    def somehow(self, how):
        raise AssertionError("is not called")


def convolutions(normed):
    torch.manual_seed(0)
    norm = nn.GroupNorm(2, 16) if normed else nn.Identity()
    return nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))


def custom():
    """Its own initialization, as that of many GANs; the norms start as ever."""
    network = convolutions(True)
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
    return network


def trained(network, steps=20):
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        x = torch.rand(4, 4, 16, 16)
        optimizer.zero_grad()
        (network(x) - x[:, :3]).square().mean().backward()
        optimizer.step()
    return network.requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "random"),
    [
        (partial(convolutions, True), True),
        (partial(convolutions, False), True),
        (custom, True),
        (lambda: build(LaMaConfig(width=8, downsamplings=2, blocks=1, global_channels=24)), True),
        (lambda: trained(convolutions(True), steps=1), False),
        (lambda: trained(convolutions(False)), False),
        (lambda: trained(custom(), steps=1), False),
        (WantsArguments, False),
        (nn.Identity, False),  # nothing there that could tell
    ],
)
def test_weights_that_nobody_trained_are_told_from_trained_ones(make, random):
    network = make()
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    assert looks_untrained(network) == random
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_random_weights_are_told_unless_they_are_asked_for_once(tmp_path):
    with pytest.warns(UserWarning, match="'mine' has RANDOM weights: backbone.weights is not given") as told:
        Replay(convolutions(True), "0", name="mine")
    assert len(told) == 1 and "Set backbone.weights=<file>" in str(told[0].message)
    torch.save(convolutions(True).state_dict(), tmp_path / "w.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Replay(trained(convolutions(True)), "0")
        Replay(convolutions(True), "0", weights=tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=r"RANDOM weights \(backbone.weights=random\)"):
        Replay(convolutions(True), "0", weights="random")


@pytest.fixture(scope="module")
def program():
    height, width = torch.export.Dim("height", min=4, max=1024), torch.export.Dim("width", min=4, max=1024)
    shapes = ({0: torch.export.Dim("batch", min=1), 2: height, 3: width},)
    return torch.export.export(trained(convolutions(False)), (torch.rand(2, 4, 8, 8),), dynamic_shapes=shapes)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["program", "module", "maker"])
def test_a_program_of_torch_export_is_refused_with_what_to_do(program, kind):
    network = {"program": program, "module": program.module(), "maker": lambda: program}[kind]
    with pytest.raises(ValueError, match=r"program of torch.export \(.*\).*the class it was exported from.*unflatten"):
        Replay(network, "0", minimum_side=4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_ways_out_that_it_names_work(program, tmp_path):
    unflattened = Replay(torch.export.unflatten(program), "0", minimum_side=4)
    torch.save(program.state_dict, tmp_path / "weights.pt")
    loaded = Replay(convolutions(False), "0", weights=tmp_path / "weights.pt", minimum_side=4)
    one = Level(torch.rand(2, 3, 16, 12), (torch.rand(2, 1, 16, 12) > 0.5).float(), (16, 12))
    torch.testing.assert_close(unflattened.rear(unflattened.front(one)), loaded.whole(one))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_file_of_torch_export_as_weights_is_told_how_to_save_them(program, tmp_path):
    torch.export.save(program, tmp_path / "network.pt2")
    with pytest.raises(UnusableWeights, match=r"is a program of torch.export: .*torch.export.load\('network.pt2'\)"):
        read_checkpoint(tmp_path / "network.pt2")


def test_the_command_says_that_weights_are_random(tmp_path, monkeypatch):
    (tmp_path / "timed_network.py").write_text(TIMED)
    (tmp_path / "timed.yaml").write_text(
        "defaults: [replay]\nname: timed\nnative_size: 32\ncut: first\noutput: 0\n"
        "inputs: {sample: [image, hole], timestep: 7, return_dict: false}\n"
        "network: {_target_: timed_network.Timed, width: 16}\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="RANDOM weights"):
        assert refine("check", "backbone=timed.yaml").status == 0
