"""An image with its mask, or the reason why an image cannot be processed."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from refine.data.masks import MaskGenerator
from refine.io.files import RUN_FOLDER, File, hash_files, hash_settings
from refine.io.picture import SUFFIXES


@dataclass(frozen=True)
class Failure:
    """An image that could not be processed, and why.

    Attributes:
        key: Key of the sample, or the name of a file that belongs to no sample.
        reason: Reason in one line.
        detail: Traceback for the log, if the fault may lie in this program.
    """

    key: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class ImageMaskPair:
    """One image with one mask.

    Attributes:
        key: Name of the result without suffix, relative to the output folder, with ``/``; unique within a run.
        image: File of the image.
        mask: File of the mask, the generator that draws it, or ``"alpha"``: the transparency of the image itself.
        truth: File of what the hole really holds; the image itself where the hole was drawn into a whole photo.
    """

    key: str
    image: File
    mask: File | MaskGenerator | str
    truth: File | None = None

    @property
    def files(self) -> tuple[File, ...]:
        """All files it reads, each once."""
        mask = () if isinstance(self.mask, MaskGenerator | str) else (self.mask,)
        truth = () if self.truth is None or self.truth == self.image else (self.truth,)
        return (self.image, *mask, *truth)

    def hash(self) -> str:
        """SHA-256 (hex) of its files, and of where the mask comes from and the key if it is in no file.

        Raises:
            OSError: A file cannot be read.
        """
        files = hash_files(*self.files)
        no_file = isinstance(self.mask, MaskGenerator | str)
        return hash_settings({"files": files, "mask": str(self.mask), "key": self.key}) if no_file else files


Listing = tuple[list[ImageMaskPair], list[Failure]]
"""The pairs of an input, and what of the input makes no pair."""


def checked_key(name: str, place: str) -> str:
    """The key of a result that a user named.

    Args:
        name: Name of the result with ``/``, with or without the suffix of an image.
        place: Place of the name, such as file and line, for the message.

    Raises:
        ValueError: The name leads outside the output folder.
    """
    path = PurePosixPath(name)
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    if path.is_absolute() or ".." in path.parts or path.parts[:1] in ((), (RUN_FOLDER,)):
        raise ValueError(f"{place}: the name {name!r} must be a path inside the output folder.")
    return str(path)
