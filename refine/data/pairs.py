"""What an input holds: images with their masks, images that cannot be processed, and files that are not used."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from refine.data.masks import MaskGenerator
from refine.io.files import RUN_FOLDER, File, hash_file, hash_settings
from refine.io.formats import READ


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
        return tuple(self._roles().values())

    def contents(self) -> dict[str, str]:
        """What its result is made from: ``image``, ``mask`` and, if it is another file, ``truth``.

        Returns:
            SHA-256 (hex) of each file; of a mask that is in no file where it comes from, with the key that seeds it.

        Raises:
            OSError: A file cannot be read.
        """
        hashes = {role: hash_file(file) for role, file in self._roles().items()}
        return hashes if "mask" in hashes else {**hashes, "mask": str(self.mask), "key": self.key}

    def _roles(self) -> dict[str, File]:
        mask = {} if isinstance(self.mask, MaskGenerator | str) else {"mask": self.mask}
        truth = {} if self.truth is None or self.truth == self.image else {"truth": self.truth}
        return {"image": self.image, **mask, **truth}


def inputs_hash(contents: Mapping[str, str]) -> str:
    """SHA-256 (hex) of all that a result is made from.

    Args:
        contents: What :meth:`ImageMaskPair.contents` says.
    """
    no_file = {name: contents[name] for name in ("mask", "key") if "key" in contents}
    hashes = [contents[name] for name in ("image", "mask", "truth") if name in contents and name not in no_file]
    files = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    return hash_settings({"files": files, **no_file}) if no_file else files


@dataclass(frozen=True)
class Unused:
    """A file of the input that is neither image nor mask of a pair, which is no fault.

    Attributes:
        name: Path of the file, or of a folder, with ``/`` at its end, for all that lies in it.
        reason: Reason in a few words, which many files may share: they are counted by it.
    """

    name: str
    reason: str


HIDDEN = "hidden or of the system"
"""Reason of files that no user means, such as ``.DS_Store``: they are counted, and otherwise not mentioned."""
_REASONS = 6  # of files that are not used, that one line names
_OF_THE_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"}


@dataclass
class Listing:
    """All files of an input: each is in a pair, or has failed, or is not used.

    Attributes:
        pairs: Images with their masks.
        failures: Inputs that should have made a pair and do not.
        unused: Files that are nothing to refine.
    """

    pairs: list[ImageMaskPair] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that a system puts beside a user's files."""
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def reason_of(name: str) -> str:
    """Why a file of this name is not used, where the name alone says it."""
    if is_hidden(name):
        return HIDDEN
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".tar":
        return "tar that does not lie directly in a folder of tars"
    return suffix if suffix[1:].isalnum() and len(suffix) < 10 else "no suffix"


def count_unused(unused: Sequence[Unused]) -> dict[str, int]:
    """How many files are not used, by reason, the most frequent first."""
    return dict(Counter(entry.reason for entry in unused).most_common())


def say_unused(unused: Sequence[Unused]) -> str:
    """How many files are not used and why, in one line; nothing where they are all hidden."""
    counts = {reason: count for reason, count in count_unused(unused).items() if reason != HIDDEN}
    total, few = sum(counts.values()), list(counts.items())[:_REASONS]
    rest = total - sum(count for _, count in few)
    texts = [f"{reason}: {count}" for reason, count in [*few, ("other", rest)] if count]
    return f"not used: {total} file{'s' * (total != 1)} ({', '.join(texts)})" if total else ""


def checked_key(name: str, place: str) -> str:
    """The key of a result that a user named.

    Args:
        name: Name of the result with ``/``, with or without the suffix of an image.
        place: Place of the name, such as file and line, for the message.

    Raises:
        ValueError: The name leads outside the output folder.
    """
    path = PurePosixPath(name)
    if path.suffix.lower() in READ:
        path = path.with_suffix("")
    if path.is_absolute() or ".." in path.parts or path.parts[:1] in ((), (RUN_FOLDER,)):
        raise ValueError(f"{place}: the name {name!r} must be a path inside the output folder.")
    return str(path)
