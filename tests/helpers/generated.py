"""Generated photos, masks and folders, and the command run in this process."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from refine.__main__ import main


def photo(width=48, height=40, channels=3, dtype=np.uint8, seed=0) -> np.ndarray:
    """``(H, W, C)`` noise: any change of a known pixel shows."""
    values = np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)
    return values if dtype == np.uint16 else (values >> 8).astype(np.uint8)


def hole(width=48, height=40) -> np.ndarray:
    """``(H, W)`` bool with a hole in the middle and one at the border."""
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 4 + max(1, height // 3), width // 4 : width // 4 + max(1, width // 3)] = True
    mask[: max(1, height // 8), width - max(1, width // 8) :] = True
    return mask


def save(path: Path, values: np.ndarray, **options) -> Path:
    """Write 8 bits (bool: black and white) in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values.astype(np.uint8) * 255 if values.dtype == bool else values
    Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values).save(path, **options)
    return path


def pair(folder: Path, stem: str, seed=0, width=48, height=40) -> Path:
    """``stem.png`` and ``stem_mask.png``; gives the image."""
    save(folder / f"{stem}_mask.png", hole(width, height))
    return save(folder / f"{stem}.png", photo(width, height, seed=seed))


def replaced(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """Change the bytes of a file."""
    path.write_bytes(change(path.read_bytes()))
    return path


@dataclass
class Outcome:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str


def refine(*arguments: object) -> Outcome:
    """Run ``refine`` in this process; no error of a user's may show a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return Outcome(status, out.getvalue(), err.getvalue())
