"""Images in a folder and all folders below it, with masks beside them, in a folder of their own, or drawn."""

import difflib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from refine.data.masks import KINDS, MaskGenerator
from refine.data.names import ByName, on_disk, same_text
from refine.data.pairs import HIDDEN, Failure, ImageMaskPair, Listing, Unused, is_hidden, reason_of
from refine.io.files import RUN_FOLDER, same_path
from refine.io.formats import READ

_MASK_NAME = re.compile(r"(?P<image>.+)_mask[-_]?\d*", re.DOTALL)  # x_mask, x_mask001; greedy: the last _mask counts
RESULTS = "folder with results of a run"
LONELY = "mask without an image"
LONELY_TRUTH = "truth without an image"
DRAWN = "mask file, while masks are drawn"


def pairs_in_folder(root: Path, mask: str | None, masks: str | None, output: Path) -> Listing:
    """List the images of a folder with mask files.

    Args:
        root: Folder of the images, searched through all its folders.
        mask: Path of one mask for every image, or None.
        masks: Folder of masks with the images' stems; None where masks lie beside the images as ``x_mask.png``.
        output: Folder of the results; what lies in it is no input.

    Raises:
        ValueError: The folder of masks is missing, or is that of the images.
    """
    folder = None if masks is None else mask_folder(masks, root)
    beside, listing, used = mask is None and folder is None, Listing(), set[Path]()
    for place, files in list(walk(root, [output, *([folder] if folder else [])], listing)):
        relative = PurePosixPath(place.relative_to(root))
        images = [file for file in files if mask is None or not same_path(file, Path(mask))]
        candidates = Masks(image_files(on_disk(folder / relative)) if folder else images, beside)
        for image in images:
            if beside and _MASK_NAME.fullmatch(image.stem):
                continue
            partners = candidates.of(image) if mask is None else [Path(mask).expanduser()]
            listing.pairs += pairs_of(image, partners, relative)
            used.update(partners)
            if not partners:
                where = folder / relative / f"{image.stem}.png" if folder else image.with_name(f"{image.stem}_mask.png")
                reason = f"has no mask; expected one such as {where}"
                listing.failures.append(Failure(str(image.relative_to(root)), reason))
        listing.failures += _masks_without_image([file for file in images if file not in used], root) if beside else []
    if folder:
        add_lonely(folder, used, [root, output], listing, LONELY)
    return listing


def pairs_without_mask_files(root: Path, generator: MaskGenerator | str, output: Path) -> Listing:
    """List every image of a folder with a mask that is in no file; masks that lie beside their images are no images.

    Args:
        root: Folder of the images, searched through all its folders.
        generator: Generator of the masks, or ``"alpha"``: the transparency of each image.
        output: Folder of the results; what lies in it is no input.
    """
    listing = Listing()
    files = [file for _, folder in walk(root, [output], listing) for file in folder]
    images = {same_text(str(file.with_suffix(""))) for file in files}
    for file in files:
        name, match = str(file.relative_to(root)), _MASK_NAME.fullmatch(file.stem)
        if match and same_text(str(file.with_name(match["image"]))) in images:
            listing.unused.append(Unused(name, DRAWN))
        else:
            listing.pairs.append(ImageMaskPair(str(PurePosixPath(name).with_suffix("")), file, generator))
    return listing


def mask_folder(path: str, images: Path) -> Path:
    """The folder of masks.

    Args:
        path: Path of the folder, as the user wrote it.
        images: Folder of the images.

    Raises:
        ValueError: There is no such folder, or it is that of the images.
    """
    folder = Path(path).expanduser()
    if folder.is_file():
        hint = f"mask={path} takes it" if folder.suffix.lower() in READ else "expected a folder of masks"
        raise ValueError(f"masks={path} is a file; {hint}.")
    if not folder.is_dir():
        close = difflib.get_close_matches(str(path), KINDS, n=1)
        hint = f" Did you mean masks={close[0]}?" if close else f" {', '.join(KINDS)} draw masks into whole photos."
        raise ValueError(f"masks={path}: no such folder.{hint}")
    if same_path(folder, images):
        raise ValueError(f"masks={path} is the folder of the images; leave it out, x_mask.png beside x.png is found.")
    return folder


class Masks:
    """The masks of a folder, by the names of their images.

    Args:
        files: Files among which the masks are.
        beside: Whether these lie beside the images; in a folder of their own they may have the image's very stem.
    """

    def __init__(self, files: Sequence[Path], beside: bool) -> None:
        matches = [(_MASK_NAME.fullmatch(file.stem), file) for file in files]
        self._called_mask = ByName((match["image"], file) for match, file in matches if match)
        self._of_same_name = ByName(() if beside else ((file.stem, file) for file in files))

    def of(self, image: Path) -> list[Path]:
        """The masks of an image by name."""
        return self._called_mask[image.stem] + self._of_same_name[image.stem]


def pairs_of(image: Path, masks: Sequence[Path], folder: PurePosixPath) -> list[ImageMaskPair]:
    """One image with each of its masks; one mask: the result is named as the image, several: as the mask.

    Args:
        image: Path of the image.
        masks: Paths of its masks.
        folder: Folder of the results, relative to the output folder.
    """
    return [ImageMaskPair(str(folder / (mask if len(masks) > 1 else image).stem), image, mask) for mask in masks]


def image_files(folder: Path) -> list[Path]:
    """Image files of one folder by name, without hidden ones; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if is_image(file.name) and not file.is_dir())


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return PurePosixPath(name).suffix.lower() in READ and not is_hidden(name)


def walk(
    root: Path, without: Sequence[Path], listing: Listing, results: bool = False
) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder from a root on with its image files; follows links, each real folder once, so that a loop ends.

    Args:
        root: Folder to begin with.
        without: Folders to leave out, which need no mention.
        listing: Listing to which all other files are added, and folders that cannot be listed.
        results: Whether folders with results of a run are looked into; below an input they are no input.
    """

    def note(error: OSError) -> None:
        listing.failures.append(Failure(str(error.filename), f"cannot be listed ({error.strerror})"))

    visited = {os.path.realpath(folder.expanduser()) for folder in without}
    for path, folders, files in os.walk(root, followlinks=True, onerror=note):
        place, real = Path(path), os.path.realpath(path)
        above = not results and place != root and RUN_FOLDER in folders
        if real in visited or above:
            folders.clear()
            listing.unused += [Unused(f"{place.relative_to(root)}/", RESULTS)] if real not in visited else []
            continue
        visited.add(real)
        hidden = [f"{folder}/" for folder in folders if is_hidden(folder)]
        folders[:] = sorted(folder for folder in folders if not is_hidden(folder))
        for name in sorted(name for name in files if not is_image(name)):
            listing.unused.append(Unused(_below(root, place, name), reason_of(name)))
        listing.unused += [Unused(_below(root, place, name), HIDDEN) for name in sorted(hidden)]
        yield place, sorted(place / name for name in files if is_image(name))


def _below(root: Path, place: Path, name: str) -> str:
    return (PurePosixPath(place.relative_to(root)) / name).as_posix() + "/" * name.endswith("/")


def _masks_without_image(files: Sequence[Path], root: Path) -> list[Failure]:
    """Masks in a folder of images and masks whose image is missing.

    Args:
        files: Files that are in no pair.
        root: Folder that their names are told relative to.
    """
    return [
        Failure(str(file.relative_to(root)), f"is a mask without its image '{match['image']}'")
        for file in files
        if (match := _MASK_NAME.fullmatch(file.stem))
    ]


def add_lonely(folder: Path, used: Collection[Path], without: Sequence[Path], listing: Listing, reason: str) -> None:
    """List what lies in a folder of masks or truths and is in no pair; names begin with the folder's own.

    Args:
        folder: Folder, searched through all its folders.
        used: Files that are in pairs.
        without: Folders to leave out, which need no mention.
        listing: Listing to which the files are added.
        reason: Reason of the images among them.
    """
    real = {parent: os.path.realpath(parent) for parent in {file.parent for file in used}}  # one folder, two links
    places, found = {(real[file.parent], file.name) for file in used}, Listing()
    for place, files in walk(folder, without, found, results=True):
        here = os.path.realpath(place)
        lonely = [file.name for file in files if (here, file.name) not in places]
        found.unused += [Unused(_below(folder, place, name), reason) for name in lonely]
    listing.failures += found.failures
    listing.unused += [Unused(f"{folder.name}/{entry.name}", entry.reason) for entry in found.unused]
