"""Images and masks inside tar files, in the layout of webdataset: ``x.png`` with ``x.mask.png``."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from refine.data.folders import image_files, is_image, walk
from refine.data.masks import MaskGenerator
from refine.data.names import ByName, same_text
from refine.data.pairs import HIDDEN, Failure, ImageMaskPair, Listing, Unused, checked_key, is_hidden, reason_of
from refine.io.tar import Member, contents, expand

PART = "part of a sample that is neither its image nor its mask"
DRAWN = "mask in a tar, while masks are drawn"
BESIDE = "image beside tar files"
COMPRESSED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


def tar_files(input: str) -> list[Path]:
    """The tar files that an input means; none where it is something else.

    Args:
        input: Path of a tar file or of a folder of tar files, or a pattern ``shards-{000..009}.tar``.
    """
    source = Path(input).expanduser()
    if source.is_dir():
        return [] if image_files(source) else sorted(file for file in source.iterdir() if _is_tar(file))
    return expand(input) if source.suffix.lower() == ".tar" else []


def refuse_compressed(input: str) -> None:
    """Refuse a compressed tar: its files have no place of their own in it, from which they could be read.

    Args:
        input: Path of any input, or a pattern of several.

    Raises:
        ValueError: It is a compressed tar.
    """
    if input.lower().endswith(COMPRESSED) and (files := [file for file in expand(input) if os.path.isfile(file)]):
        raise ValueError(f"input={files[0]}: a compressed tar; unpack it, or make it without compression.")


def pairs_in_tars(source: Path, tars: Sequence[Path], generator: MaskGenerator | str | None, output: Path) -> Listing:
    """List the pairs inside tar files; damage of one is a failure, and the others are listed.

    What stands before the last dot of a name is the key; before ``.mask`` and the last dot, that of a mask.

    Args:
        source: The input: a tar, or the folder of the tars; what else lies there is not used.
        tars: Paths of the tar files.
        generator: Generator of the masks, or ``"alpha"``; None to read those in the tars.
        output: Folder of the results; what lies in it is no input.

    Raises:
        ValueError: A name leads outside the output folder.
    """
    listing = Listing()
    for tar in tars:
        _add_tar(tar, generator, listing)
    if source.is_dir():
        beside = Listing()
        images = [file for _, files in walk(source, [output], beside) for file in files]
        read = {tar.name for tar in tars}
        listing.failures += beside.failures
        listing.unused += [entry for entry in beside.unused if entry.name not in read]
        listing.unused += [Unused(file.relative_to(source).as_posix(), BESIDE) for file in images]
    return listing


def _is_tar(file: Path) -> bool:
    return file.suffix.lower() == ".tar" and not is_hidden(file.name) and not file.is_dir()


def _add_tar(tar: Path, generator: MaskGenerator | str | None, listing: Listing) -> None:
    """Add the pairs of one tar, and name everything else in it."""
    found = contents(tar)
    listing.failures += [Failure(str(tar), found.damage)] if found.damage else []
    listing.unused += [Unused(f"{tar}/{path}", HIDDEN if _hidden(path) else reason) for path, reason in found.others]
    images: list[tuple[str, Member]] = []
    masks: list[tuple[str, Member]] = []
    for member in found.members:
        if _hidden(member.path):
            listing.unused.append(Unused(str(member), HIDDEN))
        elif not is_image(member.name):
            listing.unused.append(Unused(str(member), reason_of(member.name)))
        elif member.stem.lower().endswith(".mask"):
            masks.append((_key(member, ".mask"), member))
        else:
            images.append((_key(member), member))
    _add_pairs(tar, images, masks, generator, listing)


def _add_pairs(
    tar: Path,
    images: Sequence[tuple[str, Member]],
    masks: Sequence[tuple[str, Member]],
    generator: MaskGenerator | str | None,
    listing: Listing,
) -> None:
    partners, used = ByName(masks), set[Member]()
    samples = {same_text(key) for key, _ in images}
    for key, image in images:
        own = partners[key]
        used.update(own)
        if not own and _sample_of(key) & samples:
            listing.unused.append(Unused(str(image), PART))
        elif not own and generator is None:
            listing.failures.append(Failure(key, f"has no mask in {tar}"))
        else:
            name = checked_key(f"{key}.png", str(tar))
            listing.pairs += [ImageMaskPair(name, image, mask) for mask in ([generator] if generator else own)]
    if generator is not None:
        listing.unused += [Unused(str(mask), DRAWN) for _, mask in masks if mask in used]
    listing.failures += [Failure(key, f"has no image in {tar}") for key, mask in masks if mask not in used]


def _sample_of(key: str) -> set[str]:
    """Keys of the samples whose part an image may be: ``001.depth.png`` is one of ``001`` if that is an image, too."""
    path = PurePosixPath(same_text(key))
    pieces = path.name.split(".")
    return {str(path.with_name(".".join(pieces[:count]))) for count in range(1, len(pieces))}


def _key(member: Member, part: str = "") -> str:
    return str(member.path.with_name(member.stem[: len(member.stem) - len(part)]))


def _hidden(path: PurePosixPath) -> bool:
    """Whether it, or a folder that it lies in, is hidden."""
    return any(is_hidden(name) for name in path.parts if name != "..")
