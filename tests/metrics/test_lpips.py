"""LPIPS with SqueezeNet: torchmetrics' numbers without torchvision."""

import csv
from pathlib import Path

import pytest
import torch
from generated import pair, refine
from torchmetrics.functional.image import lpips as reference

from refine.metrics.lpips import LPIPS, squeezenet
from refine.weights.checkpoint import UnusableWeights

PUBLISHED = Path(__file__).parents[3] / "shared" / "weights" / "lpips" / "squeezenet1_1-backbone.pth"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A SqueezeNet of random weights, in a file like torchvision's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = {f"features.{name}": value for name, value in squeezenet().state_dict().items()}
    path = tmp_path_factory.mktemp("hub") / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    path.parent.mkdir()
    torch.save({**state, "classifier.1.weight": torch.zeros(10, 512, 1, 1)}, path)
    return path


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(2)
    return torch.rand(2, 3, 70, 90, generator=draw), torch.rand(2, 3, 70, 90, generator=draw)


def test_it_is_that_of_torchmetrics(weights, images, monkeypatch):
    ours = LPIPS(weights)
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda net, pretrained: ours.features)
    theirs = reference._NoTrainLpips(net="squeeze")
    expected = theirs(*images, normalize=True).flatten()
    assert expected.min() > 0.01 and torch.allclose(ours(*images), expected, rtol=1e-5)
    assert torch.equal(ours(images[0], images[0]), torch.zeros(2))


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs the published weights of SqueezeNet")
def test_the_value_that_torchmetrics_documents():
    torch.manual_seed(42)
    first, second = (torch.rand(10, 3, 100, 100) for _ in range(2))
    assert LPIPS(PUBLISHED)(first, second).mean().item() == pytest.approx(0.1005, abs=5e-5)


@pytest.mark.parametrize(
    ("rows", "columns", "box"),
    [
        ((20, 23), (40, 44), (slice(0, 64), slice(10, 74))),  # grown to both sides, and where there is room
        ((60, 70), (0, 90), (slice(6, 70), slice(0, 90))),  # as large as it is, and to the border
    ],
)
def test_the_box_of_the_hole(weights, images, rows, columns, box):
    image, truth = (tensor[:1] for tensor in images)
    mask = torch.zeros(1, 1, 70, 90)
    mask[..., slice(*rows), slice(*columns)] = 1
    score = LPIPS(weights)
    assert torch.equal(score.in_box(image, truth, mask), score(image[..., *box], truth[..., *box]))
    assert score.in_box(image, truth, torch.zeros_like(mask)).isnan().all()


def test_weights_are_found_where_torch_hub_keeps_them(weights, images, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(weights.parent.parent))
    assert torch.equal(LPIPS()(*images), LPIPS(weights)(*images))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UnusableWeights, match=r"Download https://.* to it, or give a file by lpips_weights="):
        LPIPS()
    torch.save({"0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UnusableWeights, match=r"other\.pth"):
        LPIPS(tmp_path / "other.pth")


def test_scores_of_result_and_controls(weights, tmp_path, tiny):
    pair(tmp_path / "in", "a", 0, 64, 48)
    arguments = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", "truth=input", "metrics=[lpips_squeeze]"]
    assert refine("predict", *arguments, f"lpips_weights={weights}", *tiny).status == 0
    row = next(csv.DictReader((tmp_path / "out" / ".refine" / "rows.csv").open()))
    for control in ("", "plain.", "upscaled."):
        for place in ("image", "box"):
            assert 0 <= float(row[f"{control}lpips_squeeze_{place}_refine"]) < 2
    missing = refine("predict", *arguments, "lpips_weights=nowhere.pth", "overwrite=true", *tiny)
    assert missing.status == 2 and "nowhere.pth" in missing.err
