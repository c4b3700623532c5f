"""Which image goes with which mask: a file, a folder, a manifest or tar files -> pairs of image and mask."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from refine.data.archives import pairs_in_tars, refuse_compressed, tar_files
from refine.data.folders import (
    LONELY_TRUTH,
    Masks,
    add_lonely,
    image_files,
    mask_folder,
    pairs_in_folder,
    pairs_of,
    pairs_without_mask_files,
)
from refine.data.manifest import pairs_in_manifest
from refine.data.masks import MaskGenerator
from refine.data.names import ByName, on_disk
from refine.data.pairs import ImageMaskPair, Listing, say_unused
from refine.io.formats import READ
from refine.io.transparency import ALPHA


def find_pairs(
    input: str, mask: str | None, masks: str | MaskGenerator | None, output: str, truth: str | None = None
) -> Listing:
    """List the images of an input, each with its mask.

    Args:
        input: Path of an image, of a folder (searched through all its folders), of a CSV manifest with the columns
            ``image``, ``mask`` and possibly ``name``, or of tar files with ``x.png`` and ``x.mask.png``: a folder of
            them, one, or ``shards-{000..009}.tar``.
        mask: Path of the mask of the one image, or of one for every image of a folder; ``alpha`` for the transparency
            of each image itself (a file of that name is ``./alpha``).
        masks: Folder of masks with the images' stems, or a generator that draws one for each image; without it masks
            lie beside the images as ``x_mask.png``, ``x_mask001.png`` ...
        output: Folder of the results; what lies in it is no input.
        truth: ``input`` if the images themselves are what the holes hold, or a folder of such images under their
            names (a manifest has a column ``truth`` instead); None where nobody knows.

    Returns:
        The pairs, sorted by key, inputs of which no pair can be made, and files that are not used.

    Raises:
        ValueError: The input does not exist or holds nothing, or two pairs would write one result.
    """
    refuse_compressed(input)
    source, tars = Path(input).expanduser(), tar_files(input)
    if mask is not None and masks is not None:
        raise ValueError("mask= (one file) and masks= (a folder) exclude each other; give one of them.")
    for name, path in (("input", str(tars[0]) if tars else input), ("mask", mask)):
        if path is not None and path != ALPHA and not os.path.lexists(Path(path).expanduser()):
            raise ValueError(f"{name}={path}: no such file{' or folder' if name == 'input' else ''}.")
    if mask is not None and mask != ALPHA and Path(mask).expanduser().is_dir():
        raise ValueError(f"mask={mask} is a folder; masks={mask} takes the masks in it.")
    listing = _listing(source, tars, mask, masks, Path(output))
    if not listing.pairs and not listing.failures:
        said = f"; {said}" if (said := say_unused(listing.unused)) else ""
        raise ValueError(f"input={input}: no image found; looked for {' '.join(sorted(READ))}{said}.")
    _check_unique(listing.pairs)
    listing.pairs = sorted(_with_truths(listing.pairs, source, truth), key=lambda pair: pair.key)
    if truth not in (None, "input") and source.is_dir() and (folder := Path(str(truth)).expanduser()).is_dir():
        used = {file for pair in listing.pairs for file in pair.files if isinstance(file, Path)}
        others = [source, Path(output), *([Path(masks)] if isinstance(masks, str) else [])]
        add_lonely(folder, used, others, listing, LONELY_TRUTH)
    return listing


def _listing(
    source: Path, tars: Sequence[Path], mask: str | None, masks: str | MaskGenerator | None, output: Path
) -> Listing:
    """The pairs of whatever kind of input it is."""
    generator: MaskGenerator | str | None = masks if isinstance(masks, MaskGenerator) else None
    folder = masks if isinstance(masks, str) else None
    if mask == ALPHA:
        mask, generator = None, ALPHA
    if tars:
        _refuse("tar files", mask=mask, masks=folder)
        return pairs_in_tars(source, tars, generator, output)
    if source.is_dir():
        if generator is not None:
            return pairs_without_mask_files(source, generator, output)
        return pairs_in_folder(source, mask, folder, output)
    if source.suffix.lower() == ".csv":
        _refuse("a CSV manifest", mask=mask, masks=folder)
        return pairs_in_manifest(source, generator)
    if generator is not None:
        return Listing([ImageMaskPair(source.stem, source, generator)])
    return Listing(_pairs_of_image(source, mask, folder))


def _pairs_of_image(image: Path, mask: str | None, masks: str | None) -> list[ImageMaskPair]:
    if mask is not None:
        return [ImageMaskPair(image.stem, image, Path(mask).expanduser())]
    folder = image.parent if masks is None else mask_folder(masks, image.parent)
    files = Masks(image_files(folder), beside=masks is None).of(image)
    if not files:
        raise ValueError(f"input={image} has no mask: give mask=<file>, or put {image.stem}_mask.png beside it.")
    return pairs_of(image, files, PurePosixPath())


def _with_truths(pairs: Sequence[ImageMaskPair], source: Path, truth: str | None) -> list[ImageMaskPair]:
    """The pairs with their truths; if such a file is missing, reading its pair will fail and say so."""
    if truth is None:
        return list(pairs)
    root = Path(truth).expanduser()
    if truth != "input" and not root.exists():
        raise ValueError(f"truth={truth}: no such folder; give a folder of images with the inputs' names, or 'input'.")
    folders: dict[Path, ByName[Path]] = {}

    def truth_of(image: Path) -> Path:
        inside = source.is_dir() and image.is_relative_to(source)
        expected = root / (image.relative_to(source) if inside else image.name)
        if expected.parent not in folders:
            files = image_files(on_disk(expected.parent))
            folders[expected.parent] = ByName((file.stem, file) for file in files)
        return next(iter(folders[expected.parent][expected.stem]), expected)

    def with_truth(pair: ImageMaskPair) -> ImageMaskPair:
        if pair.truth is not None:
            return pair
        if truth == "input":
            return replace(pair, truth=pair.image)
        return replace(pair, truth=root if root.is_file() else truth_of(Path(pair.image)))

    return [with_truth(pair) for pair in pairs]


def _refuse(what: str, **settings: str | None) -> None:
    for name, value in settings.items():
        if value is not None:
            raise ValueError(f"{name}= does not go with {what}; leave it out.")


def _check_unique(pairs: Sequence[ImageMaskPair]) -> None:
    shared = [key for key, count in Counter(pair.key for pair in pairs).items() if count > 1]
    if shared:
        sources = ", ".join(str(pair.image) for pair in pairs if pair.key == shared[0])
        more = f" (and {len(shared) - 1} more such names)" if len(shared) > 1 else ""
        raise ValueError(
            f"several inputs would write the result '{shared[0]}'{more}: {sources}. Rename them, or give names in a "
            "CSV manifest with the columns image,mask,name."
        )
