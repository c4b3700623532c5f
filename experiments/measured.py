"""What the scripts of several experiments share: photos of a folder, made squares, and two arms compared."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from refine.metrics.bootstrap import interval


def photos_of(folder: str) -> list[Path]:
    """The photos of a folder and the folders in it, by name."""
    return sorted(file for file in Path(folder).rglob("*") if file.suffix in (".jpg", ".png"))


def square(file: Path, side: int) -> torch.Tensor:
    """The middle of a photo shrunk to a short side of ``side`` px, ``(1, 3, side, side)`` in [0, 1]."""
    image = Image.open(file).convert("RGB")
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = np.array(image.crop((left, top, left + side, top + side)))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def paired(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], scores: Iterable[str]) -> list[str]:
    """Mean differences of the scores with their 95 % intervals, as text.

    Args:
        ours: Rows of an arm, one per photo.
        theirs: Rows of the arm it is compared with, of the same photos in the same order.
        scores: Names of the scores.
    """
    cells = []
    for score in scores:
        differences = np.array([a[score] - b[score] for a, b in zip(ours, theirs, strict=True)])
        low, high = interval(differences)
        cells.append(f"{differences.mean():+.4f} [{low:+.4f}, {high:+.4f}]")
    return cells
