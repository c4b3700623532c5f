from .evaluator import Evaluation, Evaluator
from .image import psnr, scores, sharpness, ssim

__all__ = [
    "Evaluation",
    "Evaluator",
    "psnr",
    "scores",
    "sharpness",
    "ssim",
]
