"""Reading what there is to do: jobs -> samples."""

import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from refine.encode import check_format
from refine.images import Picture, mask_to_tensor, read_mask, read_picture, to_tensor
from refine.jobs import Job
from refine.records import Failure, hash_files
from refine.types import Sample


@dataclass(frozen=True)
class Source:
    """What the writer needs to make a file of a result: what was read, and from which bytes."""

    job: Job
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


class Jobs(Dataset[Sample | Failure]):
    """The jobs of a run; one that cannot be read is a :class:`Failure`, not an exception, and the run goes on.

    Args:
        jobs: What to do.
        options: How masks are read.
        format: Of the results, so that a picture it cannot hold fails before time is spent on it.
    """

    def __init__(self, jobs: Sequence[Job], options: MaskOptions, format: str) -> None:
        self.jobs = jobs
        self.options = options
        self.format = format
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

    def _read(self, job: Job) -> Sample:
        picture = read_picture(job.image)
        hole = read_mask(job.mask, self.options.threshold, self.options.invert, self.options.dilate)
        if hole.shape != picture.size:
            (height, width), (mask_height, mask_width) = picture.size, hole.shape
            raise ValueError(
                f"mask {job.mask} is {mask_width}x{mask_height}, but image {job.image} is {width}x{height} (upright, "
                "after its EXIF orientation); masks are never resized: make them the same size."
            )
        check_format(picture, self.format)
        self._warn_if_constant(hole, job)
        source = Source(job, picture, hash_files(job.image, job.mask))
        return Sample(job.key, to_tensor(picture), mask_to_tensor(hole), source)

    def _warn_if_constant(self, hole: np.ndarray, job: Job) -> None:
        full = bool(hole.all())
        if (full or not hole.any()) and full not in self._told:
            self._told.add(full)
            kind = "all hole" if full else "no hole at all"
            hint = "nothing is known to fill from" if full else "the image is written as it is"
            warnings.warn(f"mask {job.mask} has {kind}: {hint}. Is mask_invert right? (told once)", stacklevel=2)
