"""Scores of sets of images: distances between features, worked out by hand and by LaMa's evaluation."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from refine.metrics import sets

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "lama"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="needs the reference vectors of the original code")


class FirstRow(nn.Module):
    """Takes the first row of an image for its features, so that a test can choose them."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features

    def forward(self, images):
        return images[:, 0, 0]


def images_of(features):
    return features[:, None, None, :].expand(-1, 3, -1, -1)


def distance(metric, features, others):
    metric.update(images_of(others), real=True)
    metric.update(images_of(features), real=False)
    return metric.compute()


def fid(features, others):
    return distance(sets.fid(FirstRow(features.shape[1])), features.double(), others.double()).item()


@pytest.mark.parity
@needs_fixtures
def test_fid_is_that_of_lamas_evaluation():
    numbers = json.loads((FIXTURES / "pub_metrics_masks.json").read_text())
    arrays = np.load(FIXTURES / "pub_metrics_masks.npz")
    features, others = (torch.from_numpy(arrays[f"fid_act_{name}"]) for name in ("pred", "target"))
    assert fid(features, others) == pytest.approx(numbers["frechet"], rel=1e-6)
    few = fid(features[:10], others[:10])  # fewer samples than features
    assert few == pytest.approx(numbers["frechet_first_10_rank_deficient"], rel=1e-6)


def test_fid_of_known_distributions():
    """In one dimension it is (difference of means)^2 + (difference of standard deviations)^2."""
    features, others = torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [16.0]])
    assert fid(features, others) == pytest.approx((13 - 1) ** 2 + (math.sqrt(18) - math.sqrt(2)) ** 2)
    cloud = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    assert fid(cloud, cloud) == pytest.approx(0, abs=1e-6)
    assert fid(cloud, cloud + torch.tensor([3.0, 0, 0, 0, 4])) == pytest.approx(25, rel=1e-5)
    scaled = float(cloud.double().mean(0).square().sum() + cloud.double().var(0).sum())
    assert fid(cloud, 2 * cloud) == pytest.approx(scaled, rel=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_kid_tells_sets_apart():
    draw = torch.Generator().manual_seed(8)
    cloud = torch.rand(40, 6, generator=draw)
    for others, low, high in ((torch.rand(40, 6, generator=draw), -0.1, 0.1), (cloud + 1, 1, math.inf)):
        value, _spread = distance(sets.kid(FirstRow(6), subset_size=20, subsets=5), cloud, others)
        assert low < value.item() < high


@pytest.mark.parametrize(
    ("name", "missing"), [("fid", "torch_fidelity"), ("kid", "torch_fidelity"), ("lpips", "torchvision")]
)
def test_what_needs_the_extra_says_so(monkeypatch, name, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{name.upper()} needs {missing}.*refine-inpainting\[metrics\]"):
        getattr(sets, name)()


class Means(nn.Module):
    """Features that can be worked out: the mean of each channel."""

    def forward(self, images):
        return images.mean((2, 3))


class Detector(nn.Module):
    """As StyleGAN's detectors: bytes in, class scores out unless features are asked for."""

    def forward(self, images, return_features: bool = False):
        return images.mean((2, 3)) / 255 if return_features else images.sum((1, 2, 3))


class Classes(nn.Module):
    def forward(self, images):
        return images.mean((1, 2, 3))


def saved(network, folder):
    file = folder / f"{type(network).__name__}.pt"
    torch.jit.save(torch.jit.script(network), file)
    return file


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`:UserWarning")
@pytest.mark.parametrize("network", [Means(), Detector()])
def test_any_network_may_compare_the_sets(tmp_path, network):
    file, draw = saved(network, tmp_path), torch.Generator().manual_seed(1)
    truths = [torch.rand(1, 3, 8, 8, generator=draw) for _ in range(60)]
    pairs = [(truth / 2, truth) for truth in truths]
    scores = sets.set_scores(["fid", "kid"], lambda: pairs, network=file)
    means = torch.cat([truth.mean((2, 3)) for truth in truths]).double()
    assert scores["fid"]["value"] == pytest.approx(fid(means / 2, means), rel=1e-3)
    assert scores["kid"]["value"] > 0
    for score in scores.values():
        assert (score["n"], score["network"]) == (60, file.name)
        assert len(score["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Classes(), r"expected a network images .* for two images it gives \(2,\)"),
        (nn.Linear(4, 4), r"expected a network images .*; it fails: .*mat1 and mat2"),
        (b"no network", r"not a TorchScript file .*torch\.jit\.save"),
        (None, r"not a TorchScript file \(.*No such file"),
    ],
)
def test_a_file_that_is_no_such_network_is_refused(tmp_path, content, message):
    file = tmp_path / "network.pt"
    if isinstance(content, nn.Module):
        file = saved(content, tmp_path)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"fid_network=.*{message}"):
        sets.set_scores(["fid"], list, network=file)
