"""What a run works on: an image with its mask, or the reason why there is none."""

from dataclasses import dataclass
from pathlib import Path

from refine.data.masks import MaskGenerator
from refine.io.files import hash_files, hash_settings


@dataclass(frozen=True)
class Failure:
    """A sample that could not be done, and why.

    Attributes:
        key: Of the sample; a file's name where no sample came about.
        reason: One line.
        detail: Traceback for the log, if the fault may be ours.
    """

    key: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class ImageMaskPair:
    """One image with one mask.

    Attributes:
        key: Name of the result without suffix, relative to the output folder, with ``/``; unique within a run.
        image: File.
        mask: File, or the suite that draws it.
        truth: File of what the hole really holds; the image itself where the hole was drawn into a whole photo.
    """

    key: str
    image: Path
    mask: Path | MaskGenerator
    truth: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files it reads, each once."""
        mask = () if isinstance(self.mask, MaskGenerator) else (self.mask,)
        truth = () if self.truth is None or self.truth == self.image else (self.truth,)
        return (self.image, *mask, *truth)

    def hash(self) -> str:
        """SHA-256 (hex) of all it is made from.

        Raises:
            OSError: If a file cannot be read.
        """
        files = hash_files(*self.files)
        drawn = isinstance(self.mask, MaskGenerator)
        return hash_settings({"files": files, "mask": str(self.mask), "key": self.key}) if drawn else files
