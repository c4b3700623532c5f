from .backbone import FrontRear
from .composite import composite
from .erosion import erode
from .history import OptimizationHistory
from .objective import Comparison, MultiscaleL1, Objective
from .pyramid import Pyramid, downscale, make_level
from .refiner import Refiner
from .types import Features, Level, LevelResult, Refinement, Sample, Step
from .upscaler import Upscaler

__all__ = [
    "Comparison",
    "Features",
    "FrontRear",
    "Level",
    "LevelResult",
    "MultiscaleL1",
    "Objective",
    "OptimizationHistory",
    "Pyramid",
    "Refinement",
    "Refiner",
    "Sample",
    "Step",
    "Upscaler",
    "composite",
    "downscale",
    "erode",
    "make_level",
]
