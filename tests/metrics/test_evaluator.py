"""Scores of a result and its controls, the verdict, and what a run sums up."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from refine.core.backbone import FrontRear
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.core.types import Features, Level, Sample
from refine.inference.summary import summarize, summary_lines
from refine.metrics.evaluator import Evaluator, verdict


class Gray(FrontRear):
    """Fills with one gray; z is that gray."""

    layers = ("gray",)
    multiple_of, native_size, weights_hash = 1, 16, "none"

    def __init__(self) -> None:
        super().__init__()
        self.gray = nn.Parameter(torch.tensor(0.25))
        self.freeze()

    def front(self, level: Level) -> Features:
        return Features({"gray": self.gray.expand(1, 1, 1, 1)}, level.image)

    def rear(self, features: Features) -> torch.Tensor:
        return features.z["gray"] + 0 * features.context


@pytest.fixture
def sample():
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 32, 48)
    mask[..., 8:24, 10:40] = 1
    return Sample("a", image, mask, truth=image)


def refiner(steps=2, levels=None, erosion=0):
    return Refiner(Gray(), Pyramid(16, max_levels=levels), MultiscaleL1(erosion), steps=steps, lr=0.1)


def evaluated(made, sample, **options):
    evaluator, refinement = Evaluator(made, **options), made(sample.image, sample.mask)
    evaluation = evaluator(refinement, sample)
    if sample.truth is None:
        return evaluation
    images = {"": refinement.image, **evaluation.controls}
    against_truth = evaluator.against_truth(images, sample, lambda image: image)
    return replace(evaluation, row={**evaluation.row, **against_truth})


def test_the_controls_are_what_the_presets_give(sample):
    evaluation = evaluated(refiner(), sample)
    hole = sample.mask.expand_as(sample.image) > 0
    plain = evaluation.controls["plain"]
    assert torch.allclose(plain[hole], torch.tensor(0.25)) and torch.equal(plain[~hole], sample.image[~hole])
    assert torch.allclose(evaluation.controls["upscaled"], plain, atol=0.6)  # of a level that holds more hole
    expected = -10 * torch.log10(((plain - sample.image)[hole] ** 2).mean())
    assert evaluation.row["plain.psnr_hole_torchmetrics"] == pytest.approx(expected.item(), abs=1e-3)
    assert evaluation.row["plain.guide_l1_hole_refine"] >= evaluation.row["guide_l1_hole_refine"]


def test_an_arm_without_refinement_is_its_own_plain_control(sample):
    made = refiner(levels=1)
    row = evaluated(made, sample).row
    assert row["plain.psnr_hole_torchmetrics"] == row["psnr_hole_torchmetrics"]
    assert "upscaled.psnr_hole_torchmetrics" not in row
    assert row["verdict_gain"] == 0 and row["verdict"] == "unsure"


def test_without_truth_only_the_agreement_is_told(sample):
    blind = Sample("a", sample.image, sample.mask)
    assert set(evaluated(refiner(), blind).row) == {"known_l1_refine", "guide_l1_hole_refine", "seam_refine"}
    asked = evaluated(refiner(), blind, always=True)
    assert set(asked.controls) == {"plain", "upscaled"}
    assert {"plain.guide_l1_hole_refine", "plain.seam_refine"} < set(asked.row) and "verdict" not in asked.row


def test_further_scores_are_given_to_result_and_controls(sample):
    row = evaluated(
        refiner(), sample, further={"gap_refine": lambda image, truth, mask: (image - truth).abs().amax()[None]}
    ).row
    assert {"gap_refine", "plain.gap_refine", "upscaled.gap_refine"} <= set(row)


def noisy(seed, level):
    return level * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("plain", "refined", "said"), [(0.2, 0.1, "better"), (0.1, 0.2, "worse"), (0.1, 0.1, "unsure")]
)
def test_the_verdict_names_the_better_image(plain, refined, said):
    truth, mask = torch.full((1, 3, 64, 64), 0.5), torch.ones(1, 1, 64, 64)
    row = verdict(truth + noisy(1, refined), truth + noisy(2, plain), truth, mask, "a")
    assert row["verdict"] == said
    assert row["verdict_low"] < row["verdict_gain"] < row["verdict_high"]
    assert row["verdict_gain"] == pytest.approx(20 * math.log10(plain / refined), abs=0.3)


def test_the_verdict_is_unsure_about_a_tiny_hole_and_finite_about_a_perfect_fill():
    truth, mask = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 1, 64, 64)
    mask[..., 10:13, 10:13] = 1
    row = verdict(truth, truth + noisy(2, 0.1), truth, mask, "a")
    assert row["verdict"] == "unsure" and math.isnan(row["verdict_low"]) and 20 < row["verdict_gain"] < 200


def test_the_verdict_of_one_place_that_decides_is_unsure():
    """A gain that comes from a single block may well vanish when blocks are drawn again."""
    truth, mask = torch.full((1, 3, 64, 64), 0.5), torch.ones(1, 1, 64, 64)
    plain = truth + noisy(1, 0.1)
    refined = truth + noisy(2, 0.1)
    plain[..., :4, :4] += 1.0
    row = verdict(refined, plain, truth, mask, "a")
    assert row["verdict_gain"] > 0.5 and row["verdict"] == "unsure"


def test_a_verdict_follows_the_key_alone():
    truth, mask = torch.full((1, 3, 64, 64), 0.5), torch.ones(1, 1, 64, 64)
    images = (truth + noisy(1, 0.1), truth + noisy(2, 0.1), truth, mask)
    assert verdict(*images, "a") == verdict(*images, "a") != verdict(*images, "b")


def rows(count=8):
    random = np.random.default_rng(0)
    return [
        {
            "key": f"im{i}",
            "seconds": 2.0,
            "peak_memory_mib": 100 + i,
            "psnr_hole_torchmetrics": 20 + i,
            "plain.psnr_hole_torchmetrics": 19 + i + random.normal() * 0.1,
            "verdict": "better" if i else "unsure",
            "mask_hash": f"{i:064x}",
        }
        for i in range(count)
    ]


def test_a_summary_pairs_the_images():
    summary = summarize(rows())
    gain, mean = summary["gain"]["plain"]["psnr_hole_torchmetrics"], summary["scores"]["psnr_hole_torchmetrics"]
    assert mean == {"mean": 23.5, "error": pytest.approx(np.std(range(8), ddof=1) / 8**0.5), "n": 8}
    assert gain["mean"] == pytest.approx(1, abs=0.15) and gain["error"] < 0.1 and "upscaled" not in summary["gain"]
    assert summary["verdicts"] == {"better": 7, "worse": 0, "unsure": 1}
    assert summary["peak_memory_mib"] == 107 and summary["seconds"]["mean"] == 2
    assert any("better 7" in line for line in summary_lines(summary))
    assert summarize(rows()[::-1])["masks_hash"] == summary["masks_hash"] != summarize(rows(7))["masks_hash"]


def test_what_is_not_there_or_not_finite_is_left_out_and_counted():
    some = [*rows(3), {"key": "b", "psnr_hole_torchmetrics": math.inf}, {"key": "c"}]
    assert summarize(some)["scores"]["psnr_hole_torchmetrics"]["n"] == 3
    assert summarize([])["images"]["n"] == 0 and summary_lines(summarize([])) == []


def test_a_summary_counts_the_images_that_refinement_left_as_they_were():
    some = [{"key": "a", "nothing_refined": True}, {"key": "b", "nothing_refined": False}, {"key": "c"}]
    summary = summarize(some)
    assert summary["nothing_refined"] == 1
    assert summary_lines(summary) == [
        "nothing refined: 1 of 3 images have holes too thin to be compared and keep the plain prediction; "
        "objective.narrowest=null objective.adaptive=true refines them too"
    ]


def test_one_image_has_no_error_of_its_mean():
    lines = summary_lines(summarize(rows(1)))
    assert any("(n = 1)" in line for line in lines) and not any("nan" in line or "±" in line for line in lines)
