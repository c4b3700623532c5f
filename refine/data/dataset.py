"""Reading what there is to do: jobs -> samples."""

import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from refine.core.types import Sample
from refine.data.masks import MaskGenerator
from refine.data.pairs import Failure, ImageMaskPair
from refine.data.subset import square
from refine.io.encode import check_format
from refine.io.picture import Picture, mask_to_tensor, read_mask, read_picture, to_tensor


@dataclass(frozen=True)
class Source:
    """What the writer needs to make a file of a result: what was read, and from which bytes."""

    job: ImageMaskPair
    picture: Picture
    inputs: str


@dataclass(frozen=True)
class MaskOptions:
    """How a mask file is read.

    Attributes:
        threshold: From this share of white on a pixel is hole.
        invert: Black is the hole.
        dilate: The hole grows by this many px.
    """

    threshold: float = 0.5
    invert: bool = False
    dilate: int = 0


class PairDataset(Dataset[Sample | Failure]):
    """The jobs of a run; one that cannot be read is a :class:`Failure`, not an exception, and the run goes on.

    Args:
        jobs: What to do.
        options: How masks are read.
        format: Of the results, so that a picture it cannot hold fails before time is spent on it.
        side: If given, images are resized and cropped to a square of this side (px) before a mask is drawn.
    """

    def __init__(
        self, jobs: Sequence[ImageMaskPair], options: MaskOptions, format: str, side: int | None = None
    ) -> None:
        self.jobs = jobs
        self.options = options
        self.format = format
        self.side = side
        self._told: set[bool] = set()

    def __len__(self) -> int:
        """Number of jobs."""
        return len(self.jobs)

    def __getitem__(self, index: int) -> Sample | Failure:
        """Read one job."""
        job = self.jobs[index]
        try:
            return self._read(job)
        except (ValueError, OSError) as error:
            return Failure(job.key, str(error))
        except Exception as error:
            return Failure(job.key, f"cannot be read ({type(error).__name__}: {error})", traceback.format_exc())

    def _read(self, job: ImageMaskPair) -> Sample:
        picture = self._picture(job.image)
        hole = self._hole(job, picture.size)
        if hole.shape != picture.size:
            (height, width), (mask_height, mask_width) = picture.size, hole.shape
            raise ValueError(
                f"mask {job.mask} is {mask_width}x{mask_height}, but image {job.image} is {width}x{height} (upright, "
                "after its EXIF orientation); masks are never resized: make them the same size."
            )
        check_format(picture, self.format)
        self._warn_if_constant(hole, job)
        image = to_tensor(picture)
        truth = image if job.truth == job.image else self._truth(job, picture.size)
        return Sample(job.key, image, mask_to_tensor(hole), Source(job, picture, job.hash()), truth)

    def _picture(self, path: Path) -> Picture:
        picture = read_picture(path)
        return picture if self.side is None else square(picture, self.side)

    def _hole(self, job: ImageMaskPair, size: tuple[int, int]) -> np.ndarray:
        if isinstance(job.mask, MaskGenerator):
            return job.mask(job.key, size)
        return read_mask(job.mask, self.options.threshold, self.options.invert, self.options.dilate)

    def _truth(self, job: ImageMaskPair, size: tuple[int, int]) -> Tensor | None:
        if job.truth is None:
            return None
        truth = self._picture(job.truth)
        if truth.size != size:
            raise ValueError(
                f"truth {job.truth} is {truth.size[1]}x{truth.size[0]}, but image {job.image} is {size[1]}x{size[0]}; "
                "images are never resized to fit: make them the same size."
            )
        return to_tensor(truth)

    def _warn_if_constant(self, hole: np.ndarray, job: ImageMaskPair) -> None:
        full = bool(hole.all())
        if (full or not hole.any()) and full not in self._told:
            self._told.add(full)
            kind = "all hole" if full else "no hole at all"
            hint = "nothing is known to fill from" if full else "the image is written as it is"
            warnings.warn(f"mask {job.mask} has {kind}: {hint}. Is mask_invert right? (told once)", stacklevel=2)
