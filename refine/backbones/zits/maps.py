"""Maps of edges and lines: found in the known pixels, read from files, brought to the size of a level."""

import hashlib
import math
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refine.backbones.zits.structure import StructureUpsampling
from refine.io.files import hash_file
from refine.io.picture import read_picture, to_tensor

SIGMA = 3.0  # of the blur before edges are looked for, px
WEAK, STRONG = 0.1, 0.2  # slopes of Canny's two thresholds, for Sobel sums of brightness in [0, 1]
LUMINANCE = (0.2125, 0.7154, 0.0721)


def find_edges(image: Tensor, mask: Tensor) -> Tensor:
    """Canny's edges of the known pixels; none in the hole and at its rim.

    They are those of scikit-image with a mask. Upstream calls it without one, so that it sees what is in the hole.
    (OpenCV's own Canny, which rounds directions to four, differs in one edge pixel of five.)

    Args:
        image: ``(1, 3, h, w)``, RGB in [0, 1].
        mask: ``(1, 1, h, w)``, 1 = hole.

    Returns:
        ``(1, 1, h, w)`` with values {0, 1}.
    """
    known = 1 - mask[0, 0].cpu().numpy().astype(np.float32)
    gray = image[0].permute(1, 2, 0).cpu().numpy().astype(np.float32) @ np.array(LUMINANCE, np.float32) * known
    share, blurred = (_blurred(plane) for plane in (known, gray))
    blurred /= share + np.finfo(np.float32).eps
    inner = cv2.erode(known, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT, borderValue=0.0)
    slopes = np.stack([cv2.Sobel(blurred, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))])
    steepness = np.hypot(*slopes)
    weak = _peaks(slopes, steepness) & (inner > 0) & (steepness >= WEAK)
    _, pieces = cv2.connectedComponents(weak.astype(np.uint8))
    edges = weak & np.isin(pieces, np.unique(pieces[weak & (steepness >= STRONG)]))
    return torch.from_numpy(edges)[None, None].to(image)


def _blurred(plane: np.ndarray) -> np.ndarray:
    size = 2 * round(4 * SIGMA) + 1
    blurred: np.ndarray = cv2.GaussianBlur(plane, (size, size), SIGMA, borderType=cv2.BORDER_CONSTANT)
    return blurred


def _peaks(slopes: np.ndarray, steepness: np.ndarray) -> np.ndarray:
    """Where it is nowhere steeper a pixel further, neither up nor down the slope ``(2, h, w)``, x and y."""
    height, width = steepness.shape
    steps = slopes / np.abs(slopes).max(axis=0).clip(min=np.finfo(np.float32).tiny)
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)))
    peaks = np.ones(steepness.shape, bool)
    for place in (here + steps, here - steps):
        grid = torch.from_numpy(np.stack([2 * place[0] / (width - 1) - 1, 2 * place[1] / (height - 1) - 1], axis=-1))
        beside = F.grid_sample(
            torch.from_numpy(steepness)[None, None].double(), grid[None].double(), align_corners=True
        )
        peaks &= beside[0, 0].numpy() <= steepness + 1e-6
    return peaks


class MapFiles:
    """Maps of one kind in files: white is an edge or line, and gray a faint one.

    Args:
        setting: Name of the setting, for messages.
        path: Folder of maps named as the images are, or one file for all of them.

    Raises:
        ValueError: If there is no such file or folder.
    """

    def __init__(self, setting: str, path: str | Path) -> None:
        self.setting, self.path = setting, Path(path).expanduser().absolute()
        if not self.path.exists():
            raise ValueError(f"{setting}={path}: no such file or folder.")

    @property
    def files(self) -> list[Path]:
        """The files, in the order of their names."""
        return sorted(file for file in self.path.rglob("*") if file.is_file()) if self.path.is_dir() else [self.path]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the names and contents of the files."""
        listing = "".join(f"{file.relative_to(self.path)} {hash_file(file)}\n" for file in self.files)
        return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()

    def read(self, key: str) -> Tensor:
        """The map of an image, ``(1, 1, h, w)`` in [0, 1].

        Args:
            key: Name of the sample: that of the image without suffix, within the folder of the images.

        Raises:
            ValueError: If there is none.
            UnreadableImage: If it cannot be read.
        """
        file = self.path
        if self.path.is_dir():
            wanted = self.path / key
            found = [file for file in sorted(wanted.parent.glob("*")) if file.stem == wanted.name and file.is_file()]
            if len(found) != 1:
                names = ", ".join(file.name for file in found) or "none"
                raise ValueError(
                    f"{self.setting}={self.path}: expected one map named {key or '<image>'}.png for image '{key}'; "
                    f"there is {names}. Put it there, or give one file as {self.setting}."
                )
            file = found[0]
        return to_tensor(read_picture(file, math.inf)).mean(dim=1, keepdim=True)


def resized(soft: Tensor, size: tuple[int, int], upsampler: StructureUpsampling) -> Tensor:
    """A map at another size: doubled by the network while it is too small, then interpolated.

    Args:
        soft: ``(1, 1, h, w)`` in [0, 1].
        size: ``(height, width)``, px.
        upsampler: Network that doubles a map.

    Returns:
        ``(1, 1, *size)``.
    """
    while soft.shape[-2] < size[0] or soft.shape[-1] < size[1]:
        soft = upsampler.doubled(soft)
    if soft.shape[-2:] == size:
        return soft
    thinner = max(soft.shape[-2] / size[0], soft.shape[-1] / size[1]) >= 2  # whole lines would fall between the samples
    return F.interpolate(soft, size, mode="bilinear", align_corners=False, antialias=thinner)
