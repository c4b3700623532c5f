"""OpenCV's inpainting as controls: nothing to refine, and it says so."""

import cv2
import numpy as np
import pytest
import torch

from refine.api import load
from refine.backbones.opencv import Cv2


@pytest.mark.parametrize(("method", "flag"), [("telea", cv2.INPAINT_TELEA), ("ns", cv2.INPAINT_NS)])
def test_fills_as_opencv_does(method, flag):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    hole = np.zeros((2, 40, 50), np.uint8)
    hole[0, 10:20, 12:30] = hole[1, :8, 30:] = 1
    refiner = load(f"backbone=cv2_{method}", "preset=plain")
    filled = refiner(torch.from_numpy(image).permute(0, 3, 1, 2) / 255, torch.from_numpy(hole)[:, None].float()).image
    expected = np.stack([cv2.inpaint(*pair, 3, flag) for pair in zip(image, hole, strict=True)])
    assert np.array_equal((filled * 255).round().byte().permute(0, 2, 3, 1).numpy(), expected)


def test_refuses_to_be_refined():
    with pytest.raises(ValueError, match=r"backbone 'cv2_telea' .*preset=plain"):
        load("backbone=cv2_telea")
    with pytest.raises(ValueError, match="no layer 'local'; it exposes: none"):
        load("backbone=cv2_telea", "preset=plain", "refiner.optimize=[local]")
    assert load("backbone=cv2_ns", "preset=upscaled").backbone.layers == ()


def test_says_which_methods_there_are():
    with pytest.raises(ValueError, match="expected one of telea, ns"):
        Cv2("fmm")


def test_precision_and_device_follow():
    backbone = Cv2("ns").double()
    assert backbone.dtype == torch.float64
    assert backbone.device == torch.device("cpu")
    assert Cv2("ns").dtype == torch.float32
