from .evaluator import Evaluation, Evaluator
from .image import psnr, scores, sharpness, ssim
from .seam import seam

__all__ = [
    "Evaluation",
    "Evaluator",
    "psnr",
    "scores",
    "seam",
    "sharpness",
    "ssim",
]
