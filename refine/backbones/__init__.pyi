from .aot_gan import AOTGAN
from .lama import LaMa
from .ldm import LDM
from .migan import MIGAN
from .opencv import Cv2
from .replay import Replay
from .sequential import SequentialBackbone

__all__ = [
    "AOTGAN",
    "LDM",
    "MIGAN",
    "Cv2",
    "LaMa",
    "Replay",
    "SequentialBackbone",
]
