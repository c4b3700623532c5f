"""Images of a run that are refined together: told of each other by the data, refined at once by the module."""

import csv
import dataclasses

import cv2
import pytest
import torch
from generated import pair, refine
from toys import Shift

from refine.core.choices import CHOICES
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.core.types import Sample
from refine.data.pairs import Failure
from refine.inference.datamodule import Neighbors
from refine.inference.module import InpaintingModule


class Counting(Shift):
    """Notes its batches; fails at a batch, or at an image that is white."""

    def __init__(self, error=None):
        super().__init__()
        self.batches, self.error = [], error

    def front(self, level):
        self.batches.append(level.image.shape[0])
        if self.error and level.image.shape[0] > 1:
            raise self.error
        features = super().front(level)
        white = (level.image.amin((1, 2, 3), keepdim=True) > 0.999).to(level.image)
        return dataclasses.replace(features, z=features.z | {"plane": features.z["plane"] / (1 - white)})


def sample(key, side=64, value=None):
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(len(key) + ord(key[0])))
    mask = torch.zeros(1, 1, side, side)
    mask[..., 16:48, 16:48] = 1
    return Sample(key, image if value is None else torch.full_like(image, value), mask)


def module(error=None, limit=None):
    made = Refiner(Counting(error), Pyramid(32), MultiscaleL1(3), steps=3, lr=0.05, graph=False)
    return InpaintingModule(made, limit)


@pytest.fixture
def as_on_cuda(monkeypatch):
    monkeypatch.setitem(CHOICES, "cpu", CHOICES["cuda"])


def predict(module, samples, batch=4):
    return [module.predict_step(sample, index) for index, sample in enumerate(Neighbors(samples, batch))]


def test_neighbors_of_one_size_are_told_of_each_other():
    images = [sample("a"), sample("b"), Failure("c", "broken", ""), sample("d"), sample("e", 80), sample("f")]
    told = list(Neighbors(images, batch=2))
    assert len(Neighbors(images, batch=2)) == 6
    assert [image.key for image in told if not isinstance(image, Failure)] == ["a", "b", "d", "e", "f"]
    groups = [[x.key for x in image.together] for image in told if isinstance(image, Sample)]
    assert groups == [["a", "b"], ["a", "b"], [], [], []]


def test_they_are_refined_at_once_and_come_one_by_one(as_on_cuda):
    samples = [sample(key) for key in "abcde"]
    together = module()
    results = predict(together, samples)
    assert together.refiner.backbone.batches == [4, 4, 1, 1]
    for got, one in zip(results, samples, strict=True):
        expected = module().predict_step(one, 0)
        torch.testing.assert_close(got.image, expected.image, atol=1e-6, rtol=0)
        assert got.levels[1].losses.shape == (4, 1) and got.levels[1].updates.tolist() == [3]


@pytest.mark.filterwarnings("ignore:.*each by itself")
def test_a_bad_image_costs_only_itself(as_on_cuda):
    samples = [sample("a"), sample("b", value=1.0), sample("c")]
    with pytest.warns(UserWarning, match="3 images together: the backbone's plain prediction has non-finite values"):
        results = predict(module(), samples)
    assert isinstance(results[1], Failure) and "FloatingPointError" in results[1].reason
    for index in (0, 2):
        assert torch.equal(results[index].image, module().predict_step(samples[index], 0).image)


def test_a_batch_that_does_not_fit_is_refined_one_by_one(as_on_cuda):
    samples = [sample("a"), sample("b")]
    with pytest.warns(UserWarning, match=r"2 images together: CUDA out of memory; each by itself"):
        results = predict(module(torch.OutOfMemoryError("CUDA out of memory")), samples)
    assert all(torch.equal(r.image, module().predict_step(s, 0).image) for r, s in zip(results, samples, strict=True))


def test_images_with_pictures_are_refined_alone(as_on_cuda):
    made = module()
    made.alone = {"b"}
    predict(made, [sample(key) for key in "abc"])
    assert made.refiner.backbone.batches == [2, 2, 1, 1]


def test_a_cpu_takes_each_alone():
    made = module()
    samples = [sample("a"), sample("b")]
    results = predict(made, samples)
    assert set(made.refiner.backbone.batches) == {1}
    assert all(torch.equal(r.image, module().predict_step(s, 0).image) for r, s in zip(results, samples, strict=True))


def test_a_run_in_batches_writes_the_files_of_one_without(as_on_cuda, tmp_path, tiny):
    """The whole command; three photos of one size and one of another."""
    for index in range(4):
        pair(tmp_path / "in", f"photo_{index}", seed=index, width=48 if index < 3 else 64)
    written = {}
    for batch in (1, 2):
        output = tmp_path / f"out_{batch}"
        inputs = [f"input={tmp_path / 'in'}", f"output={output}"]
        assert refine("predict", *inputs, *tiny, "refiner.graph=false", f"data.batch={batch}").status == 0
        written[batch] = {file.name: cv2.imread(str(file)).astype(int) for file in sorted(output.glob("*.png"))}
        with (output / ".refine" / "rows.csv").open(newline="") as rows:
            assert all(float(row["seconds"]) > 0 for row in csv.DictReader(rows))
    assert written[1].keys() == written[2].keys() and len(written[1]) == 4
    for name, image in written[1].items():
        assert abs(image - written[2][name]).max() <= 1  # of 255: sums of a batch are rounded otherwise
