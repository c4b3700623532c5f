from .api import inpaint, load
from .backbones import AOTGAN, MIGAN, Cv2, LaMa, Replay, SequentialBackbone
from .core import (
    Comparison,
    Features,
    FrontRear,
    Level,
    LevelResult,
    MultiscaleL1,
    Objective,
    Pyramid,
    Refinement,
    Refiner,
    Sample,
    Step,
    Upscaler,
)

__version__: str

__all__ = [
    "AOTGAN",
    "MIGAN",
    "Comparison",
    "Cv2",
    "Features",
    "FrontRear",
    "LaMa",
    "Level",
    "LevelResult",
    "MultiscaleL1",
    "Objective",
    "Pyramid",
    "Refinement",
    "Refiner",
    "Replay",
    "Sample",
    "SequentialBackbone",
    "Step",
    "Upscaler",
    "inpaint",
    "load",
]
