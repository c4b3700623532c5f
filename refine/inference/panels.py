"""Pictures of chosen images for whoever looks at a run: what was given, what came out, and how it got there.

Each process leaves those of its own images in the run folder; the files' names alone say what they are, so that the run
that ends finds those of all processes and of an earlier, killed run.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PARTS = ("input", "plain", "upscaled", "refined", "truth")  # as they stand beside each other
HOLE = (1.0, 0.2, 0.6)  # color of the hole in the input; rare in photos
_FRAME = re.compile(r"level(\d+)-update(\d+)\.png")


@dataclass(frozen=True)
class Frame:
    """One picture of an evolution.

    Attributes:
        level: Index of the level, 0 = coarsest.
        update: Updates made at this level.
        path: PNG file.
    """

    level: int
    update: int
    path: Path

    @staticmethod
    def name(level: int, update: int) -> str:
        """Its file's name."""
        return f"level{level}-update{update:04d}.png"


@dataclass(frozen=True)
class Panel:
    """The pictures of one image.

    Attributes:
        key: Name of the image within the run.
        parts: Name and PNG file, in the order of :data:`PARTS`; those that there are.
        frames: The evolution, coarse to fine.
    """

    key: str
    parts: Sequence[tuple[str, Path]]
    frames: Sequence[Frame]


def choose(keys: Iterable[str], wanted: Sequence[str] | None, count: int) -> list[str]:
    """The keys of the images to show.

    Args:
        keys: Names of all images of a run.
        wanted: Some of them; None for the first.
        count: How many, if none are wanted.

    Raises:
        ValueError: If one that is wanted is not there, or the count is negative.
    """
    every = sorted(keys)
    if wanted is None:
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"panels.count={count}: expected a number of images, 0 or more.")
        return every[:count]
    for key in wanted:
        if key not in every:
            some = ", ".join(every[:3]) + (" ..." if len(every) > 3 else "")
            raise ValueError(f"panels.keys: there is no image '{key}'; there are {some}")
    return list(wanted)


def find(folder: Path, key: str) -> Panel:
    """The pictures of an image that are there.

    Args:
        folder: Folder with the pictures of this image.
        key: Name of the image within the run.
    """
    parts = [(name, path) for name in PARTS if (path := folder / f"{name}.png").is_file()]
    matches = [(match, path) for path in folder.glob("level*.png") if (match := _FRAME.fullmatch(path.name))]
    frames = [Frame(int(match[1]), int(match[2]), path) for match, path in matches]
    return Panel(key, parts, sorted(frames, key=lambda frame: (frame.level, frame.update)))


def shown_size(size: tuple[int, int], side: int | None) -> tuple[int, int]:
    """Size ``(height, width)`` px at which an image of another size is shown: its longest side at most ``side``."""
    ratio = min(1.0, side / max(size)) if side else 1.0
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """``(1, C, H, W)`` in [0, 1] at another size; larger or smaller, antialiased."""
    image = image.detach().float()
    if image.shape[-2:] == size:
        return image.clamp(0, 1)
    return F.interpolate(image, size, mode="bilinear", antialias=True).clamp(0, 1)


def composited(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """A prediction at any size in the hole of an image as it is shown.

    Args:
        prediction: ``(1, 3, h, w)``, raw.
        image: ``(1, 3, H, W)`` as shown.
        mask: ``(1, 1, H, W)`` as shown, with the hole's share in each pixel.
    """
    size = (image.shape[-2], image.shape[-1])
    return torch.lerp(image, resized(prediction, size).to(image.device), mask)


def marked(image: Tensor, mask: Tensor) -> Tensor:
    """The image with its hole painted over; arguments as :func:`composited`."""
    return torch.lerp(image, torch.tensor(HOLE, device=image.device).view(1, 3, 1, 1).expand_as(image), mask)


def to_bytes(image: Tensor) -> np.ndarray:
    """``(1, 3, H, W)`` in [0, 1] as ``(H, W, 3)`` uint8."""
    pixels = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    return np.ascontiguousarray(pixels.cpu().numpy())
