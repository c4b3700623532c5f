"""Images and masks inside tar files: ``x.png`` with ``x.mask.png``."""

from collections.abc import Sequence
from pathlib import Path

from refine.data.folders import image_files
from refine.data.masks import MaskGenerator
from refine.data.pairs import Failure, ImageMaskPair, Listing, checked_key
from refine.io.tar import expand, samples


def tar_files(input: str) -> list[Path]:
    """The tar files that an input means; none where it is something else.

    Args:
        input: Path of a tar file or of a folder of tar files, or a pattern ``shards-{000..009}.tar``.
    """
    source = Path(input).expanduser()
    if source.is_dir():
        return [] if image_files(source) else sorted(source.glob("*.tar"))
    return expand(input) if source.suffix.lower() == ".tar" else []


def pairs_in_tars(tars: Sequence[Path], generator: MaskGenerator | str | None) -> Listing:
    """List the pairs inside tar files; damage of one is a failure, and the others are listed.

    Args:
        tars: Paths of the tar files.
        generator: Generator of the masks, or ``"alpha"``; None to read those in the tars.

    Raises:
        ValueError: A name leads outside the output folder.
    """
    pairs: list[ImageMaskPair] = []
    failures: list[Failure] = []
    for tar in tars:
        listing, damage = samples(tar)
        failures += [Failure(str(tar), damage)] if damage else []
        for key, parts in listing.items():
            image, mask = parts.get(""), generator or parts.get("mask")
            if image is None or mask is None:
                failures.append(Failure(key, f"has no {'image' if image is None else 'mask'} in {tar}"))
            else:
                pairs.append(ImageMaskPair(checked_key(f"{key}.png", str(tar)), image, mask))
    return pairs, failures
