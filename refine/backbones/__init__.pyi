from .aot_gan import AOTGAN
from .lama import LaMa
from .migan import MIGAN
from .opencv import Cv2
from .replay import Replay
from .sequential import SequentialBackbone

__all__ = [
    "AOTGAN",
    "MIGAN",
    "Cv2",
    "LaMa",
    "Replay",
    "SequentialBackbone",
]
