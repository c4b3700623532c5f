from .dataset import PairDataset
from .discovery import find_pairs
from .masks import MaskGenerator
from .pairs import Failure, ImageMaskPair

__all__ = [
    "Failure",
    "ImageMaskPair",
    "MaskGenerator",
    "PairDataset",
    "find_pairs",
]
