"""Images in a folder and all folders below it, with masks beside them, in a folder of their own, or drawn."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from refine.data.masks import KINDS, MaskGenerator
from refine.data.pairs import Failure, ImageMaskPair, Listing
from refine.io.files import RUN_FOLDER, same_path
from refine.io.picture import SUFFIXES

_MASK_NAME = re.compile(r"(?P<image>.+)_mask[-_]?\d*", re.DOTALL)  # x_mask, x_mask001; greedy: the last _mask counts


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
    beside = mask is None and folder is None
    pairs: list[ImageMaskPair] = []
    failures: list[Failure] = []
    for place, files in list(_walk(root, [output, *([folder] if folder else [])], failures)):
        relative = PurePosixPath(place.relative_to(root))
        images = [file for file in files if mask is None or not same_path(file, Path(mask))]
        candidates = image_files(folder / relative) if folder else images
        for image in images:
            if beside and _MASK_NAME.fullmatch(image.stem):
                continue
            partners = masks_of(image, candidates, beside) if mask is None else [Path(mask).expanduser()]
            pairs += pairs_of(image, partners, relative)
            if not partners:
                where = folder / relative / f"{image.stem}.png" if folder else image.with_name(f"{image.stem}_mask.png")
                failures.append(Failure(str(image.relative_to(root)), f"has no mask; expected one such as {where}"))
        failures += _masks_without_image(images, root) if beside else []
    return pairs, failures


def pairs_with_drawn_masks(root: Path, generator: MaskGenerator, output: Path) -> Listing:
    """List every image of a folder with a drawn mask; masks that lie beside their images are no images.

    Args:
        root: Folder of the images, searched through all its folders.
        generator: Generator of the masks.
        output: Folder of the results; what lies in it is no input.
    """
    failures: list[Failure] = []
    files = [file for _, listing in _walk(root, [output], failures) for file in listing]
    images = {file.with_suffix("") for file in files}
    pairs = [
        ImageMaskPair(str(PurePosixPath(file.relative_to(root)).with_suffix("")), file, generator)
        for file in files
        if not ((match := _MASK_NAME.fullmatch(file.stem)) and file.with_name(match["image"]) in images)
    ]
    return pairs, failures


def mask_folder(path: str, images: Path) -> Path:
    """The folder of masks.

    Args:
        path: Path of the folder, as the user wrote it.
        images: Folder of the images.

    Raises:
        ValueError: There is no such folder, or it is that of the images.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        close = difflib.get_close_matches(str(path), KINDS, n=1)
        hint = f" Did you mean masks={close[0]}?" if close else f" {', '.join(KINDS)} draw masks into whole photos."
        raise ValueError(f"masks={path}: no such folder.{hint}")
    if same_path(folder, images):
        raise ValueError(f"masks={path} is the folder of the images; leave it out, x_mask.png beside x.png is found.")
    return folder


def masks_of(image: Path, files: Sequence[Path], beside: bool) -> list[Path]:
    """The masks of an image by name.

    Args:
        image: Path of the image.
        files: Files among which the masks are.
        beside: Whether these lie beside the image; in a folder of their own they may have the image's very stem.
    """
    masks = [file for file in files if (match := _MASK_NAME.fullmatch(file.stem)) and match["image"] == image.stem]
    return masks if beside else masks + [file for file in files if file.stem == image.stem]


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
    return sorted(
        f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and not f.is_dir()
    )


def _masks_without_image(files: Sequence[Path], root: Path) -> list[Failure]:
    """Masks in a folder of images and masks whose image is missing."""
    stems = {file.stem for file in files}
    return [
        Failure(str(file.relative_to(root)), f"is a mask without its image '{match['image']}'")
        for file in files
        if (match := _MASK_NAME.fullmatch(file.stem)) and match["image"] not in stems
    ]


def _walk(root: Path, without: Sequence[Path], failures: list[Failure]) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder from a root on with its image files; follows links, each real folder once, so that a loop ends.

    Results of other runs that lie further down are no input.
    """

    def note(error: OSError) -> None:
        failures.append(Failure(str(error.filename), f"cannot be listed ({error.strerror})"))

    visited = {os.path.realpath(folder.expanduser()) for folder in without}
    for place, folders, _ in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(place)
        if real in visited or (Path(place) != root and os.path.isdir(os.path.join(place, RUN_FOLDER))):
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        yield Path(place), image_files(Path(place))
